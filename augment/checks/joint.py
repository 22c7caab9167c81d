"""Joint: columns hang together as in the real rows, with each other and with the label, classes weighted equally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from augment.checks._associations import Associations, numbers_first
from augment.checks._class_numbers import codes_of
from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, RowFigures, Shard, bounded
from augment.checks._discrepancies import Floats
from augment.checks._real import RealRows
from augment.checks._sides import Column, Sides, Worst, learn_sides, short, sides_of, within_chance, worst_of
from augment.checks._telling_apart import ToldApart, telling_apart

GATE = "joint"
ROWS = 2_000  # of a side: 0.03 of an association of none is chance
DEALS = 200  # of the rows into sides
COLUMNS = 60  # the first ones, numbers before categories
LANES = 240  # numbers and categories of these columns together; the time grows with the square
SHOWN = 60  # pairs of which the figures are kept, the most changed ones


class Joint(Check):
    """Refuses a set in which some two columns hang together unlike in the real rows.

    The association of two numbers is Spearman's rank correlation (1904), of two categorical columns Cramer's V (1946),
    of one of each the correlation ratio of the ranks; the label is a column too, and of images the measures (mean,
    contrast, sharpness, ...) are. Classes weigh the same on both sides. Much of an association may be between classes,
    which a model that knows the label gets right without knowing how columns hang together; so every pair is compared
    inside the classes too. A column that was shuffled, over all rows or inside the classes, loses its associations.

    A change must be above the setting by two standard errors to be refused or warned of, since the largest of many
    changes is large by chance; and above what chance alone makes of so few rows, for all pairs together: the rows of
    both sides are dealt anew 200 times, and in none of the deals is any pair above its limit. The floor is the usual
    change of the pair in the deals, its standard error. Weak associations of few rows are uncertain and strong ones are
    not, so each pair has a limit of its own.

    A classifier two-sample test (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017) is no reason to
    refuse, because an artefact that harms nobody is enough to tell all rows apart, but to warn: boosted trees learn to
    tell synthetic from real rows by the same numbers, and are judged on rows that they have not seen.
    """

    kind: Literal["joint"] = "joint"
    summary: ClassVar[str] = "columns hang together as in the real rows, with each other and with the label"
    better: ClassVar[Literal["high", "low"] | None] = "low"

    warns: float = Field(
        0.15, ge=0, le=2, allow_inf_nan=False, description="The largest change of an association that is not warned of."
    )
    refuses: float = Field(
        0.30, ge=0, le=2, allow_inf_nan=False, description="The largest change of an association that is not refused."
    )
    refuses_measured: float = Field(
        0.60, ge=0, le=2, allow_inf_nan=False, description="The same of what is measured in values, as in images."
    )
    auc: float = Field(
        0.80, ge=0.5, le=1, allow_inf_nan=False, description="The largest AUC of real against synthetic not warned of."
    )

    @model_validator(mode="after")
    def _warns_first(self) -> Joint:
        if self.warns > min(self.refuses, self.refuses_measured):
            raise ValueError(f"warns {self.warns:g} is above what is refused; set refuses and refuses_measured too")
        return self

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The numbers of a few training and validation rows of each class."""
        return {**learn_sides(real, folder), "label": real.schema.label}

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """The place of each category in the list that was learned, one column a column; -1 where it is not in it."""
        codes = codes_of(shard.table, shard.schema, learned.figures["categories"])
        return RowFigures({f"{GATE}.{name}": column for name, column in codes.items()})

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The change of the pair that is furthest beyond its limit, or nearest to it; how well rows are told apart."""
        sides = sides_of(evidence, learned, GATE).thinned(ROWS)
        columns = _considered(sides.columns)
        pairs = _pairs(columns, learned.figures["label"], len(sides.classes))
        if not pairs:
            return Finding("There are no two columns of which five rows of a class are on both sides.", applies=False)
        found = _compared(sides, columns)
        usual, chance = within_chance(found.deals)
        hard = np.array([self.refuses_measured if pair.measured else self.refuses for pair in pairs])
        warns, refuses = (np.maximum(limit + 2 * usual, chance) for limit in (self.warns, hard))
        worst = worst_of(found.changes, usual, warns, refuses)
        told = telling_apart(sides, self.auc, GATE)
        expected = bounded(f"{GATE}.change", None, worst.limit)
        if told is not None and not worst.refused:  # what is only warned of must not be among the reasons to refuse
            expected += bounded(f"{GATE}.c2st_auc", None, told.limit)
        return Finding(
            _sentence(pairs[worst.place], found, worst, told),
            value=worst.value,
            floor=worst.floor,
            limit=worst.limit,
            metrics={"change": worst.value, **({} if told is None else {"c2st_auc": told.auc})},
            set_expectations=expected,
            severity="warning" if told is not None and told.warned and not worst.refused else worst.severity,
            details={
                "classes": sides.classes,
                "columns": [column.name for column in columns],
                "c2st": None if told is None else {"auc": told.auc, "limit": told.limit},
                "pairs": _described(pairs, found, refuses),
            },
        )


@dataclass(frozen=True)
class _Pair:
    """Two columns, whether one is measured in values, and whether they are compared inside the classes."""

    first: str
    second: str
    measured: bool
    inside: bool = False

    @property
    def title(self) -> str:
        return f"{self.first} and {self.second}" + (" inside the classes" if self.inside else "")


@dataclass(frozen=True)
class _Compared:
    """The associations of all pairs on both sides, ``(P,)``, and their changes in deals, ``(deals, P)``."""

    real: Floats
    synthetic: Floats
    deals: Floats

    @property
    def changes(self) -> Floats:
        return np.abs(self.real - self.synthetic)


def _considered(columns: Sequence[Column]) -> list[Column]:
    """The first columns, as many as can be compared pairwise, in the order of their associations."""
    lanes = np.cumsum([column.lanes.stop - column.lanes.start + 1 for column in columns])
    return numbers_first([c for c, together in zip(columns, lanes, strict=True) if together <= LANES][:COLUMNS])


def _pairs(columns: Sequence[Column], label: str | None, classes: int) -> list[_Pair]:
    """The pairs in the order of :meth:`augment.checks._associations.Associations.of`."""
    if not classes:
        return []
    pairs = [(a, b) for place, a in enumerate(columns) for b in columns[place + 1 :]]
    together, inside = (
        [_Pair(a.name, b.name, a.measured or b.measured, inside) for a, b in pairs] for inside in (False, True)
    )
    if classes == 1:
        return together
    return [*together, *(_Pair(column.name, label or "the class", column.measured) for column in columns), *inside]


def _compared(sides: Sides, columns: Sequence[Column]) -> _Compared:
    associations = Associations(sides.numbers, sides.of_class, columns)
    real, synthetic = sides.weights
    deals = [
        np.abs(associations.of(first) - associations.of(second))
        for both in sides.deals(DEALS, GATE)
        for first, second in zip(*both, strict=True)
    ]
    return _Compared(associations.of(real), associations.of(synthetic), np.stack(deals))


def _sentence(pair: _Pair, found: _Compared, worst: Worst, told: ToldApart | None) -> str:
    real, synthetic = found.real[worst.place], found.synthetic[worst.place]
    said = (
        f"Classes weighted equally, the association that changes most is that of {pair.title}: {real:.2f} in real rows "
        f"and {synthetic:.2f} in synthetic ones, a change of {worst.value:.2f} (standard error {worst.floor:.2f}); "
        f"more than {worst.limit:.2f} is {'refused' if worst.refused else 'warned of'}."
    )
    if told is None:
        return said
    return (
        f"{said} Boosted trees tell synthetic from real rows with an AUC of {told.auc:.2f}; "
        f"more than {told.limit:.2f} is warned of."
    )


def _described(pairs: Sequence[_Pair], found: _Compared, limits: Floats) -> list[dict[str, Any]]:
    """The pairs that change most as JSON values."""
    return [
        {
            "first": pairs[place].first,
            "second": pairs[place].second,
            "inside_classes": pairs[place].inside,
            "real": short(found.real[place]),
            "synthetic": short(found.synthetic[place]),
            "change": short(found.changes[place]),
            "limit": short(limits[place]),
        }
        for place in np.argsort(-found.changes, kind="stable")[:SHOWN].tolist()
    ]
