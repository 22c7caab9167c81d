"""Real and synthetic rows side by side as numbers, every class with the same weight, and what chance makes of them.

A plan changes how many rows a class has on purpose, so sets are compared as if every class had the same share of both:
the n_c rows of class c weigh 1 / (C n_c) each on either side. What chance alone does is learned from the same rows
dealt anew into sides of the same sizes, class by class (Fisher, "The design of experiments", 1935): where synthetic
rows are no different from real ones, the sides at hand are one deal like any other, however few the rows are, and a
distance that none of some hundred deals reaches in any figure means something, however many figures there are. Drawing
both sides from the real rows alone, with replacement, knows too little of small classes: of 60 pairs of real sets with
ten rows a class 20 were refused so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment._features import feature_name, resolutions
from augment._seeding import numpy_generator
from augment.checks._class_numbers import FEATURE, Numbers, by_class, few_numbers, frequent_categories, numbers_of_set
from augment.checks._contract import Evidence, Figures, Flags, Learned
from augment.checks._discrepancies import Floats
from augment.checks._real import SEEN, RealRows
from augment.gates import Severity
from augment.schema import DatasetSchema

ROWS = 1_000  # of a class in each part: 0.04 of distance between two such samples is chance
ALL_ROWS = 10_000  # of all classes, in the parts and columns together below
WIDE = 60  # columns; of wider tables fewer rows are kept, and never more numbers than of these
FEWEST = 5  # rows that a class has on either side; the spread of fewer says nothing
AT_ONCE = 50  # bounds the memory: weights of so many deals
STILL = 1e-3  # of a distance; what chance alone never moves is not divided by less
DECIMALS = 4

Places = NDArray[np.int64]
NO_PLACES: Places = np.empty(0, np.int64)


@dataclass(frozen=True)
class Column:
    """What is compared of one data column: measures one by one, or the shares of its categories together.

    ``lanes`` are the places of its numbers; ``texts`` are its categories, null for missing, and empty for a measure.
    ``measured`` says that the numbers are measured in the values, as in images, and are not the values themselves.
    """

    name: str
    lanes: slice
    texts: tuple[str | None, ...] = ()
    measured: bool = False


@dataclass(frozen=True)
class Sides:
    """The rows of both sides, class by class.

    ``numbers`` are ``(N, F)``, NaN where one is missing; ``of_class`` ``(N,)`` is the place of each row's class in
    ``classes``, and ``is_synthetic`` ``(N,)`` says on which side it is.
    """

    classes: list[str]
    columns: list[Column]
    numbers: Floats
    of_class: Places
    is_synthetic: Flags

    @property
    def weights(self) -> tuple[Floats, Floats]:
        """The weights ``(N,)`` of the rows of the real and of the synthetic side, each of sum 1."""
        return self._weights(~self.is_synthetic), self._weights(self.is_synthetic)

    def deals(self, number: int, *seed: str) -> Iterator[tuple[Floats, Floats]]:
        """Weights ``(B, N)`` of both sides, of ``number`` deals of the rows into sides of the same sizes."""
        draw = numpy_generator("sides", *seed)
        counts = np.bincount(self.of_class)
        within = np.arange(len(self.of_class)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = within < np.bincount(self.of_class, self.is_synthetic)[self.of_class]
        for start in range(0, number, AT_ONCE):
            dealt = np.empty((min(AT_ONCE, number - start), len(first)), dtype=bool)
            for deal in dealt:
                deal[np.lexsort((draw.random(len(first)), self.of_class))] = first
            yield self._weights(~dealt), self._weights(dealt)

    def _weights(self, side: Flags) -> Floats:
        """The weights of the rows that are on a side, ``(..., N)``; the side has as many of a class in every deal."""
        counts = np.bincount(self.of_class, side if side.ndim == 1 else side[0])
        found: Floats = side / (len(self.classes) * counts[self.of_class])
        return found

    def thinned(self, limit: int) -> Sides:
        """The same with at most about ``limit`` rows a side, evenly spaced in each class; never below five a class."""
        each = max(FEWEST, limit // max(1, len(self.classes)))
        groups = 2 * self.of_class + self.is_synthetic
        kept = np.concatenate([*(_spaced(np.flatnonzero(groups == g), each) for g in np.unique(groups)), NO_PLACES])
        return replace(
            self, numbers=self.numbers[kept], of_class=self.of_class[kept], is_synthetic=self.is_synthetic[kept]
        )


def limit_rows(schema: DatasetSchema) -> int:
    """How many rows of a class are kept of each part of the real rows."""
    rows = ALL_ROWS * WIDE // max(WIDE, len(schema.features))
    return max(FEWEST, min(ROWS, rows // (len(SEEN) * max(1, len(schema.classes)))))


def learn_sides(real: RealRows, folder: Path) -> Figures:
    """What :func:`sides_of` needs: the numbers of a few real rows of each class, and which of them are compared."""
    seen = _seen(real)
    numbers = seen.numbers
    np.save(folder / "numbers.npy", np.concatenate([np.empty((0, len(numbers.names))), *numbers.classes.values()]))
    return {
        "categories": seen.categories,
        "names": numbers.names,
        "measured": seen.measured,
        "left_out": seen.left_out,
        "rows": {name: len(rows) for name, rows in numbers.classes.items()},
        "limit": limit_rows(real.schema),
    }


def sides_of(evidence: Evidence, learned: Learned, gate: str) -> Sides:
    """The real rows that were kept beside the first synthetic rows of each class of the set."""
    figures = learned.figures
    real = Numbers(figures["names"], by_class(learned.array("numbers"), figures["rows"]))
    limit = len(SEEN) * figures["limit"]
    synthetic = numbers_of_set(evidence, gate, figures["names"], figures["categories"], limit)
    return side_by_side(real, synthetic, _columns(figures))


@dataclass(frozen=True)
class _Seen:
    categories: dict[str, list[str | None]]
    numbers: Numbers
    measured: list[str]
    left_out: list[str]


@lru_cache(maxsize=1)  # every check that compares sides takes the same rows, and decoding images again is dear
def _seen(real: RealRows) -> _Seen:
    """The frequent categories, the numbers of a few training and validation rows of each class, and what says nothing.

    Of what is measured in a value, such as the border of an image, that says nothing in which real rows agree to half
    a step of its grid, by which rounding alone moves a value: from a border that is black in every real image one grey
    level would be all the difference there can be. Such measures are left to the ranges of sample_quality.
    """
    limit = limit_rows(real.schema)
    categories = frequent_categories(real, limit)
    parts = [few_numbers(real, part, limit, categories) for part in SEEN]
    names = next((part.names for part in parts if part.names), [])
    classes: dict[str, Floats] = {}
    for name in sorted({name for part in parts for name in part.classes}):
        classes[name] = np.concatenate([part.classes[name] for part in parts if name in part.classes])
    first = next(real.batches("train"), None)
    steps = {} if first is None else resolutions(first, real.schema)
    own = {feature_name(column.name, "") for column in real.schema.features}
    measured = [name for name in names if name.startswith(FEATURE) and name not in own]
    left_out = []
    for name in measured:
        values = np.concatenate([rows[:, names.index(name)] for rows in classes.values()])
        low, high = np.quantile(values[np.isfinite(values)], [0.05, 0.95]) if np.isfinite(values).any() else (0.0, 0.0)
        if high - low < steps.get(name, 0.0) / 2:
            left_out.append(name)
    return _Seen(categories, Numbers(names, classes), measured, left_out)


def _columns(figures: Figures) -> list[Column]:
    """What is compared of the numbers that were learned: measures first, then a lane for each frequent category."""
    measures = [name for name in figures["names"] if name.startswith(FEATURE)]
    columns = [
        Column(name.removeprefix(FEATURE), slice(place, place + 1), measured=name in figures["measured"])
        for place, name in enumerate(measures)
        if name not in figures["left_out"]
    ]
    start = len(measures)
    for name, texts in figures["categories"].items():
        columns.append(Column(name, slice(start, start + len(texts)), tuple(texts)))
        start += len(texts)
    return columns


def side_by_side(real: Numbers, synthetic: Numbers, columns: Sequence[Column]) -> Sides:
    """Both sides' rows of the classes that have at least five on either; what is infinite counts as missing."""
    classes = [name for name, rows in real.classes.items() if min(len(rows), _rows(synthetic, name)) >= FEWEST]
    parts = [side.classes[name] for name in classes for side in (real, synthetic)]
    rows = [len(part) for part in parts]
    numbers = np.concatenate([*parts, np.empty((0, len(real.names)))])
    return Sides(
        classes=classes,
        columns=list(columns),
        numbers=np.where(np.isfinite(numbers), numbers, np.nan),
        of_class=np.repeat(np.arange(len(parts)) // 2, rows),
        is_synthetic=np.repeat(np.arange(len(parts)) % 2 == 1, rows),
    )


@dataclass(frozen=True)
class Worst:
    """The distance that is furthest beyond its limit, or nearest to it; the softer limit where none is refused."""

    place: int
    value: float
    floor: float
    limit: float
    refused: bool

    @property
    def severity(self) -> Severity | None:
        """What to say of a failure: a warning where only the softer limit is broken."""
        return "warning" if self.value > self.limit and not self.refused else None


def worst_of(distances: Floats, usual: Floats, warns: Floats, refuses: Floats) -> Worst:
    """The worst of ``distances`` ``(P,)``, one of them a number at least, by the limits of each."""
    found = np.round(distances, DECIMALS)
    harder, softer = np.round(refuses, DECIMALS), np.round(warns, DECIMALS)
    refused = bool((found > harder).any())
    limits = harder if refused else softer
    place = int(np.nanargmax(found / np.maximum(limits, STILL)))
    return Worst(place, short(found[place]), short(usual[place]), short(limits[place]), refused)


def within_chance(deals: Floats) -> tuple[Floats, Floats]:
    """How far each distance of ``deals`` ``(B, P)`` goes by chance, ``(P,)``: its root mean square, and its limit.

    The limits are in proportion to the former, so that a noisy distance hides no exact one, and no deal has a distance
    above its limit: a set without a difference has one with probability 1 / (B + 1). A deal that leaves one side
    without a value has no distance there.
    """
    found = np.nan_to_num(deals)
    usual = np.maximum(np.sqrt((found**2).mean(axis=0)), STILL)
    return usual, usual * float((found / usual).max())


def _spaced(rows: Places, each: int) -> Places:
    return rows if len(rows) <= each else rows[np.linspace(0, len(rows) - 1, each).astype(np.int64)]


def _rows(numbers: Numbers, name: str) -> int:
    return len(numbers.classes.get(name, ()))


def short(value: Any) -> float:
    """A few decimals, so that the last bits of a sum decide no byte."""
    return round(float(value), DECIMALS)
