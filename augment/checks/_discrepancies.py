"""Discrepancies T of a set of rows, the same of replicated sets, and how surprising an observed one is.

A set of rows is a row of *weights* over the real and synthetic rows of one class, so that many sets are evaluated by
one product of matrices. With weights w_i of sum 1, and every pair of two different rows counted once:

    mean(x)     = sum_i w_i x_i
    spread(x)^2 = (sum_i w_i x_i^2 - mean(x)^2) / (1 - sum_i w_i^2)          w_i = 1/n: the sample variance
    q(x)        = the smallest value that a share of q of the weight does not exceed
    distance    = sum_{i != j} w_i w_j |x_i - x_j| / sum_{i != j} w_i w_j    all numbers, each over its deviation

Leaving a row's pairs with itself out keeps spread and distance from shrinking where a set holds a row twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from augment._seeding import numpy_generator

Floats = NDArray[np.float64]
Statistic = Literal["mean", "spread", "low", "high", "distance"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
QUANTILES: dict[Statistic, float] = {"low": 0.1, "high": 0.9}
TITLES: dict[Statistic, str] = {
    "mean": "mean of {}",
    "spread": "spread of {}",
    "low": "10 % quantile of {}",
    "high": "90 % quantile of {}",
    "distance": "distance between rows",
}
FURTHEST = 0.02  # of the deals, whose mean is the unit of surprise
SETS_AT_ONCE = 250  # bounds the memory: weights of so many sets, and their values sorted
FEWEST_OF_A_SHARE = 5  # rows that a category has on the smaller side on average; below, its share is chance alone


class Discrepancies:
    """The discrepancies of sets of the given rows ``(rows, F)``.

    ``names`` are those of the F numbers; ``shares`` says which of them are 0 or 1 and so have a mean alone.
    """

    def __init__(
        self, numbers: Floats, names: Sequence[str], shares: NDArray[np.bool_], statistics: Sequence[Statistic]
    ) -> None:
        self._statistics = [name for name in STATISTICS if name in statistics]
        self._measures = np.flatnonzero(~shares).astype(np.intp)
        self._present = np.isfinite(numbers).astype(np.float64)
        counts = np.maximum(self._present.sum(axis=0), 1)
        filled = np.where(self._present > 0, numbers, 0.0)
        self._centre = filled.sum(axis=0) / counts
        from_centre = np.where(self._present > 0, numbers - self._centre, 0.0)
        deviation = np.sqrt((from_centre**2).sum(axis=0) / counts)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        self._values = from_centre / self._scale
        self._order = np.argsort(np.where(self._present > 0, numbers, np.inf), axis=0, kind="stable")
        self._distances = _distances(self._values[:, self._measures]) if "distance" in self._statistics else None
        self.titles = self._titles(names)

    def _titles(self, names: Sequence[str]) -> list[str]:
        titles = []
        for statistic in self._statistics:
            if statistic == "distance":
                titles += [TITLES[statistic]] * bool(len(self._measures))
            elif statistic == "mean":
                measures = set(self._measures.tolist())
                titles += [TITLES[statistic].format(n) if i in measures else n for i, n in enumerate(names)]
            else:
                titles += [TITLES[statistic].format(names[i]) for i in self._measures.tolist()]
        return titles

    def of(self, weights: Floats) -> Floats:
        """The discrepancies ``(S, J)`` of sets whose weights over the rows are ``(S, rows)``; NaN of no values."""
        found = []
        with np.errstate(invalid="ignore", divide="ignore"):
            total = weights @ self._present
            mean = weights @ self._values / total
            for statistic in self._statistics:
                if statistic == "mean":
                    found.append(self._centre + self._scale * mean)
                elif statistic == "spread":
                    found.append(self._spread(weights, total, mean)[:, self._measures])
                elif statistic == "distance":
                    found.append(self._mean_distance(weights))
                else:
                    found.append(self._quantiles(weights, total, QUANTILES[statistic]))
        return np.concatenate(found, axis=1)

    def _spread(self, weights: Floats, total: Floats, mean: Floats) -> Floats:
        variance = weights @ self._values**2 / total - mean**2
        twice_the_same = weights**2 @ self._present / total**2
        spread: Floats = self._scale * np.sqrt(np.maximum(variance, 0.0) / (1 - twice_the_same))
        return spread

    def _quantiles(self, weights: Floats, total: Floats, share: float) -> Floats:
        found = np.empty((len(weights), len(self._measures)))
        for place, number in enumerate(self._measures):
            order = self._order[:, number]
            below = np.cumsum(weights[:, order] * self._present[order, number], axis=1)
            reached = below >= (share * (1 - 1e-9)) * total[:, number, None]
            values = self._centre[number] + self._scale[number] * self._values[order, number]
            found[:, place] = np.where(total[:, number] > 0, values[reached.argmax(axis=1)], np.nan)
        return found

    def _mean_distance(self, weights: Floats) -> Floats:
        if not len(self._measures):
            return np.empty((len(weights), 0))
        assert self._distances is not None
        pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        return np.asarray((weights @ self._distances * weights).sum(axis=1) / pairs)[:, None]


@dataclass(frozen=True)
class Comparison:
    """The real rows of a class beside the synthetic ones, discrepancy by discrepancy.

    ``replicated`` are those of the replicated sets ``(S, J)``, ``p`` is Pr(T(rep) >= T(obs)) with ties counted half.
    ``surprise`` ``(S + 1, J)`` is how far apart real and synthetic rows are, first as they are, then dealt at random.
    Its unit is the mean of the furthest deals, one in fifty, so that a discrepancy of few values or with a long tail is
    no more surprising by chance than another. Discrepancies that hardly ever differ are not in it.
    """

    titles: list[str]
    observed: Floats
    replicated: Floats
    p: Floats
    surprise: Floats


def compare(
    real: Floats,
    synthetic: Floats,
    names: Sequence[str],
    shares: NDArray[np.bool_],
    statistics: Sequence[Statistic],
    sets: int,
    *seed: str,
) -> Comparison:
    """The real rows ``(n, F)`` of a class compared with the synthetic ones ``(m, F)``, by ``sets`` replicated sets.

    A replicated set has n rows. The synthetic rows are themselves a sample, of m, and which distribution they come from
    is known only so well; so their weights are drawn first, from Dirichlet(1, ..., 1) (Rubin, "The Bayesian bootstrap",
    1981), then n rows by these weights. Without that a small m would make good rows look surprising.
    """
    both = np.concatenate([real, synthetic])
    kept = _worth_looking_at(both, shares, min(len(real), len(synthetic)))
    both, shares = both[:, kept], shares[kept]
    discrepancies = Discrepancies(both, [name for name, k in zip(names, kept, strict=True) if k], shares, statistics)
    as_they_are = np.repeat([1.0, 0.0], [len(real), len(synthetic)])
    observed = discrepancies.of(as_they_are[None])[0]
    drawn = _replicated_weights(len(real), len(synthetic), sets, numpy_generator(*seed, "replicated"))
    replicated = np.concatenate([discrepancies.of(weights) for weights in drawn])
    deals = _dealt(as_they_are, sets, numpy_generator(*seed, "dealt"))
    apart = np.concatenate([discrepancies.of(deal) - discrepancies.of(1 - deal) for deal in deals])
    apart = np.where(np.isfinite(apart), apart, 0.0)
    distance = np.abs(apart - apart.mean(axis=0))
    furthest = math.ceil(FURTHEST * len(distance))
    unit = np.partition(distance, -furthest, axis=0)[-furthest:].mean(axis=0)
    varies = unit > 1e-9 * np.maximum(1e-3, np.abs(np.nan_to_num(observed)))
    varies &= np.isfinite(observed) & np.isfinite(replicated).any(axis=0)
    return Comparison(
        titles=[title for title, kept in zip(discrepancies.titles, varies, strict=True) if kept],
        observed=observed[varies],
        replicated=replicated[:, varies],
        p=_tail(observed, replicated)[varies],
        surprise=distance[:, varies] / unit[varies],
    )


def corrected(surprise: Floats, largest: Floats) -> Floats:
    """The p-value of each surprise, corrected for all others that were looked at (Westfall and Young 1993, maxT).

    ``largest`` is the largest surprise of all classes and discrepancies in each deal, the rows as they are first: where
    real and synthetic rows come from one distribution all deals are alike, so that the smallest corrected p-value is at
    most alpha with a chance of at most alpha, however many discrepancies there are and however they hang together.
    """
    ordered = np.sort(largest)
    # Equal sums may differ in their last bits.
    at_least = len(ordered) - np.searchsorted(ordered, surprise * (1 - 1e-9), side="left")
    found: Floats = at_least / len(ordered)
    return found


def _worth_looking_at(numbers: Floats, shares: NDArray[np.bool_], fewest: int) -> NDArray[np.bool_]:
    """All measures that have values, and the shares of which neither they nor their complement are too rare."""
    present = np.isfinite(numbers)
    rate = np.where(present, numbers, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    usual = np.minimum(rate, 1 - rate) * fewest >= FEWEST_OF_A_SHARE
    kept: NDArray[np.bool_] = np.where(shares, usual, present.any(axis=0))
    return kept


def _replicated_weights(real: int, synthetic: int, sets: int, draw: np.random.Generator) -> Iterator[Floats]:
    """The weights of replicated sets over the real rows (none) and the synthetic ones, in chunks."""
    for start in range(0, sets, SETS_AT_ONCE):
        count = min(SETS_AT_ONCE, sets - start)
        shares = draw.standard_exponential((count, synthetic))
        shares /= shares.sum(axis=1, keepdims=True)
        times = draw.multinomial(real, shares)
        yield np.concatenate([np.zeros((count, real)), times / real], axis=1)


def _dealt(as_they_are: Floats, sets: int, draw: np.random.Generator) -> Iterator[Floats]:
    """Which rows are called real: as they are, then dealt at random ``sets`` times, in chunks."""
    yield as_they_are[None]
    for start in range(0, sets, SETS_AT_ONCE):
        tiled = np.tile(as_they_are, (min(SETS_AT_ONCE, sets - start), 1))
        yield draw.permuted(tiled, axis=1)


def _tail(observed: Floats, replicated: Floats) -> Floats:
    """Pr(T(rep) >= T(obs)), ties counted half, never 0 or 1: so many sets cannot tell."""
    close = np.isclose(replicated, observed, rtol=1e-9, atol=1e-12)
    above = (replicated > observed) & ~close
    found: Floats = (0.5 + above.sum(axis=0) + 0.5 * close.sum(axis=0)) / (len(replicated) + 1)
    return found


def _distances(values: Floats) -> Floats:
    """The Euclidean distance between each two rows of ``(rows, F)``, 0 on the diagonal."""
    squares = (values**2).sum(axis=1)
    found: Floats = np.sqrt(np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0.0))
    np.fill_diagonal(found, 0.0)
    return found
