"""Published rows for torch: decoded once into memory-mapped arrays, drawn by their sample weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from augment.errors import InputError
from augment.layout import PARTS, Part
from augment.schema import ColumnSchema, DatasetSchema
from augment.staging import remove
from augment.store import fsync_tree, locked

if TYPE_CHECKING:
    from augment.reader import Selection

BATCH_ROWS = 4096
Array = npt.NDArray[Any]


class WeightedSampler(Sampler[int]):
    """Positions drawn with replacement in proportion to ``weights``, of shape (rows,); as many as there are rows.

    It has no limit on the number of rows, where ``torch.utils.data.WeightedRandomSampler`` ends at 2^24.
    """

    def __init__(self, weights: torch.Tensor, generator: torch.Generator | None = None) -> None:
        self._cumulative = weights.double().cumsum(0)
        self._generator = generator

    def __len__(self) -> int:
        return len(self._cumulative)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.rand(len(self), generator=self._generator, dtype=torch.float64) * self._cumulative[-1]
        rows = torch.searchsorted(self._cumulative, drawn, right=True)
        return iter(rows.clamp_(max=len(self) - 1).tolist())


class TorchRows(Dataset[tuple[Any, torch.Tensor]]):
    """Rows as ``(x, y)``; ``y`` is the position in ``classes``, -1 where a row has no label.

    Where the features are an image, ``x`` is float32 in [0, 1] of shape (channels, height, width); ``transform`` is
    given the uint8 tensor instead, and what it returns is ``x``. Otherwise ``x`` is float32 of shape (columns,) with
    the columns of ``columns`` in order: numbers as they are (missing: NaN), booleans as 0 and 1 (missing: NaN),
    categories as their position in ``categories[column]`` (missing: -1).

    Plain iteration visits every row once. Train from :meth:`loader`, which draws rows by ``weights``, the sample
    weights: then looking generated tells nothing about the label.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        schema: DatasetSchema,
        chosen: Selection,
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        self.classes = schema.classes
        self.transform = transform
        self.y = torch.from_numpy(chosen.y.copy())
        self.weights = torch.from_numpy(chosen.weights.copy())
        self.is_synthetic = torch.from_numpy(chosen.is_synthetic)
        encoder = _encoder(folder, schema)
        self.columns, self.categories, self._scale = encoder.names, encoder.categories, encoder.scale
        self._parts = [_Part(_cached(folder, cache, part, encoder), rows) for part, rows in chosen.parts]
        self._first = np.cumsum([0, *(len(part.rows) for part in self._parts)])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, torch.Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)  # by which iteration ends
        index %= len(self)
        part = int(np.searchsorted(self._first, index, side="right")) - 1
        x = torch.from_numpy(self._parts[part].take(index - self._first[part]))
        return self._finished(x), self.y[index]

    def _finished(self, x: torch.Tensor) -> Any:
        if self.transform is not None:
            return self.transform(x)
        return x if self._scale is None else x.float() / self._scale

    def sampler(self, generator: torch.Generator | None = None) -> WeightedSampler:
        """A sampler that draws rows in proportion to their sample weights, with replacement."""
        return WeightedSampler(self.weights, generator)

    def loader(self, batch_size: int = 64, seed: int = 0, **options: Any) -> DataLoader[tuple[Any, torch.Tensor]]:
        """Batches of ``(x, y)`` drawn by sample weight, the same for the same ``seed``; ``options`` are torch's."""
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(self, batch_size=batch_size, sampler=self.sampler(generator), **options)

    def arrays(self) -> tuple[Array, Array, Array]:
        """All of ``x`` as it is stored (uint8 for images), ``y`` and the weights, for scikit-learn and the like."""
        x = np.concatenate([part.take(slice(None)) for part in self._parts])
        return x, self.y.numpy().copy(), self.weights.numpy().copy()


class _Part:
    """Chosen rows of one memory-mapped array; only its path goes to other processes."""

    def __init__(self, file: Path, rows: npt.NDArray[np.int64]) -> None:
        self.file, self.rows = file, rows

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "rows": self.rows}

    @cached_property
    def _mapped(self) -> Array:
        mapped: Array = np.load(self.file, mmap_mode="r")
        return mapped

    def take(self, index: Any) -> Array:
        """A copy, which may be written to as torch wants it."""
        return np.array(self._mapped[self.rows[index]])


class _Pixels:
    """How an image column becomes uint8 of shape (rows, channels, height, width)."""

    scale: float | None = 255.0
    dtype = np.uint8

    def __init__(self, folder: Path, column: ColumnSchema) -> None:
        self.names, self.categories = (column.name,), dict[str, list[Any]]()
        self._column = column.name
        first = next(file for part in PARTS for file in part.files(folder) if pq.read_metadata(file).num_rows)
        with pq.ParquetFile(first) as file:
            row = next(file.iter_batches(batch_size=1, columns=[column.name]))
        self.shape = self.encode(row).shape[1:]

    def encode(self, batch: pa.RecordBatch) -> Array:
        """The pixels of a batch."""
        from augment.images import decode_image

        names = f"in column '{self._column}'"
        images = [decode_image(data, names) for data in batch.column(self._column).field("bytes").to_pylist()]
        stacked = np.stack(images)
        return stacked[:, None] if stacked.ndim == 3 else np.moveaxis(stacked, -1, 1)


class _Matrix:
    """How the columns of a table become float32 of shape (rows, columns)."""

    scale: float | None = None
    dtype = np.float32

    def __init__(self, folder: Path, columns: Sequence[ColumnSchema]) -> None:
        self.names = tuple(c.name for c in columns)
        self.shape = (len(columns),)
        files = [file for part in PARTS for file in part.files(folder)]
        self.categories = {c.name: _distinct(files, c.name) for c in columns if c.kind == "categorical"}

    def encode(self, batch: pa.RecordBatch) -> Array:
        """The matrix of a batch."""
        x = np.empty((batch.num_rows, len(self.names)), dtype=np.float32)
        for position, name in enumerate(self.names):
            values = batch.column(name)
            if name in self.categories:
                known = pa.array(self.categories[name], type=values.type)
                values = pc.fill_null(pc.index_in(values, value_set=known, skip_nulls=True), -1)
            x[:, position] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return x


def _encoder(folder: Path, schema: DatasetSchema) -> _Pixels | _Matrix:
    features = schema.features
    pictures = [c for c in features if c.kind == "image"]
    if not pictures:
        return _Matrix(folder, features)
    if len(features) > 1:
        raise InputError(f"{folder} has other columns beside the image '{pictures[0].name}'; read it with pandas.")
    return _Pixels(folder, pictures[0])


def _distinct(files: Sequence[Path], column: str) -> list[Any]:
    """The values of a column in all files, sorted, without null."""
    found = [pc.unique(pq.read_table(file, columns=[column]).column(0)) for file in files]
    return sorted(value for value in set().union(*(array.to_pylist() for array in found)) if value is not None)


def _cached(folder: Path, cache: Path, part: Part, encoder: _Pixels | _Matrix) -> Path:
    """The array of a part in the cache, made if it is not there.

    Raises:
        InputError: the cache cannot be written.
    """
    target = cache / part.name
    if not target.is_dir():
        try:
            with locked(cache / f".lock-{part.name}"):
                if not target.is_dir():  # another process may have made it meanwhile
                    _fill(folder, cache / f".work-{part.name}", target, part, encoder)
        except OSError as error:
            raise InputError(
                f"the cache {cache} cannot be written ({error.strerror}); give another cache_dir."
            ) from None
    return target / "x.npy"


def _fill(folder: Path, work: Path, target: Path, part: Part, encoder: _Pixels | _Matrix) -> None:
    """Decode a part beside its place in the cache, then rename it."""
    remove(work)  # left by a process that was killed
    work.mkdir()
    files = part.files(folder)
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    shape = (rows, *encoder.shape)
    x = np.lib.format.open_memmap(work / "x.npy", mode="w+", dtype=encoder.dtype, shape=shape)
    first = 0
    for file in files:
        with pq.ParquetFile(file) as source:
            for batch in source.iter_batches(batch_size=BATCH_ROWS, columns=list(encoder.names)):
                x[first : first + batch.num_rows] = encoder.encode(batch)
                first += batch.num_rows
    x.flush()
    (work / "columns.json").write_text(json.dumps({"columns": encoder.names, "categories": encoder.categories}))
    fsync_tree(work)
    work.rename(target)
