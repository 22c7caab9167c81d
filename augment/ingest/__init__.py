"""The stage `ingest`: any source in, typed and split Parquet tables out; memory does not grow with the rows.

The source is read twice. The first pass infers the schema. The second brings the rows into its types, hashes them and
spools them; only hashes, classes and parts (some tens of bytes a row) are held, and from these the split is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

import augment.columns
import augment.sources
from augment._hashing import as_hex, hash_pairs, row_words, rows_sha256, value_pairs
from augment._plugins import modules_of
from augment.config import SplitSection
from augment.errors import InputError, did_you_mean
from augment.ingest._inference import Inferred, conform, infer_schema
from augment.progress import Progress, silent
from augment.schema import DatasetSchema, class_indices, class_name
from augment.sources._contract import Source
from augment.split import DROPPED, PARTS, RESERVE, TEST, RowFacts, split_rows
from augment.store import ArtifactRef, Store, code_version, hash_json

ROW_GROUP_ROWS = 10_000
ADDED = [pa.field("source_row_id", pa.int64()), pa.field("content_hash", pa.string())]
SPOOL = "spool.arrow"


class IngestRecord(BaseModel):
    """What was read and how it was split; ``ingest.json`` of a `real` artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: dict[str, Any]
    fingerprint: str
    split: dict[str, Any]
    seed: int
    counts: dict[str, dict[str, int]]  # {part: {class: rows}}; rows without a label under the empty name
    notes: list[str]
    train_rows_sha256: str
    test_rows_sha256: str
    rows_read: int

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> IngestRecord:
        """Read what :meth:`save` wrote."""
        return cls.model_validate_json(path.read_text())


def ingest_key(source: Source, split: SplitSection, seed: int, fingerprint: str) -> str:
    """The key of the `real` artifact that :func:`ingest` makes; the fingerprint holds the source's settings."""
    own = [f"augment.{name}" for name in ("ingest", "split", "_hashing", "_images", "_png", "schema")]
    reading = [name for name in modules_of(augment.sources) if "._" in name]
    version = code_version(*own, *modules_of(augment.columns), *reading, type(source).__module__)
    return hash_json([fingerprint, split.model_dump(mode="json"), seed, version])[:32]


def ingest(source: Source, split: SplitSection, seed: int, store: Store, progress: Progress = silent) -> ArtifactRef:
    """The `real` artifact: train, validation and test as Parquet, ``schema.json`` and ``ingest.json``.

    Raises:
        InputError: the source, its label or its columns cannot be used, or the split leaves a class out.
    """
    fingerprint = source.fingerprint()

    def fill(folder: Path) -> None:
        _Ingest(source, split, seed, fingerprint, progress).fill(folder)

    # What the record says of the source's place does not make the data others.
    identity = [*(f"{name}.parquet" for name in _files(split)), "schema.json"]
    return store.write("ingest", ingest_key(source, split, seed, fingerprint), fill, identity=identity)


def _files(split: SplitSection) -> tuple[str, ...]:
    """The parts, and where classes are cut what was cut off, in the order of their codes."""
    assert len(PARTS) == RESERVE
    return (*PARTS, "reserve") if split.train_per_class else PARTS


class _Ingest:
    """One ingest: what its steps share."""

    def __init__(self, source: Source, split: SplitSection, seed: int, fingerprint: str, progress: Progress) -> None:
        self.source = source
        self.split = split
        self.seed = seed
        self.fingerprint = fingerprint
        self.progress = progress
        self.where = source.described()
        self.rows = 0  # known after the first pass

    def fill(self, folder: Path) -> None:
        """Write everything into the artifact's folder."""
        schema, notes = self._infer()
        facts = self._spool(folder / SPOOL, schema)
        if self.source.fingerprint() != self.fingerprint:
            raise InputError(f"{self.where} was changed while it was read; run again when nothing writes to it.")
        parts, said = split_rows(facts, self.split, schema, self.seed, self.where)
        self._write_parts(folder, schema, facts, parts)
        (folder / SPOOL).unlink()
        schema.save(folder / "schema.json")
        self._record(schema, facts, parts, [*self.source.notes(), *notes, *said]).save(folder / "ingest.json")

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """All rows, and whether they are of the test part."""
        test = self.source.test_source()
        own = ((batch, False) for batch in self.source.read())
        return chain(own, ((batch, True) for batch in test.read())) if test is not None else own

    def _counted(self) -> Iterator[pa.RecordBatch]:
        for batch, _ in self._batches():
            self.rows += batch.num_rows
            self.progress("ingest", self.rows, 0, "row")  # how many there are is known at the end of this pass
            yield batch

    def _infer(self) -> Inferred:
        aside = {}
        if self.split.group is not None:
            aside[self.split.group] = "it groups the rows of the split"
        if self.split.column is not None:
            aside[self.split.column] = "it says the part of the split"
        inferred = infer_schema(
            self._counted(),
            label=self.source.label_column,
            declared=self.source.columns,
            where=self.where,
            set_aside=aside,
            parse_text=self.source.untyped,
        )
        names = [column.name for column in inferred.schema.columns]
        for setting, name in (("group", self.split.group), ("column", self.split.column)):
            if name is not None and name not in names:
                hint = did_you_mean(name, names)
                raise InputError(f"split.{setting} names '{name}', which is no column of {self.where}{hint}")
        return inferred

    def _spool(self, path: Path, schema: DatasetSchema) -> RowFacts:
        """Write the typed rows to ``path`` and note what the split needs to know of each."""
        noted = _Noted(schema, self.split, self.where)
        rows = 0
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema.arrow_schema) as writer:
            for raw, is_test in self._batches():
                batch = conform(raw, schema, self.where)
                noted.add(batch, is_test)
                writer.write_batch(batch)
                rows += batch.num_rows
                self.progress("ingest", self.rows + rows, 3 * self.rows, "row")
        return noted.facts()

    def _write_parts(self, folder: Path, schema: DatasetSchema, facts: RowFacts, parts: npt.NDArray[np.int8]) -> None:
        table_schema = pa.schema([*schema.arrow_schema, *ADDED])
        names = _files(self.split)
        writers = {name: _PartWriter(folder / f"{name}.parquet", table_schema, schema) for name in names}
        first = 0
        with pa.OSFile(str(folder / SPOOL), "rb") as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                rows = np.arange(first, first + batch.num_rows)
                for part, name in enumerate(names):
                    chosen = rows[parts[first : first + batch.num_rows] == part]
                    if len(chosen):
                        own = batch.take(pa.array(chosen - first))
                        arrays = [*own.columns, pa.array(chosen), as_hex(facts.hashes[chosen])]
                        writers[name].add(pa.RecordBatch.from_arrays(arrays, schema=table_schema))
                first += batch.num_rows
                self.progress("ingest", 2 * self.rows + first, 3 * self.rows, "row")
        for writer in writers.values():
            writer.close()

    def _record(
        self, schema: DatasetSchema, facts: RowFacts, parts: npt.NDArray[np.int8], notes: list[str]
    ) -> IngestRecord:
        names = [class_name(value) for value in schema.classes]
        counts: dict[str, dict[str, int]] = {}
        for part, name in enumerate(PARTS):
            y = facts.y[parts == part]
            counts[name] = {c: int((y == index).sum()) for index, c in enumerate(names)}
            if schema.label is None or (y < 0).any():
                counts[name][""] = len(y) if schema.label is None else int((y < 0).sum())

        def rows_hash(part: int) -> str:
            ids = np.flatnonzero(parts == part)
            return rows_sha256([(ids, facts.hashes[ids])])

        return IngestRecord(
            source=self.source.model_dump(mode="json"),
            fingerprint=self.fingerprint,
            split=self.split.model_dump(mode="json"),
            seed=self.seed,
            counts=counts,
            notes=notes,
            train_rows_sha256=rows_hash(PARTS.index("train")),
            test_rows_sha256=rows_hash(TEST),
            rows_read=len(parts),
        )


class _Noted:
    """What the split needs to know of the rows, collected batch by batch."""

    def __init__(self, schema: DatasetSchema, split: SplitSection, where: str) -> None:
        self._schema = schema
        self._split = split
        self._where = where
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._y: list[npt.NDArray[np.int32]] = []
        self._given: list[npt.NDArray[np.int8]] = []
        self._groups: list[npt.NDArray[np.uint64]] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch, is_test: bool) -> None:
        """Take note of the next rows, which may be of a test part of its own."""
        schema, split = self._schema, self._split
        self._hashes.append(hash_pairs(batch, schema))
        labels = batch.column(schema.label) if schema.label is not None else None
        y = class_indices(labels, schema, batch.num_rows)
        self._y.append(y.astype(np.int32))
        if split.column is not None and not is_test:
            self._given.append(self._given_parts(batch.column(split.column), split.column))
        else:
            self._given.append(np.full(batch.num_rows, TEST if is_test else DROPPED, np.int8))
        if split.group is not None:
            array = batch.column(split.group)
            # 64 bits of a hash for each row: a clash only keeps two groups on one side.
            words = value_pairs(array, schema.column(split.group))[:, 0]
            alone = array.is_null().to_numpy(zero_copy_only=False)
            # A row without a group is a group of its own.
            self._groups.append(np.where(alone, row_words(self._rows, len(array)), words))
        self._rows += batch.num_rows

    def facts(self) -> RowFacts:
        """The notes on all rows."""
        groups = None
        if self._groups:
            groups = np.unique(np.concatenate(self._groups), return_inverse=True)[1].astype(np.int32)
        return RowFacts(
            hashes=np.concatenate(self._hashes),
            y=np.concatenate(self._y),
            given=np.concatenate(self._given),
            groups=groups,
        )

    def _given_parts(self, array: pa.Array, name: str) -> npt.NDArray[np.int8]:
        encoded = array.dictionary_encode()
        if encoded.null_count:
            row = self._rows + encoded.to_pylist().index(None) + 1
            raise InputError(f"the column '{name}' of {self._where} names no part in row {row}; fill it in.")
        codes = []
        for value in encoded.dictionary.to_pylist():
            if value not in PARTS:
                hint = did_you_mean(str(value), PARTS)
                raise InputError(f"the column '{name}' of {self._where} holds '{value}', which is no part{hint}")
            codes.append(PARTS.index(value))
        given: npt.NDArray[np.int8] = np.array(codes, np.int8)[encoded.indices.to_numpy()]
        return given


class _PartWriter:
    """One Parquet file whose row groups are full, however small the batches that come."""

    def __init__(self, path: Path, table_schema: pa.Schema, schema: DatasetSchema) -> None:
        repeating = [c.name for c in schema.columns if c.type == "string"]  # hashes and images never repeat
        self._writer = pq.ParquetWriter(path, table_schema, compression="zstd", use_dictionary=repeating)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the next rows, or keep them until a row group is full."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        while self._rows >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table.slice(0, ROW_GROUP_ROWS), row_group_size=ROW_GROUP_ROWS)
            self._waiting = table.slice(ROW_GROUP_ROWS).to_batches()
            self._rows -= ROW_GROUP_ROWS

    def close(self) -> None:
        """Write what is left and finish the file."""
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._writer.close()
