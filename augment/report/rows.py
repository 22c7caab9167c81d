"""Rows as rows: random ones of both sides under each other, and synthetic ones with the real rows nearest to them.

How a value looks its column's kind says; see :mod:`augment.report.drawings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment.report.drawings import Cell, Drawing, drawings_of
from augment.report.sampling import Sample, Samples, places_of, take_rows
from augment.schema import ColumnSchema, DatasetSchema

PAIRS = 24
COLUMNS = 16  # of a row that are shown
CLASSES = 12  # whose rows are shown
ROWS = 3  # of a class on either side
COPYING = "copying"  # the gate that finds pairs


class ClassRows(NamedTuple):
    """Random rows of a class: cells of real rows, and of synthetic ones."""

    name: str
    real: list[list[Cell]]
    synthetic: list[list[Cell]]


class RowTable(NamedTuple):
    """Rows of some classes; ``hidden`` columns and ``more`` classes have no place."""

    columns: list[str]
    classes: list[ClassRows]
    hidden: int
    more: int


@dataclass(frozen=True)
class Pair:
    """A synthetic row and the training row nearest to it; without cells where a row is not to be had."""

    of_class: str
    synthetic_id: str
    real_id: str
    published: bool
    distance: float
    from_held_out: float
    synthetic: Sequence[Cell]
    real: Sequence[Cell]

    @property
    def nearer(self) -> bool:
        """Whether the training row is nearer than every held-out row that was compared."""
        return self.distance < self.from_held_out


class Pairs(NamedTuple):
    """The nearest pairs, nearest first; ``pictures`` and ``texts`` are the places of cells that are shown as such."""

    columns: list[str]
    pairs: list[Pair]
    pictures: list[int]
    texts: list[int]
    hidden: int

    @property
    def nearer(self) -> int:
        """How many of them are nearer to a training row than to every held-out one."""
        return sum(pair.nearer for pair in self.pairs)


def random_rows(samples: Samples, columns: Sequence[ColumnSchema], drawings: Mapping[str, Drawing]) -> RowTable | None:
    """The first rows of each class in samples that are in random order; null without columns."""
    shown = columns[:COLUMNS]
    if not shown:
        return None

    def some(sample: Sample, name: str) -> list[list[Cell]]:
        places = pa.array(np.flatnonzero(sample.classes == name)[:ROWS])
        taken = Sample(sample.table.take(places), sample.classes)
        return _cells(taken, shown, drawings)

    names = samples.class_names[:CLASSES]
    classes = [ClassRows(name, some(samples.real, name), some(samples.synthetic, name)) for name in names]
    more = len(samples.class_names) - len(names)
    return RowTable([column.name for column in shown], classes, len(columns) - len(shown), more)


def nearest_pairs(folder: Path, schema: DatasetSchema, details: Mapping[str, Any], rejects: Path | None) -> Pairs:
    """The pairs that the gate ``copying`` found, with the rows of the staged version ``folder``.

    Real rows are published in the order of the training rows, so that ``train_row`` is a place in ``data/real``. A
    synthetic row that was rejected is in ``rejects``; one that was not needed is nowhere.
    """
    found = details.get(COPYING, {}).get("nearest_pairs", [])[:PAIRS]
    drawings = drawings_of(schema.features)
    columns = [column for column in schema.features if column.name in drawings]
    shown = columns[:COLUMNS]
    names = ["sample_id", *(column.name for column in shown)]
    ids = [pair["sample_id"] for pair in found]
    real = _by_place(sorted(folder.glob("data/real/train-*.parquet")), names, [pair["train_row"] for pair in found])
    published = _by_id(sorted(folder.glob("data/synthetic/train-*.parquet")), names, ids)
    rejected = _by_id([rejects] if rejects is not None and rejects.is_file() else [], names, ids)

    def cells(row: pa.Table | None) -> list[Cell]:
        return [] if row is None else _cells(Sample(row, np.array([""])), shown, drawings)[0]

    pairs = [
        Pair(
            of_class=pair["class"],
            synthetic_id=pair["sample_id"],
            real_id=_name(real.get(pair["train_row"]), pair["train_row"]),
            published=pair["sample_id"] in published,
            distance=pair["distance"],
            from_held_out=pair["from_held_out"],
            synthetic=cells(published.get(pair["sample_id"], rejected.get(pair["sample_id"]))),
            real=cells(real.get(pair["train_row"])),
        )
        for pair in found
    ]
    drawn = {place for p in pairs for row in (p.real, p.synthetic) for place, c in enumerate(row) if c.picture}
    texts = [place for place in range(len(shown)) if place not in drawn]
    return Pairs(names[1:], pairs, sorted(drawn), texts, len(columns) - len(shown))


def _by_place(files: Sequence[Path], columns: Sequence[str], places: Sequence[int]) -> dict[int, pa.Table]:
    """One-row tables of the rows at these places, counted over all files; those beyond the end are left out."""
    total = sum(pq.read_metadata(path).num_rows for path in files)
    rows = np.unique(np.array([place for place in places if 0 <= place < total], dtype=np.int64))
    if not len(rows):
        return {}
    present = [name for name in columns if name in pq.read_schema(files[0]).names]
    table = take_rows(files, present, rows)
    return {int(place): table.slice(number, 1) for number, place in enumerate(rows)}


def _by_id(files: Sequence[Path], columns: Sequence[str], ids: Sequence[str]) -> dict[str, pa.Table]:
    """One-row tables of the rows with these sample ids that are there."""
    if not ids or not files or "sample_id" not in pq.read_schema(files[0]).names:
        return {}
    places = places_of(files, "sample_id", ids)
    rows = _by_place(files, columns, list(places.values()))
    return {name: rows[place] for name, place in places.items()}


def _name(row: pa.Table | None, place: int) -> str:
    """The sample id of a real row, or its place where there is none."""
    known = row is not None and "sample_id" in row.column_names
    return str(row.column("sample_id")[0].as_py()) if row is not None and known else f"row {place}"


def _cells(sample: Sample, columns: Sequence[ColumnSchema], drawings: Mapping[str, Drawing]) -> list[list[Cell]]:
    """The cells of each row of a small sample."""
    by_column = [
        [drawings[column.name].cell(value.as_py()) for value in sample.column(column.name, column.arrow_type)]
        for column in columns
    ]
    return [list(row) for row in zip(*by_column, strict=True)]
