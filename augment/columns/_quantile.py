"""Numbers of any distribution as numbers of the standard normal distribution, and back.

A value that many rows share has no single quantile but a whole plateau of them, so it is spread over its plateau by a
random draw: encoded training rows are normally distributed even where 92 of 100 rows are zero, and every point of a
plateau comes back as exactly its value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

NUM_KNOTS = 1_000
MOST_PLATEAUS = 256  # with more different values than this their order between the knots is kept, not each value
# Values that mostly occur once are points of a continuum: were they all there is, every synthetic value of a small
# table would be a copy of a real one.
LEAST_REPEATS = 2
SAMPLE_ROWS = 100_000  # rows from which the knots are taken when there are more
# Encoded values are 32-bit floats. A plateau narrower than this, or a draw nearer to its edge, could be rounded into
# the neighbour.
SMALLEST_SHARE = 1e-6
EDGE = 2e-7

Numbers = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class QuantileTransform(BaseModel):
    """Values in rising order with the cumulative shares at which they are reached.

    ``exact``: the values are all that occur, and ``shares[i]`` is the share of rows up to and including value i. Else
    they are knots, and ``shares[i]`` is the quantile of knot i.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact: bool
    values: tuple[int, ...] | tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def fit(cls, arrays: Iterable[Numbers], generator: np.random.Generator) -> QuantileTransform:
        """What is learnt from arrays of present values (all int64 or all float64), in bounded memory."""
        counts = _DistinctCounts()
        sample = _Sample(generator)
        for array in arrays:
            counts.add(array)
            sample.add(array)
        if counts.values is not None and counts.counts.sum() >= LEAST_REPEATS * len(counts.values):
            shares = np.maximum(counts.counts / max(1, counts.counts.sum()), SMALLEST_SHARE)
            cumulative = np.cumsum(shares / shares.sum()) if len(shares) else shares
            return cls(exact=True, values=tuple(counts.values.tolist()), shares=tuple(cumulative.tolist()))
        values = np.sort(sample.values)
        index = np.unique(np.rint(np.linspace(0, len(values) - 1, NUM_KNOTS)).astype(np.int64))
        knots = values[index]
        knots[0], knots[-1] = sample.smallest, sample.largest
        return cls(exact=False, values=tuple(knots.tolist()), shares=tuple(((index + 0.5) / len(values)).tolist()))

    def encode(self, values: Numbers, generator: np.random.Generator) -> Floats:
        """A normal draw for each value, shape (n,): inside its plateau, or at its quantile."""
        if not self.values:
            return generator.standard_normal(len(values))
        known = np.array(self.values, values.dtype)
        if self.exact:
            index = nearest(known, values)
            upper = np.array(self.shares)[index]
            lower = np.concatenate([[0.0], self.shares])[index]
            return normal_quantile(_inside(lower, upper, generator))
        values = np.clip(values, known[0], known[-1])
        first = np.searchsorted(known, values, "left")
        last = np.searchsorted(known, values, "right") - 1  # first - 1 where the value is between two knots
        shares = np.array(self.shares)
        scale = _scale(known)
        normal = np.interp(values / scale, known / scale, normal_quantile(shares))
        at_knots = last > first
        normal[at_knots] = normal_quantile(_inside(shares[first[at_knots]], shares[last[at_knots]], generator))
        return normal

    def decode(self, normal: Floats, dtype: npt.DTypeLike) -> Numbers:
        """The value at each normal quantile, shape (n,); int64 values are rounded."""
        known = np.array(self.values, dtype)
        if not len(known):
            return np.zeros(len(normal), dtype)
        if self.exact:
            edges = normal_quantile(np.array(self.shares[:-1]))
            plateaus: Numbers = known[np.searchsorted(edges, normal)]
            return plateaus
        scale = _scale(known)
        values: Floats = np.interp(normal, normal_quantile(np.array(self.shares)), known / scale) * scale
        if np.issubdtype(known.dtype, np.integer):
            # 2^63 is a double, and one too many for int64.
            return np.clip(np.rint(values).clip(-(2.0**63), 2.0**63 - 1024).astype(np.int64), known[0], known[-1])
        return values

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value of the training rows; (0, 0) where there are none."""
        return (float(self.values[0]), float(self.values[-1])) if self.values else (0.0, 0.0)


def _scale(known: Numbers) -> float:
    """What numbers are divided by so that the difference of the largest two is no infinity; mostly 1."""
    return 4.0 if max(abs(float(known[0])), abs(float(known[-1]))) > 2.0**1022 else 1.0


def nearest(known: Numbers, values: Numbers) -> npt.NDArray[np.int64]:
    """The index of the element of ``known`` (rising) that is nearest to each value."""
    right = np.searchsorted(known, values).clip(0, len(known) - 1)
    left = (right - 1).clip(0)
    is_left = np.abs(values - known[left].astype(np.float64)) < np.abs(known[right] - values.astype(np.float64))
    return np.where(is_left & (known[right] != values), left, right).astype(np.int64)


def normal_quantile(share: Floats) -> Floats:
    """The standard normal distribution's quantile of each share in (0, 1)."""
    import torch

    quantiles: Floats = torch.special.ndtri(torch.from_numpy(np.ascontiguousarray(share))).numpy()
    return quantiles


def _inside(lower: Floats, upper: Floats, generator: np.random.Generator) -> Floats:
    """A uniform draw between each pair of shares, a little away from both."""
    margin = np.minimum(EDGE, 0.1 * (upper - lower))
    shares: Floats = lower + margin + generator.random(len(lower)) * (upper - lower - 2 * margin)
    return shares


class _DistinctCounts:
    """How often each value occurs; ``values`` is null once there are more than can be plateaus."""

    def __init__(self) -> None:
        self.values: Numbers | None = np.zeros(0, np.float64)
        self.counts = np.zeros(0, np.int64)

    def add(self, array: Numbers) -> None:
        if self.values is None or not len(array):
            return
        found, counts = np.unique(array, return_counts=True)
        merged = np.unique(np.concatenate([self.values.astype(array.dtype), found]))
        if len(merged) > MOST_PLATEAUS:
            self.values = None
            return
        totals = np.zeros(len(merged), np.int64)
        totals[np.searchsorted(merged, self.values.astype(array.dtype))] += self.counts
        totals[np.searchsorted(merged, found)] += counts
        self.values, self.counts = merged, totals


class _Sample:
    """A uniform sample of bounded size: each row draws a number, and the smallest numbers stay."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._draws = np.zeros(0)
        self.values = np.zeros(0)
        self.smallest: Any = None
        self.largest: Any = None

    def add(self, array: Numbers) -> None:
        if not len(array):
            return
        draws = np.concatenate([self._draws, self._generator.random(len(array))])
        values = np.concatenate([self.values.astype(array.dtype), array])
        low, high = array.min(), array.max()
        self.smallest = low if self.smallest is None else min(low, self.smallest)
        self.largest = high if self.largest is None else max(high, self.largest)
        if len(draws) > SAMPLE_ROWS:
            kept = np.sort(np.argpartition(draws, SAMPLE_ROWS)[:SAMPLE_ROWS])
            draws, values = draws[kept], values[kept]
        self._draws, self.values = draws, values
