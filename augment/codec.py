"""Tables to tensors and back: one column kind beside the other, fitted on the training rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment.columns import KINDS, AnyColumn, ColumnKind
from augment.schema import DatasetSchema, class_indices

if TYPE_CHECKING:
    import torch

    from models._contract import TensorSpec

Batches = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]  # the training rows, with at least these columns


class Encoded(NamedTuple):
    """Rows as a model's cache holds them: ``x`` (n, *shape) in the codec's cache type, ``y`` (n,) int64."""

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]


class Codec(BaseModel):
    """The way of a dataset's rows to the tensor of its ``spec`` and back; saved as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: DatasetSchema
    columns: tuple[AnyColumn, ...]  # one for each feature, in the table's order

    @classmethod
    def fit(cls, batches: Batches, schema: DatasetSchema, seed: int) -> Codec:
        """What the kinds learn from the training rows; ``batches(names)`` gives them anew each time it is called.

        Raises:
            InputError: a column cannot be learnt from.
        """
        columns: list[ColumnKind] = []
        for column in schema.features:
            arrays = (batch.column(column.name) for batch in batches([column.name]))
            columns.append(KINDS[column.kind].fit(column, arrays, numpy_generator(seed, "codec", column.name)))
        return cls(table=schema, columns=tuple(columns))

    @cached_property
    def spec(self) -> TensorSpec:
        """What the tensor means, for a model."""
        from models._contract import TensorSpec

        spans = tuple(span for column in self.columns for span in column.spans())
        return TensorSpec(shape=self.shape, spans=spans, num_classes=max(1, len(self.table.classes)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one encoded row: an image's own, or the columns' widths together."""
        if len(self.columns) == 1:
            return self.columns[0].shape
        return (sum(column.shape[0] for column in self.columns),)

    @property
    def cache_type(self) -> type[np.generic]:
        """The NumPy type in which encoded rows are cached."""
        return self.columns[0].cache_type

    @property
    def draws(self) -> bool:
        """Whether a row's encoding is partly drawn, as that of a number which many rows have."""
        return any(column.draws for column in self.columns)

    def encode(self, batch: pa.RecordBatch, generator: np.random.Generator) -> Encoded:
        """The rows of ``batch`` (in the table's types) as the cache holds them; random within plateaus of values."""
        parts = [column.encode(batch.column(column.name), generator) for column in self.columns]
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        labels = batch.column(self.table.label) if self.table.label is not None else None
        return Encoded(x, class_indices(labels, self.table, batch.num_rows))

    def tensor(self, x: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
        """Cached rows as the float32 tensor that the spec describes, on the device where they are."""
        import torch

        cached = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
        return self.columns[0].tensor(cached) if len(self.columns) == 1 else cached.float()

    def decode(self, x: torch.Tensor, y: torch.Tensor) -> pa.RecordBatch:
        """Rows in the table's columns and types: ``x`` (n, *shape) as the spec describes, ``y`` (n,) classes.

        Ignored columns are null, and so is the label where ``y`` is -1.
        """
        values = x.detach().cpu().float().numpy()
        arrays: dict[str, pa.Array] = {}
        stored = {column.name: column for column in self.table.columns}
        start = 0
        for column in self.columns:
            stop = start + column.shape[0]
            part = values if len(self.columns) == 1 else values[:, start:stop]
            arrays[column.name] = column.decode(part, stored[column.name])
            start = stop
        for ignored in self.table.ignored:
            arrays[ignored.name] = pa.nulls(len(values), ignored.arrow_type)
        if self.table.label is not None:
            classes = pa.array(self.table.classes, self.table.column(self.table.label).arrow_type)
            codes = y.cpu().numpy()
            arrays[self.table.label] = classes.take(pa.array(codes, mask=codes < 0))
        return pa.RecordBatch.from_arrays([arrays[c.name] for c in self.table.columns], schema=self.table.arrow_schema)

    def save(self, path: Path) -> None:
        """Write the codec as JSON."""
        path.write_text(self.model_dump_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> Codec:
        """Read what :meth:`save` wrote."""
        return cls.model_validate_json(path.read_text())
