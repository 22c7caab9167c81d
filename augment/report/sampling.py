"""A bounded, seeded choice of rows from Parquet files of any size, the same number from every class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment._seeding import numpy_generator
from augment.schema import DatasetSchema, class_name

GROUPS = 24  # row groups of a large file that rows are drawn from, unless a class has too few there
BATCH_ROWS = 512  # what is decoded at once, so that large images do not fill the memory


@dataclass(frozen=True)
class Sample:
    """Chosen rows in random order, and the class name of each (empty where a row has no label)."""

    table: pa.Table
    classes: NDArray[np.str_]

    def column(self, name: str, type_: pa.DataType) -> pa.ChunkedArray:
        """A column as ``type_``; null where refused data lack the column or hold something else in it."""
        if name in self.table.column_names:
            try:
                return self.table.column(name).cast(type_, safe=False)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                pass
        return pa.chunked_array([pa.nulls(self.table.num_rows, type_)])


@dataclass(frozen=True)
class Samples:
    """The three sides that a report compares; ``held_out`` are real rows that no generator saw."""

    real: Sample
    synthetic: Sample
    held_out: Sample
    class_names: tuple[str, ...]


def value_names(array: pa.Array) -> NDArray[np.str_]:
    """The text form of every value of a label, empty for null."""
    names, codes = _coded(array)
    text: NDArray[np.str_] = np.array(names, dtype=np.str_)[codes]
    return text


def sample_rows(
    paths: Sequence[Path], columns: Sequence[str], by: str | None, per_value: int, *seed: str | int
) -> tuple[Sample, dict[str, int]]:
    """At most ``per_value`` rows for each value of the column ``by``, and how many rows each value has in all.

    Two passes, one row group at a time: the first reads only ``by`` and keeps the rows with the smallest random
    keys, the second reads ``columns`` of the kept rows. Of large files, rows of some row groups, drawn at random, are
    preferred; the others are read only for values that these have too few rows of.
    """
    rng = numpy_generator("report", *seed)
    preferred = _preferred_groups(paths, rng)
    names: dict[str, int] = {}
    counts = np.zeros(0, np.int64)
    rows, keys, codes = np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
    first = 0
    for group, (values, positions) in enumerate(_values_of(paths, by)):
        new_codes = np.array([names.setdefault(value, len(names)) for value in values])[positions]
        new_keys = rng.random(len(positions)) + (group not in preferred)
        counts = np.bincount(new_codes, minlength=len(names)) + np.pad(counts, (0, len(names) - len(counts)))
        near = new_keys < _largest_kept(codes, keys, per_value, len(names))[new_codes]
        rows = np.concatenate([rows, first + np.flatnonzero(near)])
        keys, codes = np.concatenate([keys, new_keys[near]]), np.concatenate([codes, new_codes[near]])
        kept = _smallest_of_each(codes, keys, per_value)
        rows, keys, codes = rows[kept], keys[kept], codes[kept]
        first += len(positions)
    table = take_rows(paths, [c for c in columns if paths and c in pq.read_schema(paths[0]).names], rows)
    order = np.argsort(keys, kind="stable")
    chosen = np.array([*names, ""], dtype=np.str_)[codes[order]]
    return Sample(table.take(pa.array(order)), chosen), {
        name: int(counts[code]) for name, code in names.items() if counts[code]
    }


def sample_sides(folder: Path, schema: DatasetSchema, columns: Sequence[str], rows: int, seed: int) -> Samples:
    """About ``rows`` rows of each side of a staged version folder, shared equally between its classes."""
    names = tuple(class_name(value) for value in schema.classes)
    per_class = -(-rows // max(1, len(names)))
    sides = {
        side: sample_rows(sorted(folder.glob(pattern)), columns, schema.label, per_class, seed, side)[0]
        for side, pattern in (
            ("real", "data/real/train-*.parquet"),
            ("synthetic", "data/synthetic/train-*.parquet"),
            ("held_out", "eval/*.parquet"),
        )
    }
    return Samples(**sides, class_names=names or ("",))


def _coded(array: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
    """The text forms of the values, the last of them that of null, and the position of each row's among them."""
    coded = array.dictionary_encode()
    names = ["" if v is None else class_name(v) for v in coded.dictionary.to_pylist()] + [""]
    codes = coded.indices.cast(pa.int64()).fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    return names, codes


def _preferred_groups(paths: Sequence[Path], rng: np.random.Generator) -> set[int]:
    """Some of the row groups of all files, counted over all files; all of them where there are few."""
    total = sum(pq.read_metadata(path).num_row_groups for path in paths)
    return set(rng.permutation(total)[:GROUPS].tolist())


def _values_of(paths: Sequence[Path], by: str | None) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """The column ``by`` of each row group (empty text without such a column), as :func:`_coded` gives it."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            known = by is not None and by in file.schema_arrow.names
            for group in range(file.num_row_groups):
                if known:
                    yield _coded(file.read_row_group(group, columns=[by]).columns[-1].combine_chunks())
                else:
                    yield [""], np.zeros(file.metadata.row_group(group).num_rows, np.int64)


def _largest_kept(codes: NDArray[np.int64], keys: NDArray[np.float64], limit: int, values: int) -> NDArray[np.float64]:
    """The key below which a further row of each value would be kept."""
    largest = np.zeros(values)
    np.maximum.at(largest, codes, keys)
    largest[np.bincount(codes, minlength=values) < limit] = np.inf
    return largest


def _smallest_of_each(codes: NDArray[np.int64], keys: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """The ascending positions of the ``limit`` smallest keys of each value."""
    order = np.lexsort((keys, codes))
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0]) if len(order) else order
    lengths = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, lengths)
    return np.sort(order[rank < limit])


def take_rows(paths: Sequence[Path], columns: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
    """The rows with these ascending positions, counted over all files; row groups without any are not read."""
    taken: list[pa.Table] = []
    first = 0
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]
                if len(wanted):
                    taken += _take_from_group(file, group, columns, wanted - first)
                first = end
    if taken:
        return pa.concat_tables(taken, promote_options="permissive")
    schema = pa.schema([pq.read_schema(paths[0]).field(c) for c in columns]) if paths else pa.schema([])
    return schema.empty_table()


def places_of(paths: Sequence[Path], column: str, wanted: Sequence[str]) -> dict[str, int]:
    """Where the rows are, counted over all files, whose texts in ``column`` are wanted; only that column is read."""
    found: dict[str, int] = {}
    first = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS * 16, columns=[column]):
                places = pc.index_in(batch.column(0), value_set=pa.array(wanted, batch.column(0).type))
                here = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
                found |= {batch.column(0)[int(row)].as_py(): first + int(row) for row in here}
                first += batch.num_rows
    return found


def _take_from_group(
    file: pq.ParquetFile, group: int, columns: Sequence[str], rows: NDArray[np.int64]
) -> list[pa.Table]:
    """The rows of one row group with these ascending positions, read in small batches."""
    taken = []
    first = 0
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns)):
        end = first + batch.num_rows
        wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] - first
        if len(wanted):
            taken.append(pa.Table.from_batches([batch]).take(pa.array(wanted)))
        first = end
    return taken


def finite(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Values as float64 with NaN for null and for what is not finite."""
    values: NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float64, copy=True)
    values[~np.isfinite(values)] = np.nan
    return values
