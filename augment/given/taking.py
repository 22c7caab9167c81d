"""The stage that stands in the place of training where the synthetic rows are there already: they are taken in.

Its artifact holds the rows in the types of the real data, so that a file which is altered later changes nothing of a
run that goes on, with the hash of each file that they come from. What their generator was trained on is not known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from augment._lineage import package_versions
from augment.errors import InputError
from augment.given import FromFiles
from augment.given._fitting import first_misfit, fit_column
from augment.progress import Progress, silent
from augment.schema import RESERVED_COLUMNS, DatasetSchema, class_indices, class_name
from augment.sources._files import shown
from augment.store import ArtifactRef, Store, code_version, hash_json

STAGE = "given"
ROWS = "rows.arrow"
FILES = "files.json"
MODEL = "model.json"
PARENTS = "parent_ids"
NAMED = 100  # files that a record names one by one; the hash is of all of them
SHOWN = 5  # columns that a note names
CODE = (
    "augment.given",
    "augment.columns",
    "augment.schema",
    "augment._images",
    "augment._png",
    "augment.sources",
)


class Supply(NamedTuple):
    """The rows that files hold for a dataset: by class name in class order, and those whose label is no class of it."""

    rows: dict[str, int]
    strangers: int


def rows_schema(schema: DatasetSchema) -> pa.Schema:
    """The columns of the rows as taken: the data's own, then parents, then the names of the columns that misfit."""
    names = pa.list_(pa.string())
    return pa.schema([*schema.arrow_schema, pa.field(PARENTS, names), pa.field("misfits", names)])


def take_rows(given: FromFiles, real: ArtifactRef, store: Store, progress: Progress = silent) -> ArtifactRef:
    """The artifact of the rows that ``given`` names, in the types of ``real``; it stands for the model of other runs.

    The files are hashed first, and the hashes are in its key: other content is another artifact.

    Raises:
        InputError: the files are absent or damaged, lack a column, or change while they are read.
        StoreError: the real data are not in the store.
    """
    hashes = given.hashes()
    settings = given.model_dump(mode="json", exclude={"path"})
    # The place is part of the key and not of the content: whoever asks whether the files are altered must look there.
    key = hash_json(["given", str(given.path), real.sha256, settings, hashes, code_version(*CODE)])[:32]

    def fill(folder: Path) -> None:
        schema = DatasetSchema.load(store.path(real) / "schema.json")
        taken = _Taken(schema, given)
        with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, rows_schema(schema)) as writer:
            for batch in taken.batches():
                writer.write_batch(batch)
                progress("take", taken.rows, 0, "row")
        if given.hashes() != hashes:
            raise InputError(f"{shown(given.path)} was changed while it was read; run again when nothing writes to it.")
        content = {"real": real.sha256, "settings": settings, "files": hashes}
        (folder / FILES).write_text(json.dumps(content, indent=1) + "\n")
        record = _record(given, hashes, real) | taken.record((folder / ROWS).stat().st_size)
        (folder / MODEL).write_text(json.dumps(record, indent=1) + "\n")

    return store.write(STAGE, key, fill, identity=(ROWS, FILES))


def supply_of(model: ArtifactRef, store: Store) -> Supply | None:
    """The rows that there are where these are given, or null where a model draws as many as it is asked for.

    Raises:
        StoreError: the artifact is not in the store.
    """
    record = json.loads((store.path(model) / MODEL).read_text())
    return Supply(record["rows"], record["strangers"]) if "strangers" in record else None


def altered_files(folder: Path) -> list[str]:
    """The files that no longer hold what was read of them, where ``folder`` is an artifact of given rows.

    None where it is a model's. Files that are gone or cannot be read are one entry, their path.
    """
    if not (folder / FILES).is_file():
        return []
    given = FromFiles.model_validate(json.loads((folder / MODEL).read_text())["model"])
    before: dict[str, str] = json.loads((folder / FILES).read_text())["files"]
    try:
        now = given.hashes()
    except InputError:
        return [shown(given.path)]
    changed = {name for name in {**before, **now} if before.get(name) != now.get(name)}
    return sorted(shown(given.path / name if name else given.path) for name in changed)


def described_files(model: ArtifactRef, store: Store) -> tuple[dict[str, Any], list[str]]:
    """The form, number and hash of the files that rows were taken from, and what there is to say of them."""
    record = json.loads((store.path(model) / MODEL).read_text())
    files = {name: value for name, value in record["files"].items() if name != "first"}
    return files | {"rows": sum(record["rows"].values()) + record["strangers"]}, record["notes"]


def _record(given: FromFiles, hashes: dict[str, str], real: ArtifactRef) -> dict[str, Any]:
    """What ``model.json`` says of the files; the hash of the generator's training rows is null: nobody knows it.

    The hash of one file is its own, that of several is over all of theirs.
    """
    reading = given.reading()
    named = [{"file": name or given.path.name, "sha256": value} for name, value in sorted(hashes.items())]
    digest = next(iter(hashes.values())) if len(hashes) == 1 else hash_json(hashes)
    return {
        "model": given.model_dump(mode="json"),
        "real": real.model_dump(),
        "train_rows_sha256": None,
        "files": {"form": reading.form, "number": len(hashes), "sha256": digest, "first": named[:NAMED]},
        "packages": package_versions(),
    }


class _Taken:
    """The rows on their way from files into the artifact, and what there is to say of them."""

    def __init__(self, schema: DatasetSchema, given: FromFiles) -> None:
        self.rows = 0
        self._schema = schema
        self._given = given
        self._where = shown(given.path)
        self._classes: Counter[int] = Counter()
        self._unread: dict[str, None] = {}
        self._misfits: dict[str, str] = {}  # the first of each column, as a sentence
        self._stranger: str | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, fitted."""
        for batch in self._given.batches(self._schema):
            yield self._fitted(batch)
            self.rows += batch.num_rows

    def record(self, size: int) -> dict[str, Any]:
        """What ``model.json`` says of the rows; ``size`` are the bytes of all of them."""
        names = [class_name(value) for value in self._schema.classes] if self._schema.label is not None else [""]
        return {
            "rows": {name: self._classes[place] for place, name in enumerate(names)},
            "strangers": self._classes[-1],
            "row_bytes": size // max(1, self.rows),
            "notes": self._notes(),
        }

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = self._schema
        given = dict(zip(batch.schema.names, batch.columns, strict=True))
        arrays, misfits = [], {}
        for column in schema.columns:
            if column in schema.ignored:
                arrays.append(pa.nulls(batch.num_rows, column.arrow_type))
                continue
            values, unfit = fit_column(given[column.name], column)
            arrays.append(values)
            if column.name == schema.label:
                self._count(given[column.name], class_indices(values, schema, batch.num_rows))
            elif unfit.any():
                misfits[column.name] = unfit
                self._note_misfit(column.name, column.type, first_misfit(given[column.name], unfit))
        if schema.label is None:
            self._classes[0] += batch.num_rows
        parents = self._parents(given.get(PARENTS), batch.num_rows)
        self._unread |= dict.fromkeys(n for n in given if n not in schema.arrow_schema.names and n != PARENTS)
        arrays += [parents, _named(misfits, batch.num_rows)]
        return pa.RecordBatch.from_arrays(arrays, schema=rows_schema(schema))

    def _count(self, labels: pa.Array, y: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        for place, rows in zip(*np.unique(y, return_counts=True), strict=True):
            self._classes[int(place)] += int(rows)
        strange = first_misfit(labels, y < 0)
        if strange is not None and self._stranger is None:
            self._stranger = f"{strange[1]!r} in row {self.rows + strange[0] + 1:,}"

    def _note_misfit(self, name: str, kind: str, first: tuple[int, Any] | None) -> None:
        if first is not None and name not in self._misfits:
            value = str(first[1])[:40]
            row = self.rows + first[0] + 1
            self._misfits[name] = (
                f"the column '{name}' of {self._where} holds '{value}' in row {row:,}, which is no {kind}"
            )

    def _parents(self, array: pa.Array | None, rows: int) -> pa.Array:
        """The ids of the real rows that each row was made from, where the file has them as lists of texts."""
        target = pa.list_(pa.string())
        if array is not None:
            try:
                if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_null(array.type):
                    return array.cast(target)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                pass
            self._unread[PARENTS] = None
        return pa.nulls(rows, target)

    def _notes(self) -> list[str]:
        """What a person should know of the files."""
        notes = [*self._misfits.values(), *self._given.reading().source.notes()]
        unread = [name for name in self._unread if name not in RESERVED_COLUMNS or name == PARENTS]
        if unread:
            more = f" and {len(unread) - SHOWN:,} more" if len(unread) > SHOWN else ""
            notes.append(f"columns of {self._where} that are not read: {', '.join(unread[:SHOWN])}{more}")
        if self._stranger is not None:
            notes.append(
                f"{self._classes[-1]:,} rows of {self._where} have a label that is no class of the data, such as "
                f"{self._stranger}"
            )
        return notes


def _named(misfits: dict[str, np.ndarray[Any, np.dtype[np.bool_]]], rows: int) -> pa.Array:
    """For each row the names of the columns in which it has a misfit, null where in none."""
    target = pa.list_(pa.string())
    if not misfits:
        return pa.nulls(rows, target)
    found = [[name for name, unfit in misfits.items() if unfit[row]] or None for row in range(rows)]
    return pa.array(found, target)
