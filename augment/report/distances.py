"""How far apart two samples of one column are, with every class counting the same on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Weights = NDArray[np.float64]
Measure = Callable[[Values, Weights, Values, Weights], float]


@dataclass(frozen=True)
class Distance:
    """A distance from 0 (same) to 1 (apart) in all, between real and held-out real rows, and within each class.

    Null where a side has no values.
    """

    name: str
    value: float | None
    held_out: float | None
    by_class: dict[str, float]

    @property
    def worst_class(self) -> str | None:
        """The class with the largest distance, null where there are no classes."""
        return max(self.by_class, key=lambda name: self.by_class[name], default=None)


@dataclass(frozen=True)
class Missing:
    """The shares of missing values on both sides."""

    real: float
    synthetic: float


def class_weights(classes: Values, present: Values, shared: set[str]) -> Weights:
    """Weights that sum to 1 with equal masses for the ``shared`` classes, over the rows that are ``present``."""
    weights = np.zeros(len(classes))
    for name in sorted(shared):
        rows = (classes == name) & present
        if rows.any():
            weights[rows] = 1 / rows.sum()
    total = weights.sum()
    return weights / total if total else weights


def kolmogorov_smirnov(a: Values, weights_a: Weights, b: Values, weights_b: Weights) -> float:
    """The largest gap between the two weighted cumulative shares."""
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")
    steps = np.concatenate([weights_a, -weights_b])[order]
    last_of_value = np.r_[values[order][1:] != values[order][:-1], True]
    return float(np.abs(np.cumsum(steps)[last_of_value]).max())


def total_variation(a: Values, weights_a: Weights, b: Values, weights_b: Weights) -> float:
    """Half the sum of the differences between the two weighted shares of each value."""
    levels, positions = np.unique(np.concatenate([a, b]), return_inverse=True)
    steps = np.concatenate([weights_a, -weights_b])
    return float(np.abs(np.bincount(positions.ravel(), steps, len(levels))).sum() / 2)


@dataclass(frozen=True)
class Side:
    """One side's values of a column, which of them are present, and the class of each row."""

    values: Values
    present: NDArray[np.bool_]
    classes: NDArray[np.str_]

    def shared_with(self, other: Side, names: tuple[str, ...]) -> set[str]:
        """The known classes that have values on both sides."""
        mine, others = set(self.classes[self.present].tolist()), set(other.classes[other.present].tolist())
        return mine & others & set(names)

    def weights(self, shared: set[str]) -> Weights:
        """Equal masses for the shared classes; see :func:`class_weights`."""
        return class_weights(self.classes, self.present, shared)

    def missing_share(self) -> float:
        """The share of rows without a value, 0 without rows."""
        return float(1 - self.present.mean()) if len(self.present) else 0.0


class Sides(NamedTuple):
    """A column's values on all three sides, and the classes that are known."""

    real: Side
    synthetic: Side
    held_out: Side
    names: tuple[str, ...]

    def shared(self) -> set[str]:
        """The classes that real and synthetic rows are weighted over; all where they have none in common."""
        return self.real.shared_with(self.synthetic, self.names) or set(self.names)

    def missing(self) -> Missing:
        """The shares of rows without a value."""
        return Missing(self.real.missing_share(), self.synthetic.missing_share())


def measure(name: str, function: Measure, sides: Sides) -> Distance:
    """The distances between the sides by ``function``."""
    real, synthetic, held_out, names = sides
    by_class = {}
    for class_ in sorted(real.shared_with(synthetic, names), key=names.index):
        found = _between(function, real, synthetic, {class_})
        if found is not None:
            by_class[class_] = found
    return Distance(
        name,
        _between(function, real, synthetic, real.shared_with(synthetic, names)),
        _between(function, real, held_out, real.shared_with(held_out, names)),
        by_class,
    )


def _between(function: Measure, a: Side, b: Side, shared: set[str]) -> float | None:
    """The distance over the shared classes, null where there are none."""
    if not shared:
        return None
    weights_a, weights_b = a.weights(shared), b.weights(shared)
    kept_a, kept_b = weights_a > 0, weights_b > 0
    found = function(a.values[kept_a], weights_a[kept_a], b.values[kept_b], weights_b[kept_b])
    return round(min(1.0, max(0.0, found)), 6)
