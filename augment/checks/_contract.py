"""What every check promises: figures measured on plain tables, and the expectations that judge them.

A check takes part in up to three steps, each of which it may leave out:

1. :meth:`Check.learn` reads the real rows once and keeps what the later steps compare with.
2. :meth:`Check.rows` looks at one shard of synthetic rows; :meth:`Check.row_expectations` judge the row table.
3. :meth:`Check.find` sums up all shards into figures of the set and of each class, says what is expected of them, and
   writes the sentence that a person reads.

Great Expectations judges; a check never says by itself whether it passed. Expectations are plain records here, so that
listing the checks needs none of that library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from augment.gates import Severity
from augment.schema import DatasetSchema
from augment.store import ArtifactRef

if TYPE_CHECKING:
    import pandas as pd

    from augment.checks._encoded import DrawnRows
    from augment.checks._real import RealRows
    from augment.worth.encoders import Encoders

Flags = NDArray[np.bool_]
Figures = Mapping[str, Any]  # JSON values


@dataclass(frozen=True)
class Expect:
    """An expectation of Great Expectations: the name of its class and its arguments."""

    type: str
    arguments: Mapping[str, Any]

    @property
    def column(self) -> str | None:
        """The column that is judged; null for an expectation of a whole table."""
        return self.arguments.get("column")


def never(column: str) -> Expect:
    """Every value of a column of booleans is false."""
    return Expect("ExpectColumnValuesToBeInSet", {"column": column, "value_set": [False]})


def between(column: str, low: float | None, high: float | None, mostly: float = 1.0) -> Expect:
    """At least the share ``mostly`` of the values that are not missing are in [low, high]."""
    arguments = {"column": column, "min_value": low, "max_value": high, "mostly": mostly}
    return Expect("ExpectColumnValuesToBeBetween", arguments)


def bounded(column: str, low: float | None, high: float | None) -> list[Expect]:
    """Every value of a column of figures is there and in [low, high]; between alone passes what is missing."""
    return [Expect("ExpectColumnValuesToNotBeNull", {"column": column}), between(column, low, high)]


class Judged(BaseModel):
    """What Great Expectations said about one expectation; the counts are of rows, null for a whole table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    type: str
    column: str | None
    passed: bool
    trouble: str | None  # why it could not be judged at all; then it has not passed
    rows: int | None
    missing: int | None
    unexpected: int | None


@dataclass(frozen=True)
class RowFault:
    """The rows of a shard that have one fault, and how ``rejects.parquet`` calls it."""

    rows: Flags
    reason: str
    rejects: bool = True  # whether these rows are left out and drawn again


@dataclass(frozen=True)
class RowFigures:
    """What a check found in a shard's rows: new columns ``<gate>.<figure>`` of the row table, and faults."""

    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    faults: Sequence[RowFault] = ()


@dataclass(frozen=True)
class Learned:
    """What a check kept of the real rows: JSON figures, and arrays in a folder of its own."""

    figures: Figures
    folder: Path

    def array(self, name: str) -> NDArray[Any]:
        """The array saved as ``name``.npy, memory-mapped."""
        found: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return found


@dataclass(frozen=True)
class Shard:
    """One shard of synthetic rows, as a check sees it.

    ``features`` are the measures of :mod:`augment._features`, one row a row; ``column_faults`` says per data column
    which rows break the kind of the column; ``hashes`` are the content hashes of the rows (16 bytes each), computed
    anew from the data, zeros where a row is malformed; ``earlier`` are the folders of the shards judged before, which
    hold theirs sorted. ``encoders`` are there where a check needs them.
    """

    schema: DatasetSchema
    table: pa.Table
    features: pd.DataFrame
    column_faults: Mapping[str, Mapping[str, Flags]]
    hashes: NDArray[np.bytes_]
    round: int
    earlier: Sequence[Path]
    encoders: Encoders | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)


class ShardRecord(BaseModel):
    """What was found in one shard, as kept in ``rows.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: ArtifactRef
    round: int
    rows: int
    drawn: dict[str, int]  # rows by class name
    accepted: dict[str, int]
    rejected: dict[str, int]  # rows by gate
    generator_ids: list[str]
    first_index: int | None  # the smallest and the largest gen_index
    last_index: int | None
    malformed: list[str]  # what is wrong with the table itself; its rows were then not looked at
    judged: list[Judged]


class Choice(BaseModel):
    """How many rows of a shard were asked for what selects rows, and how many of them were selected, by class name.

    ``left_out`` are the others by criterion. Rows that a gate rejects are not asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: dict[str, int]
    selected: dict[str, int]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Evidence:
    """Everything there is when the checks conclude: where the artifacts are, and what was found in each shard."""

    schema: DatasetSchema
    real: ArtifactRef
    model: ArtifactRef
    real_path: Path
    model_path: Path
    shards: Sequence[ArtifactRef]
    shard_paths: Sequence[Path]  # their folders
    judged_paths: Sequence[Path]  # the folders of the judged shards, one a record
    records: Sequence[ShardRecord]
    wanted: Mapping[str, int]  # synthetic rows by class name, in class order
    encoders: Encoders | None = None  # where a check needs them
    drawn_rows: DrawnRows | None = None  # some rows as the encoders see them, where a check needs these
    altered: Sequence[str] = ()  # files of given rows that are no longer what was read
    choices: Sequence[Choice] = ()  # one a shard, where the rows that gates accept are selected

    @property
    def of_set(self) -> list[tuple[Path, Path, ShardRecord]]:
        """Shards, their judgements and records in which gates of the set look for rows, malformed ones left out.

        These stand for what will be published: rows as first drawn, which differ from it by few, or all rounds where
        rows are selected, since that changes what the set is like; see :meth:`in_set`.
        """
        shards = zip(self.shard_paths, self.judged_paths, self.records, strict=True)
        return [found for found in shards if not found[2].malformed and (self.choices or found[2].round == 0)]

    def in_set(self, accepted: Flags) -> Flags:
        """Which rows of such a shard gates of the set look at, given those that will be published."""
        return accepted if self.choices else np.ones(len(accepted), dtype=bool)

    @property
    def first_round(self) -> list[ShardRecord]:
        """The shards of rows as first drawn, by which row-level gates are judged."""
        return [record for record in self.records if record.round == 0]

    @property
    def rows(self) -> int:
        """Rows as first drawn."""
        return sum(record.rows for record in self.first_round)

    @property
    def drawn(self) -> dict[str, int]:
        """Rows as first drawn, by class name."""
        return sum_by_name(record.drawn for record in self.first_round)

    @property
    def accepted(self) -> dict[str, int]:
        """Rows that will be published, by class name, over all rounds."""
        return sum_by_name(record.accepted for record in self.records)

    def unexpected(self, column: str) -> int:
        """How many rows as first drawn Great Expectations found unexpected in a column of the row table."""
        return sum(j.unexpected or 0 for r in self.first_round for j in r.judged if j.column == column)

    def present(self, column: str) -> int:
        """How many rows as first drawn have a value in a column of the row table."""
        judged = [j for r in self.first_round for j in r.judged if j.column == column]
        return sum((j.rows or 0) - (j.missing or 0) for j in judged)


@dataclass(frozen=True)
class Finding:
    """What a check measured over all shards.

    ``metrics`` become columns ``<gate>.<name>`` of the one-row table of the set, ``class_metrics`` of the table of
    classes (values in the order of ``Evidence.wanted``); the expectations judge them. ``applies`` is false where
    there is nothing to measure; the sentence then says why. ``details`` are JSON values that decide nothing: what a
    report draws of the check. ``severity`` is what a failure of these figures is, where a check has a softer limit
    beside the one that refuses; null: what the check's settings say.
    """

    sentence: str
    value: float | None = None
    floor: float | None = None
    limit: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    class_metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    set_expectations: Sequence[Expect] = ()
    class_expectations: Sequence[Expect] = ()
    applies: bool = True
    details: Figures = field(default_factory=dict)
    severity: Severity | None = None


class Check(BaseModel, ABC):
    """The settings of one gate; its ``kind`` is the gate's name.

    A subclass in a module of this package whose name does not start with an underscore is found by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: ClassVar[str]  # one line for `augment checks`
    mandatory: ClassVar[bool] = False
    default_on: ClassVar[bool] = True  # false: only where the run file lists it, and nowhere mentioned else
    severity: ClassVar[Severity] = "critical"
    better: ClassVar[Literal["high", "low"] | None] = None  # which values of the gate are; null: not to be compared
    stops: ClassVar[bool] = False  # when it fails, the figures of the later gates mean nothing
    at_publication: ClassVar[bool] = False  # judged on the staged folder, not when the shards are concluded
    pending: ClassVar[str] = "Not measured yet: it is judged when the version is published."
    needs_encoders: ClassVar[bool] = False  # looks at rows through nets that are trained on the real ones first

    kind: str
    enabled: bool = Field(True, description="False leaves the gate out; some cannot be left out.")

    @property
    def graded(self) -> Severity:
        """What a failure with these settings is."""
        return self.severity

    @model_validator(mode="after")
    def _mandatory_stays(self) -> Check:
        if self.mandatory and not self.enabled:
            raise ValueError(f"the check {self.kind} cannot be left out; remove enabled: false")
        return self

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """Figures of the real rows as JSON values; arrays are saved into ``folder``."""
        return {}

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """What this check finds in the rows of one shard."""
        return RowFigures()

    def row_expectations(self, learned: Learned) -> list[Expect]:
        """What is expected of the row table of every shard."""
        return []

    @abstractmethod
    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """What all shards together amount to."""


def sound_rows(column_faults: Mapping[str, Mapping[str, Flags]], rows: int) -> Flags:
    """Which rows have no fault in any column, shape ``(rows,)``."""
    sound = np.ones(rows, dtype=bool)
    for faults in column_faults.values():
        for flags in faults.values():
            sound &= ~flags
    return sound


def sum_by_name(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of several counts, name by name."""
    total: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number
    return total


def share(part: int, whole: int) -> float:
    """``part / whole``, and 0 of nothing."""
    return part / whole if whole else 0.0
