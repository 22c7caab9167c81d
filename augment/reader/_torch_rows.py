"""Published rows for torch: decoded once into memory-mapped arrays, drawn by their sample weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from augment._layout import PARTS, Part
from augment._staging import remove
from augment.columns import KINDS
from augment.errors import InputError
from augment.schema import DatasetSchema
from augment.store import fsync_tree, hash_file, locked

if TYPE_CHECKING:
    from augment.reader import Selection

BATCH_ROWS = 4096
ARRAY, RECORD = "x.npy", "written.json"  # the decoded rows of a part in the cache, and their hash
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
        verify: bool = True,
    ) -> None:
        self.classes = schema.classes
        self.transform = transform
        self.y = torch.from_numpy(chosen.y.copy())
        self.weights = torch.from_numpy(chosen.weights.copy())
        self.is_synthetic = torch.from_numpy(chosen.is_synthetic)
        encoder = _Encoder(folder, schema)
        self.columns, self.categories, self._scale = encoder.names, encoder.categories, encoder.scale
        self._parts = [_Part(_cached(folder, cache, part, encoder, verify), rows) for part, rows in chosen.parts]
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


class _Encoder:
    """How the feature columns of a version become one array: a column that fills it, or one number of each column."""

    def __init__(self, folder: Path, schema: DatasetSchema) -> None:
        features = schema.features
        alone = [c for c in features if KINDS[c.kind].fills_tensor]
        if alone and len(features) > 1:
            raise InputError(
                f"{folder} has other columns beside the {alone[0].kind} '{alone[0].name}'; read it with pandas."
            )
        readings = {c.name: KINDS[c.kind].reading(c, partial(_arrays, folder, c.name)) for c in features}
        self.names = tuple(readings)
        self.categories = {n: r.categories for n, r in readings.items() if r.categories is not None}
        self._readings = readings
        first = readings[self.names[0]]
        self._fills = bool(alone)
        self.shape = first.shape if alone else (len(readings),)
        self.dtype = first.dtype if alone else np.float32
        self.scale = first.scale if alone else None

    def encode(self, batch: pa.RecordBatch) -> Array:
        """The rows of a batch, of shape (rows, *shape)."""
        parts = [reading.encode(batch.column(name)) for name, reading in self._readings.items()]
        return parts[0] if self._fills else np.stack(parts, axis=1).astype(self.dtype)


def _arrays(folder: Path, column: str) -> Iterator[pa.Array]:
    """All published values of a column."""
    for path in (path for part in PARTS for path in part.files(folder)):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
                yield batch.column(0)


def _cached(folder: Path, cache: Path, part: Part, encoder: _Encoder, verify: bool) -> Path:
    """The array of a part in the cache, made if it is not there; made anew if ``verify`` finds it altered.

    Raises:
        InputError: the cache cannot be written.
    """
    target = cache / part.name
    if not _is_whole(target, verify):
        lock = cache / f".lock-{part.name}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            lock.touch()
            with locked(lock):
                if not _is_whole(target, verify):  # another process may have made it meanwhile
                    remove(target)
                    _fill(folder, cache / f".work-{part.name}", target, part, encoder)
        except OSError as error:
            raise InputError(
                f"the cache {cache} cannot be written ({error.strerror}); give another cache_dir."
            ) from None
    return target / ARRAY


def _is_whole(target: Path, verify: bool) -> bool:
    """Whether a part is in the cache, and with ``verify`` whether its array is what was written there."""
    try:
        written = json.loads((target / RECORD).read_text())
        return written == {"sha256": hash_file(target / ARRAY)} if verify else (target / ARRAY).is_file()
    except (OSError, ValueError):
        return False


def _fill(folder: Path, work: Path, target: Path, part: Part, encoder: _Encoder) -> None:
    """Decode a part beside its place in the cache, then rename it."""
    remove(work)  # left by a process that was killed
    work.mkdir()
    files = part.files(folder)
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    shape = (rows, *encoder.shape)
    x = np.lib.format.open_memmap(work / ARRAY, mode="w+", dtype=encoder.dtype, shape=shape)
    first = 0
    for file in files:
        with pq.ParquetFile(file) as source:
            for batch in source.iter_batches(batch_size=BATCH_ROWS, columns=list(encoder.names)):
                x[first : first + batch.num_rows] = encoder.encode(batch)
                first += batch.num_rows
    x.flush()
    (work / RECORD).write_text(json.dumps({"sha256": hash_file(work / ARRAY)}))
    fsync_tree(work)
    work.rename(target)
