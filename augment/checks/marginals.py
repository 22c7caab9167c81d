"""Marginals: the values of each column are distributed as those of the real rows, classes weighted equally."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from augment.checks._class_numbers import codes_of
from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, RowFigures, Shard, bounded
from augment.checks._discrepancies import Floats
from augment.checks._distances import kolmogorov_smirnov, total_variation
from augment.checks._real import RealRows
from augment.checks._sides import Column, Sides, Worst, learn_sides, short, sides_of, within_chance, worst_of

GATE = "marginals"
DEALS = 300  # of the rows into sides
DRAWN = 40  # columns whose distributions are kept, the furthest ones
BINS = 20


class Marginals(Check):
    """Refuses a set in which some column is distributed unlike that of the real rows.

    The distance of a number, or of a measure of an image (mean, contrast, sharpness, ...), is that of Kolmogorov and
    Smirnov (1933, 1939), the largest difference of the two distribution functions; that of a column's categories is the
    total variation, half the sum of the differences of their shares. Missing is a category. The dozen most frequent
    categories are told apart; the others count as one. Classes weigh the same on both sides, since a plan changes their
    shares on purpose.

    The real rows are those of training and validation; the synthetic ones are as first drawn, or as they will be
    published where rows are selected. The limit of a column is the setting, or what chance alone makes of so few rows
    where that is more: the rows of both sides are dealt anew 300 times, and in none of the deals is any column above
    its limit. The floor is the usual distance in the deals.

    What is measured in a value, as in an image, has a limit of its own, since images that an autoencoder made are a
    little less sharp than real ones. The largest distance of any measure was .17 on scikit-learn's digits (vae, iaf_vae
    and warp_vae with their defaults), .58 on Fashion-MNIST and .66 on MNIST (vae trained on 60 or 300 images of a
    class). Real images are further away in all three: .99 once they are blurred with a 3 x 3 box or a Gaussian of 0.7
    pixels, .93 with half the contrast, .97 inverted and .75 with noise of 25 grey levels, or more.
    """

    kind: Literal["marginals"] = "marginals"
    summary: ClassVar[str] = "each column is distributed as in the real rows, classes weighted equally"
    better: ClassVar[Literal["high", "low"] | None] = "low"

    warns: float = Field(
        0.15, ge=0, le=1, allow_inf_nan=False, description="The largest distance of a column that is not warned of."
    )
    refuses: float = Field(
        0.30, ge=0, le=1, allow_inf_nan=False, description="The largest distance of a column that is not refused."
    )
    refuses_measured: float = Field(
        0.75, ge=0, le=1, allow_inf_nan=False, description="The same of what is measured in values, as in images."
    )

    @model_validator(mode="after")
    def _warns_first(self) -> Marginals:
        if self.warns > min(self.refuses, self.refuses_measured):
            raise ValueError(f"warns {self.warns:g} is above what is refused; set refuses and refuses_measured too")
        return self

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The numbers of a few training and validation rows of each class."""
        return learn_sides(real, folder)

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """The place of each category in the list that was learned, one column a column; -1 where it is not in it."""
        codes = codes_of(shard.table, shard.schema, learned.figures["categories"])
        return RowFigures({f"{GATE}.{name}": column for name, column in codes.items()})

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The distance of the column that is furthest beyond its limit, or nearest to it."""
        sides = sides_of(evidence, learned, GATE)
        if not sides.columns or not sides.classes:
            said = "No class has five real and as many synthetic rows with something to compare."
            return Finding(said, applies=False)
        real, synthetic = sides.weights
        distances = _of_columns(sides, real[None], synthetic[None])[0]
        usual, chance = within_chance(
            np.concatenate([_of_columns(sides, *dealt) for dealt in sides.deals(DEALS, GATE)])
        )
        hard = np.array([self.refuses_measured if column.measured else self.refuses for column in sides.columns])
        refuses = np.maximum(hard, chance)
        worst = worst_of(distances, usual, np.maximum(self.warns, chance), refuses)
        return Finding(
            _sentence(sides.columns[worst.place], worst),
            value=worst.value,
            floor=worst.floor,
            limit=worst.limit,
            metrics={"distance": worst.value},
            set_expectations=bounded(f"{GATE}.distance", None, worst.limit),
            severity=worst.severity,
            details={
                "classes": sides.classes,
                "columns": list(_described(sides, distances, refuses)),
            },
        )


def _sentence(column: Column, worst: Worst) -> str:
    of_what = "shares of categories" if column.texts else "distribution"
    verdict = "refused" if worst.refused else "warned of"
    return (
        f"Classes weighted equally, synthetic and real rows differ most in the {of_what} of {column.name}: by "
        f"{worst.value:.2f} of 1 (by chance alone: {worst.floor:.2f}); more than {worst.limit:.2f} is {verdict}."
    )


def _of_columns(sides: Sides, first: Floats, second: Floats) -> Floats:
    """The distance of each column under two weights ``(B, N)``, ``(B, columns)``; 0 where a side has no value of it."""
    found: list[Floats] = []
    for column in sides.columns:
        if column.texts:
            found.append(total_variation(sides.numbers[:, column.lanes], first, second))
        else:
            found.append(kolmogorov_smirnov(sides.numbers[:, column.lanes.start], first, second))
    return np.nan_to_num(np.stack(found, axis=1))


def _described(sides: Sides, distances: Floats, refuses: Floats) -> Iterator[dict[str, Any]]:
    """The columns as JSON values, the furthest first, with what a report draws of them."""
    for rank, place in enumerate(np.argsort(-distances, kind="stable").tolist()):
        column = sides.columns[place]
        figures = {"name": column.name, "distance": short(distances[place]), "limit": short(refuses[place])}
        drawn = (_shares(sides, column) if column.texts else _histogram(sides, column)) if rank < DRAWN else {}
        yield {**figures, **drawn}


def _shares(sides: Sides, column: Column) -> dict[str, Any]:
    """The shares of the categories on both sides; null stands for missing, and what is left of 1 for all others."""
    both = (weights @ sides.numbers[:, column.lanes] for weights in sides.weights)
    real, synthetic = ([short(share) for share in shares] for shares in both)
    return {"categories": list(column.texts), "real": real, "synthetic": synthetic}


def _histogram(sides: Sides, column: Column) -> dict[str, Any]:
    """The shares of the numbers in equal bins over the range of both sides; missing ones are in none."""
    values = sides.numbers[:, column.lanes.start]
    there = np.isfinite(values)
    if not there.any():
        return {}
    low, high = float(values[there].min()), float(values[there].max())
    if high <= low:
        low, high = low - 0.5, low + 0.5
    both = (np.histogram(values[there], BINS, (low, high), weights=w[there])[0] for w in sides.weights)
    real, synthetic = ([short(share) for share in shares] for shares in both)
    return {"low": float(f"{low:.6g}"), "high": float(f"{high:.6g}"), "real": real, "synthetic": synthetic}
