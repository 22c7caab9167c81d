"""How many synthetic rows of each class are drawn, and what a run would make, for a person to read beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict

from augment.config import AnyPlan, BalancePlan, CountsPlan, MultiplyPlan
from augment.errors import InputError, did_you_mean
from augment.ingest import IngestRecord
from augment.schema import DatasetSchema, class_titles
from augment.store import ArtifactRef, Store

FEW_ROWS = 10  # of a class; with fewer there is little to learn


class PlannedColumn(BaseModel):
    """One column as it will be treated."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    type: str
    reason: str


class PlannedClass(BaseModel):
    """Rows of one class; the name is empty for rows without a label."""

    model_config = ConfigDict(frozen=True)

    name: str
    train: int
    validation: int
    test: int
    synthetic: int


class PlanRecord(BaseModel):
    """What a run would make of its source."""

    model_config = ConfigDict(frozen=True)

    label: str | None
    columns: list[PlannedColumn]
    classes: list[PlannedClass]
    notes: list[str]
    warnings: list[str]

    @property
    def synthetic_rows(self) -> int:
        """Synthetic rows of all classes."""
        return sum(c.synthetic for c in self.classes)


def rows_to_draw(plan: AnyPlan, real: ArtifactRef, store: Store) -> dict[str, int]:
    """Synthetic rows by class name, in class order; classes that get none are there with 0.

    Raises:
        InputError: the plan names a class that does not exist, or draws nothing at all.
    """
    folder = store.path(real)
    schema = DatasetSchema.load(folder / "schema.json")
    record = IngestRecord.load(folder / "ingest.json")
    train = {name: record.counts["train"].get(name, 0) for name in class_titles(schema)}
    wanted = RULES[type(plan)](plan, train)
    if not any(wanted.values()):
        raise InputError("the plan draws no synthetic rows at all; ask for more in the section plan.")
    return wanted


def describe_plan(plan: AnyPlan, real: ArtifactRef, store: Store) -> PlanRecord:
    """Columns with their kinds and reasons, rows of each class, and what a person should know before running.

    Raises:
        InputError: as :func:`rows_to_draw`.
    """
    folder = store.path(real)
    schema = DatasetSchema.load(folder / "schema.json")
    record = IngestRecord.load(folder / "ingest.json")
    wanted = rows_to_draw(plan, real, store)
    names = [*wanted, *([""] if "" in record.counts["train"] and "" not in wanted else [])]
    classes = []
    for name in names:
        rows = {part: counts.get(name, 0) for part, counts in record.counts.items()}
        classes.append(PlannedClass(name=name, **rows, synthetic=wanted.get(name, 0)))
    return PlanRecord(
        label=schema.label,
        columns=[PlannedColumn(name=c.name, kind=c.kind, type=c.type, reason=c.reason) for c in schema.columns],
        classes=classes,
        notes=record.notes,
        warnings=_warnings(schema, classes),
    )


def balance(plan: BalancePlan, train: dict[str, int]) -> dict[str, int]:
    """Every class up to the largest, and at least the share ``everywhere`` of the largest for each."""
    largest = max(train.values())
    least = math.ceil(_exact(plan.everywhere) * largest)
    return {name: max(largest - rows, least) for name, rows in train.items()}


def multiply(plan: MultiplyPlan, train: dict[str, int]) -> dict[str, int]:
    """``factor - 1`` times the real rows of each class, halves rounded up."""
    return {name: math.floor((_exact(plan.factor) - 1) * rows + Fraction(1, 2)) for name, rows in train.items()}


def counts(plan: CountsPlan, train: dict[str, int]) -> dict[str, int]:
    """Exactly the counts given.

    Raises:
        InputError: a class does not exist.
    """
    for name in plan.counts:
        if name not in train and "" in train:
            raise InputError(
                f"plan.counts names '{name}' and the data have no label; set source.label, or use plan.kind multiply."
            )
        if name not in train:
            raise InputError(f"plan.counts names '{name}', which is no class{did_you_mean(name, train)}")
    return {name: plan.counts.get(name, 0) for name in train}


RULES: dict[type[Any], Callable[[Any, dict[str, int]], dict[str, int]]] = {
    BalancePlan: balance,
    MultiplyPlan: multiply,
    CountsPlan: counts,
}


def _exact(number: float) -> Fraction:
    """The number as it is written: 0.1 of 30 rows are 3, while the double nearest to 0.1 would make it 4."""
    return Fraction(repr(number))


def _warnings(schema: DatasetSchema, classes: list[PlannedClass]) -> list[str]:
    """What may surprise: classes without synthetic rows, without validation rows, rows that no class has."""
    said = []
    left_out = [c.name for c in classes if c.synthetic == 0 and (c.name or schema.label is None)]
    if left_out:
        said.append(
            f"no synthetic rows of {', '.join(left_out)}: where classes can be told by having synthetic rows at all, "
            "the shortcut gate refuses the result"
        )
    unlabelled = [c.train for c in classes if not c.name and schema.label is not None]
    if unlabelled:
        said.append(f"rows without a label, trained on and published in train with weight 0: {unlabelled[0]}")
    few = [c.name for c in classes if c.name and c.train < FEW_ROWS]
    if few:
        said.append(f"fewer than {FEW_ROWS} real rows to learn from in {', '.join(few)}: expect near-copies or noise")
    return said
