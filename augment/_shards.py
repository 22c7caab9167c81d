"""The rows of a shard as they are kept: their columns, the marks of where they come from, and the file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from augment._hashing import content_hashes
from augment._layout import ID_PREFIX
from augment.schema import DatasetSchema

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 32 << 20

# What generation adds to the data's own columns.
ADDED_COLUMNS = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("generator_id", pa.string()),
        pa.field("gen_seed", pa.int64()),
        pa.field("gen_index", pa.int64()),
        pa.field("parent_ids", pa.list_(pa.string())),
        pa.field("content_hash", pa.string()),
    ]
)


class Origin(NamedTuple):
    """Where the rows of a shard come from: 12 hex digits of the model, the round, the first row's index in it, and the
    shard's seed.
    """

    generator_id: str
    round: int
    first_index: int
    seed: int


def shard_schema(schema: DatasetSchema) -> pa.Schema:
    """The columns of a shard: the data's own, then :data:`ADDED_COLUMNS`."""
    return pa.schema([*schema.arrow_schema, *ADDED_COLUMNS])


def with_origin(
    batch: pa.RecordBatch, schema: DatasetSchema, origin: Origin, first_row: int, parents: pa.Array | None = None
) -> pa.RecordBatch:
    """Decoded rows with the columns that say where each comes from; ``first_row`` is the first one's in the shard.

    ``parents`` are the ids of the real rows that each was drawn from, lists of text; null for rows without any.
    """
    rows = batch.num_rows
    first = origin.first_index + first_row
    indices = range(first, first + rows)
    prefix = f"{ID_PREFIX[True]}{origin.generator_id}-{origin.round}"
    added = [
        pa.array([f"{prefix}-{index}" for index in indices], pa.string()),
        pa.repeat(pa.scalar(origin.generator_id, pa.string()), rows),
        pa.repeat(pa.scalar(origin.seed, pa.int64()), rows),
        pa.array(indices, pa.int64()),
        pa.nulls(rows, pa.list_(pa.string())) if parents is None else parents,
        content_hashes(batch, schema),
    ]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=shard_schema(schema))


class ShardWriter:
    """A Parquet file written a row group at a time, so that memory holds at most one."""

    def __init__(self, path: Path, schema: DatasetSchema) -> None:
        self.rows = 0
        self._writer = pq.ParquetWriter(path, shard_schema(schema), compression="zstd")
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; they reach the file when a row group is full, or weighs much."""
        self.rows += batch.num_rows
        self._held.append(batch)
        rows = sum(held.num_rows for held in self._held)
        large = sum(held.nbytes for held in self._held) >= ROW_GROUP_BYTES
        if rows >= ROW_GROUP_ROWS or large:
            table = pa.Table.from_batches(self._held)
            full = rows if large else rows - rows % ROW_GROUP_ROWS
            self._writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP_ROWS)
            self._held = table.slice(full).to_batches()
