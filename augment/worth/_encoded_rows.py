"""Rows of tables and of Parquet files as a model sees them, some at a time, so that few are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment._devices import cpu_threads
from augment._seeding import numpy_generator
from augment.codec import Codec
from augment.schema import class_indices
from augment.worth._chosen_rows import places_by_class

BATCH_ROWS = 10_000


def held_out_rows(file: Path, codec: Codec, seed: int) -> dict[int, Tensor]:
    """Some flat rows ``(N, size)`` of each class of the Parquet file of validation rows, in a random order."""
    return rows_at(file, codec, seed, held_out_places(file, codec, seed))


def held_out_places(file: Path, codec: Codec, seed: int) -> dict[int, Tensor]:
    """Where the rows of :func:`held_out_rows` are in the file ``(N,)``, by class; their labels alone are read."""
    labels = [torch.from_numpy(labels_of(codec, batch)) for batch in batches_of_file(file)]
    return places_by_class(torch.cat(labels or [torch.empty(0, dtype=torch.int64)]), seed, "held-out")


def rows_at(file: Path, codec: Codec, seed: int, places: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The flat rows ``(N, size)`` of the Parquet file ``file`` at ``places`` ``(N,)`` of each class."""
    found: dict[int, list[Tensor]] = {y: [] for y in places}
    start = 0
    for batch in batches_of_file(file):
        for y, chosen in places.items():
            here = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
            if len(here):
                some = batch.take(pa.array(here.numpy()))
                generator = numpy_generator(seed, "held-out", start, y)
                found[y] += [x.flatten(1) for x, _ in encoded_batches(codec, [some], generator)]
        start += batch.num_rows
    return {y: torch.cat(parts) for y, parts in found.items()}


def labels_of(codec: Codec, batch: pa.RecordBatch) -> NDArray[np.int64]:
    """The class ``y`` ``(N,)`` of each row, -1 without a label."""
    labels = batch.column(codec.table.label) if codec.table.label is not None else None
    return class_indices(labels, codec.table, batch.num_rows)


def batches_of_file(file: Path, most: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, ``most`` at a time."""
    with pq.ParquetFile(file) as source:
        yield from source.iter_batches(most)


def encoded_batches(
    codec: Codec, batches: Iterable[pa.RecordBatch], generator: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each of ``batches`` the rows ``(N, *shape)`` as a model sees them and their classes ``(N,)``."""
    with cpu_threads(1):
        for batch in batches:
            x, y = codec.encode(batch, generator)
            yield codec.tensor(x).float(), torch.from_numpy(y)
