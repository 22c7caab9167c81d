"""Sample quality: each feature of the synthetic rows lies where the real rows' lies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from augment._features import resolutions
from augment.checks._contract import (
    Check,
    Evidence,
    Expect,
    Figures,
    Finding,
    Learned,
    RowFault,
    RowFigures,
    Shard,
    between,
    bounded,
    share,
)
from augment.checks._real import FOLDS, RealRows

if TYPE_CHECKING:
    import pandas as pd

Ranges = dict[str, tuple[float, float]]  # by feature


class SampleQuality(Check):
    """Refuses a set in which some feature is out of range too often.

    The range of a feature is [0.1 %, 99.9 %] of the training rows, widened on each side by a tenth of its length, and
    at least by one step of the grid on which the feature lives: a pixel, a grey level, the last decimal. The real rows
    may agree more closely than that grid can tell (MNIST's digits are moved until their centres of mass agree to half
    a pixel), and what differs by one step from rows that all agree is not of poor quality. The
    limit is 99 %, or what real rows reach themselves where that is less: a feature with heavy tails, or few training
    rows to measure it on, must not fail real data. They are judged by ranges that were learned without them: each fifth
    of the training rows by that of the other four (Stone, "Cross-validatory choice and assessment of statistical
    predictions", 1974), and the validation rows by that of all training rows. A handful of validation rows alone would
    give a floor of chance. The synthetic rows are a sample too: a set fails when its share is more than three standard
    errors below the limit, so that one row in fifty does not decide. The rows that are outside are rejected in any
    case. Missing values are not judged here but by structure.
    """

    kind: Literal["sample_quality"] = "sample_quality"
    summary: ClassVar[str] = "each feature lies within the training rows' range, widened a little"
    better: ClassVar[Literal["high", "low"] | None] = "high"

    inside: float = Field(
        0.99, gt=0, le=1, allow_inf_nan=False, description="Share of the rows that must be inside, feature by feature."
    )
    tail: float = Field(
        0.001, ge=0, lt=0.5, allow_inf_nan=False, description="Share of the training rows cut off at either end."
    )
    widen: float = Field(
        0.1, ge=0, le=10, allow_inf_nan=False, description="By how much of its length the range grows at either end."
    )

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The range of each feature, and the smallest share of real rows inside one that was learned without them."""
        first = next(real.batches("train"), None)
        steps = {} if first is None else resolutions(first, real.schema)
        ranges = self._ranges(real.train_features, steps)
        trials = [(ranges, real.validation_features)]
        for fold in range(FOLDS):
            left_out = real.train_folds == fold
            trials.append((self._ranges(real.train_features[~left_out], steps), real.train_features[left_out]))
        return {"ranges": ranges, "floor": _smallest_share(trials)}

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """Which rows are out of the range of a feature; Great Expectations judges the features themselves."""
        faults = []
        for feature, (low, high) in learned.figures["ranges"].items():
            values = shard.features[feature].to_numpy()
            outside = (values < low) | (values > high)
            if outside.any():
                faults.append(RowFault(outside, f"{_named(feature)} is outside {low:.6g} to {high:.6g}"))
        return RowFigures(faults=faults)

    def row_expectations(self, learned: Learned) -> list[Expect]:
        """Each feature mostly lies in its range."""
        limit = self._limit(learned)
        return [between(feature, low, high, limit) for feature, (low, high) in learned.figures["ranges"].items()]

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The smallest share inside of any feature, among the rows as first drawn."""
        rate, floor = self._limit(learned), learned.figures["floor"]
        shares, limits = {}, {}
        for feature in learned.figures["ranges"]:
            present = evidence.present(feature)
            if present:
                shares[feature] = 1 - share(evidence.unexpected(feature), present)
                limits[feature] = lowest_share(rate, present)
        if not shares:
            return Finding("No column has a range that synthetic rows could leave.", floor=floor, applies=False)
        worst = min(shares, key=lambda feature: shares[feature] - limits[feature])
        limit = limits[worst]
        real = "" if floor is None else f" (real rows that the range was learned without: {floor:.1%})"
        return Finding(
            f"{shares[worst]:.1%} of the synthetic rows are in the real range of {_named(worst)}, "
            f"the feature that fits least{real}; {limit:.1%} are required of so many rows.",
            value=shares[worst],
            floor=floor,
            limit=limit,
            metrics={"inside_share": shares[worst]},
            set_expectations=bounded("sample_quality.inside_share", limit, None),
        )

    def _ranges(self, features: pd.DataFrame, steps: Mapping[str, float]) -> Ranges:
        """The widened range of each feature that has a value at all; ``steps`` are those of the features' grids."""
        ranges = {}
        for feature in features.columns:
            values = features[feature].dropna().to_numpy()
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            low, high = (float(q) for q in np.quantile(values, [self.tail, 1 - self.tail]))
            # A constant keeps a range as wide as its rounding error.
            rounding = 1e-9 * max(abs(low), abs(high))
            room = max(self.widen * (high - low), steps.get(str(feature), 0.0), rounding)
            ranges[str(feature)] = (low - room, high + room)
        return ranges

    def _limit(self, learned: Learned) -> float:
        floor = learned.figures["floor"]
        return self.inside if floor is None else min(self.inside, float(floor))


def lowest_share(rate: float, rows: int) -> float:
    """The smallest share that ``rows`` rows at ``rate`` have but for chance: three standard errors less."""
    return max(0.0, rate - 3 * math.sqrt(rate * (1 - rate) / rows))


def _smallest_share(trials: Sequence[tuple[Ranges, pd.DataFrame]]) -> float | None:
    """The share of values inside the range of the feature that has the fewest there, over all trials; null of none."""
    inside: Counter[str] = Counter()
    present: Counter[str] = Counter()
    for ranges, rows in trials:
        for feature, (low, high) in ranges.items():
            values = rows[feature].dropna()
            inside[feature] += int(values.between(low, high).sum())
            present[feature] += len(values)
    return min((inside[feature] / rows for feature, rows in present.items() if rows), default=None)


def _named(feature: str) -> str:
    """How a person reads a feature: ``feature.image.mean`` is ``image.mean``."""
    return feature.removeprefix("feature.")
