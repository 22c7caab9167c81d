"""The Parquet files of a version, streamed from stage artifacts; the same artifacts always give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from augment._layout import ID_PREFIX, ORIGIN, PARTS, Part, published_schema
from augment._manifest import Counts
from augment._weights import Weights, class_weights, row_weights
from augment.errors import StoreError
from augment.progress import Progress
from augment.schema import DatasetSchema, class_indices, class_name

GROUP_ROWS = (1_000, 50_000)  # the least and the most rows of a row group; many small ones are slow to write
GROUP_BYTES = 16 * 2**20  # of Arrow memory in a row group, between those
FILE_BYTES = 2**30  # of Arrow memory; what is beyond begins the next file
COMPRESSION = ("zstd", 1)
# A dictionary pays where values repeat. Ids, hashes and images do not, and looking for repeats costs more than writing.
UNIQUE = {
    "sample_id": "DELTA_LENGTH_BYTE_ARRAY",
    "source_row_id": "DELTA_BINARY_PACKED",
    "gen_index": "DELTA_BINARY_PACKED",
    "content_hash": "DELTA_LENGTH_BYTE_ARRAY",
}
STATISTICS = ["is_synthetic", "split", "source_row_id", "gen_index"]  # by which readers skip row groups


@dataclass(frozen=True)
class Shard:
    """One generated shard and what its judge said: two Parquet files with the same rows in the same order."""

    file: Path
    judgement: Path

    def accepted(self) -> pa.BooleanArray:
        """Which rows are published."""
        return pc.fill_null(pq.read_table(self.judgement, columns=["accepted"])["accepted"], False).combine_chunks()


@dataclass(frozen=True)
class Assembly:
    """What the parts of a version are made from."""

    real: Path  # the folder of the `ingest` artifact
    shards: tuple[Shard, ...]
    schema: DatasetSchema
    equal_class_mass: bool
    counts: Counts


def open_shards(shards: Sequence[Path], judged: Sequence[Path]) -> tuple[Shard, ...]:
    """The shards in the order in which they were drawn, from the folders of `generate` and `judge` artifacts."""
    found = []
    for shard, judgement in zip(shards, judged, strict=True):
        drawn = json.loads((shard / "shard.json").read_text())
        found.append((drawn["round"], drawn["shard"], Shard(shard / "shard.parquet", judgement / "features.parquet")))
    return tuple(shard for _, _, shard in sorted(found, key=lambda item: item[:2]))


def count_rows(real: Path, shards: Sequence[Shard], schema: DatasetSchema) -> Counts:
    """The rows of each split, class and origin; rows without a label under the class name ``""``."""
    names = _class_names(schema)

    def of_part(part: Part) -> npt.NDArray[np.int64]:
        sizes = np.zeros(len(names), dtype=np.int64)
        for indices in _shard_classes(shards, schema) if part.is_synthetic else _file_classes(real, part, schema):
            sizes += np.bincount(indices % len(sizes), minlength=len(sizes))  # -1, no label, is the last
        return sizes

    with ThreadPoolExecutor(2) as pool:
        counted = list(pool.map(of_part, PARTS))
    counts: Counts = {part.split: {name: {"real": 0, "synthetic": 0} for name in names} for part in PARTS}
    for part, sizes in zip(PARTS, counted, strict=True):
        for name, size in zip(names, sizes, strict=True):
            counts[part.split][name][ORIGIN[part.is_synthetic]] = int(size)
    for of_split in counts.values():
        if schema.label is not None and not any(of_split[""].values()):
            del of_split[""]
    return counts


def _class_names(schema: DatasetSchema) -> list[str]:
    """The classes by index, and last the name of rows without one."""
    return [""] if schema.label is None else [*map(class_name, schema.classes), ""]


def _file_classes(real: Path, part: Part, schema: DatasetSchema) -> Iterator[npt.NDArray[np.int64]]:
    columns = [schema.label] if schema.label is not None else []
    with pq.ParquetFile(real / f"{part.split}.parquet") as file:
        for batch in file.iter_batches(batch_size=2**20, columns=columns):
            yield class_indices(batch.column(0) if columns else None, schema, batch.num_rows)


def _shard_classes(shards: Iterable[Shard], schema: DatasetSchema) -> Iterator[npt.NDArray[np.int64]]:
    columns = [schema.label] if schema.label is not None else []
    for shard in shards:
        accepted = shard.accepted().to_numpy(zero_copy_only=False)
        if len(accepted) != pq.read_metadata(shard.file).num_rows:
            raise _judged_others(shard)
        labels = pq.read_table(shard.file, columns=columns).column(0) if columns else None
        yield class_indices(labels, schema, len(accepted))[accepted]


def write_parts(assembly: Assembly, folder: Path, progress: Progress) -> None:
    """Write ``data/`` and ``eval/`` of a version into ``folder``; a part without rows is one file without rows."""
    schema = assembly.schema
    rows = [assembly.counts["train"].get(name, {"real": 0, "synthetic": 0}) for name in _class_names(schema)]
    if schema.label is not None:
        del rows[-1]  # rows without a label belong to no class
    weights = class_weights([r["real"] for r in rows], [r["synthetic"] for r in rows], assembly.equal_class_mass)
    total = sum(sum(c.values()) for of_split in assembly.counts.values() for c in of_split.values())
    told = _Told(progress, total)

    def write(part: Part) -> None:
        files = [s.file for s in assembly.shards] if part.is_synthetic else [assembly.real / f"{part.split}.parquet"]
        rows = _group_rows(files)
        source = _synthetic_rows(assembly.shards, rows) if part.is_synthetic else _real_rows(files[0], rows)
        wanted = weights[int(part.is_synthetic)] if part.split == "train" else None
        target = published_schema(schema, part, assembly.equal_class_mass)
        batches = (_published(batch, part, schema, wanted, target) for batch in source)
        _PartWriter(folder, part, target, rows, told).write(batches)

    # Parts are files of their own and Arrow leaves Python's lock, so that two cores do twice as much.
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, part) for part in PARTS]:
            done.result()


class _Told:
    """Adds up the rows that several threads have written and tells the listener, one call at a time."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock = Lock()

    def add(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            self._progress("publish", self._done, self._total, "row")


def _real_rows(file: Path, rows: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file, memory_map=True) as source:
        yield from source.iter_batches(batch_size=rows)


def _synthetic_rows(shards: Iterable[Shard], rows: int) -> Iterator[pa.RecordBatch]:
    """The accepted rows of all shards.

    Raises:
        StoreError: a judgement is that of other rows.
    """
    columns = ["sample_id", "accepted"]
    for shard in shards:
        with pq.ParquetFile(shard.file, memory_map=True) as file, pq.ParquetFile(shard.judgement) as judged:
            pairs = zip_longest(file.iter_batches(rows), judged.iter_batches(rows, columns=columns))
            for drawn, judgement in pairs:
                same = drawn is not None and judgement is not None
                if not same or not drawn.column("sample_id").equals(judgement.column("sample_id")):
                    raise _judged_others(shard)
                accepted = pc.fill_null(judgement.column("accepted"), False)
                yield drawn if accepted.true_count == drawn.num_rows else drawn.filter(accepted)


def _judged_others(shard: Shard) -> StoreError:
    return StoreError(f"{shard.judgement} judges other rows than {shard.file} has; run again.")


def _published(
    batch: pa.RecordBatch, part: Part, schema: DatasetSchema, weights: Weights | None, target: pa.Schema
) -> pa.RecordBatch:
    """``batch`` with the columns of ``target``; ``weights`` by class index, null where every row weighs 1."""
    rows = batch.num_rows
    names = set(batch.schema.names)
    if weights is None:
        row_weight = np.ones(rows)
    else:
        label = batch.column(schema.label) if schema.label is not None else None
        row_weight = row_weights(class_indices(label, schema, rows), weights)
    added = {
        "is_synthetic": pa.repeat(pa.scalar(part.is_synthetic), rows),
        "split": pa.repeat(pa.scalar(part.split), rows),
        "sample_weight": pa.array(row_weight),
    }
    if not part.is_synthetic:
        number = pc.cast(batch.column("source_row_id"), pa.string())
        added["sample_id"] = pc.binary_join_element_wise(ID_PREFIX[False], number, "")
    columns = []
    for field in target:
        if field.name in added:
            columns.append(added[field.name])
        elif field.name in names:
            values = batch.column(field.name)
            columns.append(values if values.type.equals(field.type) else values.cast(field.type))
        else:
            columns.append(pa.nulls(rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=target)


class _PartWriter:
    """Writes one part as files of bounded size, in row groups whose rows do not depend on how they came in."""

    def __init__(self, folder: Path, part: Part, schema: pa.Schema, group_rows: int, told: _Told) -> None:
        self._folder, self._part, self._schema, self._group_rows, self._told = folder, part, schema, group_rows, told

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write all rows; at least one file is made."""
        groups = self._groups(batches)
        group = next(groups, None)
        number = 0
        while group is not None or number == 0:
            path = self._folder / self._part.file(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._open(path) as writer:
                size = 0
                while group is not None and size < FILE_BYTES:
                    writer.write_table(group, row_group_size=group.num_rows)
                    size += group.nbytes
                    self._told.add(group.num_rows)
                    group = next(groups, None)
            number += 1

    def _open(self, path: Path) -> pq.ParquetWriter:
        """A writer whose every setting that decides the bytes is given here."""
        repeating = [f.name for f in self._schema if f.name not in UNIQUE and not pa.types.is_nested(f.type)]
        return pq.ParquetWriter(
            path,
            self._schema,
            version="2.6",
            data_page_version="1.0",
            compression=COMPRESSION[0],
            compression_level=COMPRESSION[1],
            use_dictionary=repeating,
            write_statistics=STATISTICS,
            column_encoding=UNIQUE,
        )

    def _groups(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        """Tables of exactly so many rows as a row group has; the last may have fewer."""
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            if batch.num_rows == 0:
                continue
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= self._group_rows:
                table = pa.Table.from_batches(waiting)
                whole = rows - rows % self._group_rows
                for first in range(0, whole, self._group_rows):
                    yield table.slice(first, self._group_rows).combine_chunks()
                rest = table.slice(whole)
                waiting, rows = rest.to_batches(), rest.num_rows
        if rows:
            yield pa.Table.from_batches(waiting).combine_chunks()


def _group_rows(files: Sequence[Path]) -> int:
    """Rows of a row group that hold about :data:`GROUP_BYTES`, judged by the first rows of the first file."""
    least, most = GROUP_ROWS
    for path in files[:1]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=least):
                wanted = GROUP_BYTES * batch.num_rows // max(batch.nbytes, 1)
                return int(min(max(wanted - wanted % least, least), most))
    return least
