"""The real rows as checks read them: streamed whole, or a bounded sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment._seeding import numpy_generator
from augment.checks._hashes import as_hashes
from augment.schema import DatasetSchema, class_name

if TYPE_CHECKING:
    import pandas as pd

    from augment.worth.encoders import Encoders

Part = Literal["train", "validation", "test"]
# What synthetic rows are compared with and rejected against. Limits are learned from SEEN alone: test rows set none.
HELD_OUT: tuple[Part, ...] = ("validation", "test")
SEEN: tuple[Part, ...] = ("train", "validation")
SAMPLE_ROWS = 20_000  # enough for the 0.1 % quantile of a feature to rest on 20 rows
BATCH_ROWS = 10_000
FOLDS = 5


class RealRows:
    """The parts of the real data in the artifact at ``path``.

    ``measure`` turns a batch into the features that checks compare; ``seed`` picks the sample; ``encoders`` are there
    where a check needs them.
    """

    def __init__(
        self,
        path: Path,
        schema: DatasetSchema,
        seed: int,
        measure: Callable[[pa.RecordBatch], pd.DataFrame],
        encoders: Encoders | None = None,
    ) -> None:
        self.path = path
        self.encoders = encoders
        self.schema = schema
        self._seed = seed
        self.measure = measure

    def num_rows(self, *parts: Part) -> int:
        """Rows of the parts together."""
        return sum(int(pq.ParquetFile(self._file(part)).metadata.num_rows) for part in parts)

    def batches(self, *parts: Part, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows of the parts in order, at most 10,000 at a time."""
        for part in parts:
            with pq.ParquetFile(self._file(part)) as file:
                yield from file.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns))

    def hashes(self, *parts: Part) -> Iterator[NDArray[np.bytes_]]:
        """The content hashes of the parts, in chunks."""
        for batch in self.batches(*parts, columns=["content_hash"]):
            yield as_hashes(batch.column(0))

    def classes(self, *parts: Part) -> Iterator[NDArray[Any]]:
        """The class names of the rows of the parts, in chunks; see :func:`class_names`."""
        for batch in self.batches(*parts, columns=[self.schema.label or "content_hash"]):
            yield class_names(batch, self.schema)

    @cached_property
    def train_features(self) -> pd.DataFrame:
        """The features of at most 20,000 training rows, a seeded choice."""
        return self._features("train")

    @cached_property
    def train_folds(self) -> NDArray[np.int64]:
        """Which of five parts of about equal size each row of ``train_features`` is in, a seeded choice."""
        shuffled = numpy_generator(self._seed, "reference", "folds").permutation(len(self.train_features))
        folds: NDArray[np.int64] = shuffled % FOLDS
        return folds

    @cached_property
    def validation_features(self) -> pd.DataFrame:
        """The features of at most 20,000 validation rows, a seeded choice."""
        return self._features("validation")

    def few_of_each_class(self, limit: int, part: Part) -> Iterator[pa.RecordBatch]:
        """The rows of a seeded choice of at most ``limit`` of each class, in their order."""
        draw = numpy_generator(self._seed, "reference", "few", part)
        kept: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}
        start = 0
        for names in self.classes(part):
            keys, places = draw.random(len(names)), np.arange(start, start + len(names))
            for name in np.unique(names):
                here = names == name
                before = kept.get(name, (np.empty(0), np.empty(0, np.int64)))
                found = [np.concatenate(pair) for pair in zip(before, (keys[here], places[here]), strict=True)]
                smallest = np.argsort(found[0])[:limit]
                kept[name] = (found[0][smallest], found[1][smallest])
            start += len(names)
        chosen = np.sort(np.concatenate([places for _, places in kept.values()] or [np.empty(0, np.int64)]))
        start = 0
        for batch in self.batches(part, columns=self.schema.arrow_schema.names):
            here = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
            if len(here):
                yield batch.take(pa.array(here))
            start += batch.num_rows

    def _features(self, *parts: Part) -> pd.DataFrame:
        import pandas as pd

        rows = self.num_rows(*parts)
        chosen = np.arange(rows)
        if rows > SAMPLE_ROWS:
            draw = numpy_generator(self._seed, "reference", *parts)
            chosen = np.sort(draw.choice(rows, SAMPLE_ROWS, replace=False))
        columns = [column.name for column in self.schema.features]
        frames = []
        start = 0
        for batch in self.batches(*parts, columns=columns):
            here = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
            frames.append(self.measure(batch.take(pa.array(here))))
            start += batch.num_rows
        if not frames:
            none = pa.schema([pa.field(c.name, c.arrow_type) for c in self.schema.features])
            return self.measure(pa.RecordBatch.from_pylist([], schema=none))
        return pd.concat(frames, ignore_index=True)

    def _file(self, part: Part) -> Path:
        return self.path / f"{part}.parquet"


def class_names(rows: pa.RecordBatch | pa.Table, schema: DatasetSchema) -> NDArray[Any]:
    """The class name of each row, an object array; the empty text where a row has no label or the data have none."""
    if schema.label is None:
        return np.full(rows.num_rows, "", dtype=object)
    values = rows.column(schema.label)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    coded = values.dictionary_encode()
    names = np.array([class_name(value) for value in coded.dictionary.to_pylist()] + [""], dtype=object)
    places = coded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    found: NDArray[Any] = names[places]
    return found
