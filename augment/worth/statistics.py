"""How sure a difference is: the paired lift of synthetic rows, its interval, and the words for it.

Classifiers are trained in pairs, with and without synthetic rows, that share a seed and the held-out rows. Their
difference varies for two reasons: another seed would train other classifiers, and other held-out rows would judge them
otherwise. The interval is about both. With D_s the difference of seed s, S seeds, and Cov over draws of the rows::

    v_seeds  = var(D_s) / S               what seeds leave open; it holds the part of the rows that each seed meets anew
    v_shared = mean over s != t of Cov(D_s, D_t)       what the rows leave open however many seeds there are
    v_rows   = Var(mean D_s)                           what the rows leave open with these seeds

    half-width^2 = max(t^2 v_seeds + z^2 v_shared,  z^2 (v_seeds + v_rows))

with t of S - 1 degrees of freedom and z of the normal distribution. The first term adds the squares of two half-widths
(the MOVER of Zou and Donner 2008), where each part has the quantile that suits it: t for a sum of all variances would
be twice too wide with three seeds. v_shared is small only by luck when v_rows is not, hence the second term. To the
variances of the rows is added that of 0.4 rows of each class: recalls move in steps of one row, and a class with ten
held-out rows often shows no step where the next ten would. tests/test_worth_statistics.py simulates how often the true
lift is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from augment._seeding import numpy_generator
from augment.worth._resampling import OF_ONE_CLASS, Metric, check_metric, resampled_scores, scores_of
from augment.worth._scores import Floats, Labels, check_shapes

Verdict = Literal["helps", "no clear difference", "harms", "not measurable here"]

CONFIDENCE = 0.95
POWER = 0.8
UNSEEN_ROWS = 0.4  # the least with which the simulation covers 95 % with ten held-out rows of a class
NO_DIFFERENCE = 1e-12  # differences below it are rounding


class Interval(NamedTuple):
    """From ``low`` to ``high``, with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedLift:
    """What synthetic rows add to a score: ``mean`` over the seeds, and ``interval``, which accounts for seeds and rows.

    ``over_seeds`` (paired t) takes the held-out rows for all there are; ``bootstrap`` draws rows and seeds anew, and is
    too narrow with few seeds. ``p_value`` is the least level at which ``interval`` has no 0. ``signed_rank_p`` is
    Wilcoxon's, exact, of which no smaller one than ``smallest_p`` can come out of so many seeds. ``smallest_effect`` is
    the true lift that would have been shown in four cases of five. All of them are None with one seed.
    """

    metric: Metric
    of_class: int | None
    with_mean: float
    without_mean: float
    mean: float
    differences: tuple[float, ...]  # one a seed
    interval: Interval | None = None
    over_seeds: Interval | None = None
    bootstrap: Interval | None = None
    p_value: float | None = None
    signed_rank_p: float | None = None
    smallest_p: float | None = None
    smallest_effect: float | None = None


class _Variances(NamedTuple):
    """Of the mean difference, as the module says; and the seeds."""

    seeds: float
    shared: float
    rows: float
    num_seeds: int


def compare(
    with_: Floats,
    without: Floats,
    y: Labels,
    metric: Metric,
    seed: int,
    *,
    of_class: int | None = None,
    draws: int = 2_000,
) -> PairedLift:
    """The lift of the classifiers ``with_`` over those ``without`` synthetic rows.

    Both are probabilities ``(S, N, K)`` of the same held-out rows of the classes ``y`` ``(N,)``; the same place on the
    first axis is the same seed. ``of_class`` is the class of the metrics recall and average_precision: for the latter
    the one that is rarer in training. ``seed`` decides the ``draws`` of rows and seeds.

    Raises:
        ValueError: the shapes do not belong together, or the metric cannot be taken on these rows.
    """
    if with_.shape != without.shape or with_.ndim != 3 or not len(with_):
        raise ValueError(f"two arms of (seeds, rows, classes) are compared, not {with_.shape} and {without.shape}")
    check_shapes(with_, y)
    check_metric(metric, of_class, y)
    seeds = len(with_)
    both = np.concatenate([with_, without])
    plain = scores_of(both, y, metric, of_class)
    differences = plain[:seeds] - plain[seeds:]
    differences[np.abs(differences) < NO_DIFFERENCE] = 0
    mean = float(differences.mean())
    found = PairedLift(
        metric=metric,
        of_class=of_class if metric in OF_ONE_CLASS else None,
        with_mean=float(plain[:seeds].mean()),
        without_mean=float(plain[seeds:].mean()),
        mean=mean,
        differences=tuple(differences.tolist()),
    )
    if seeds == 1:
        return found
    generator = numpy_generator(seed, "worth", "rows", metric)
    again = resampled_scores(both, y, metric, of_class, draws, generator)
    drawn = again[:, :seeds] - again[:, seeds:]  # (D, S)
    variances = _variances(differences, drawn, _unseen_variance(y, metric, of_class))
    return replace(found, bootstrap=_crossed(drawn, generator), **_certainty(differences, variances))


def verdict(lift: PairedLift, measurable_at: float = 0.05) -> Verdict:
    """The words for a lift: what its interval says, and where that is nothing, whether it could have said anything.

    A lift of ``measurable_at`` must have been within reach of these seeds and held-out rows, in four cases of five, for
    there to be "no clear difference"; else the lift is "not measurable here".
    """
    if lift.interval is None or lift.smallest_effect is None:
        return "not measurable here"
    if lift.interval.low > 0:
        return "helps"
    if lift.interval.high < 0:
        return "harms"
    return "not measurable here" if lift.smallest_effect > measurable_at else "no clear difference"


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, adjusted for there being several (Holm 1979).

    Those adjusted to at most a are the ones that may be called real while the chance that any of them is not stays
    below a. The smallest is multiplied by their number, the next by one less, and none comes out below a smaller one.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(p_values) else steps
    return [float(p) for p in adjusted]


def signed_rank_p(differences: Sequence[float]) -> float:
    """Wilcoxon's signed-rank test of ``differences``, exact and two-sided.

    Differences of 0 are left out, and equal ones share the mean of their ranks: the distribution is that of the ranks
    that there are, under all 2^S choices of signs. Without a difference p is 1.
    """
    from scipy.stats import rankdata

    signed = np.round(np.array(differences, dtype=np.float64), 12)
    signed = signed[signed != 0]
    doubled = np.rint(2 * rankdata(np.abs(signed))).astype(np.int64)  # whole numbers with ties too
    ways = np.ones(1)  # of choosing signs, by the sum of the positive ranks
    for rank in doubled:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    positive = int(doubled[signed > 0].sum())
    tail = min(positive, len(ways) - 1 - positive)
    return float(min(1.0, 2 * ways[: tail + 1].sum() / ways.sum()))


def _certainty(differences: Floats, variances: _Variances) -> dict[str, Any]:
    """How sure the mean of the differences is, by the fields of the lift."""
    mean, seeds = float(differences.mean()), len(differences)
    half = _half_width(variances, 1 - CONFIDENCE)
    return {
        "interval": _around(mean, half),
        "over_seeds": _around(mean, _quantile((1 + CONFIDENCE) / 2, seeds) * variances.seeds**0.5),
        "p_value": _p_value(abs(mean), variances),
        "signed_rank_p": signed_rank_p(differences.tolist()),
        "smallest_p": 2.0 ** (1 - seeds),
        "smallest_effect": half + _half_width(variances, 2 * (1 - POWER)),
    }


def _variances(differences: Floats, drawn: Floats, unseen: float) -> _Variances:
    """From the differences ``(S,)`` and those on other draws of the rows ``(D, S)``."""
    seeds = len(differences)
    covariance = np.cov(drawn, rowvar=False)
    rows = float(covariance.mean())
    shared = max(0.0, float(covariance.sum() - covariance.trace()) / (seeds * (seeds - 1)))
    return _Variances(float(differences.var(ddof=1)) / seeds, shared + unseen, rows + unseen, seeds)


def _unseen_variance(y: Labels, metric: Metric, of_class: int | None) -> float:
    """What 0.4 rows of each class that counts would add to the variance of a score."""
    _, counts = np.unique(y, return_counts=True)
    if metric in OF_ONE_CLASS:
        return float((UNSEEN_ROWS / (y == of_class).sum()) ** 2)
    if metric == "worst_recall":
        return float((UNSEEN_ROWS / counts.min()) ** 2)
    return float(((UNSEEN_ROWS / counts) ** 2).sum()) / len(counts) ** 2


def _half_width(variances: _Variances, level: float) -> float:
    """Of the two-sided interval at a level, .05 for 95 %."""
    t, z = _quantile(1 - level / 2, variances.num_seeds), _quantile(1 - level / 2)
    apart = t**2 * variances.seeds + z**2 * variances.shared
    return float(max(apart, z**2 * (variances.seeds + variances.rows)) ** 0.5)


def _p_value(size: float, variances: _Variances) -> float:
    """The level at which the interval's half-width is the ``size`` of the lift."""
    from scipy.optimize import brentq

    smallest = 1e-12
    if _half_width(variances, smallest) <= size:
        return smallest
    return float(brentq(lambda level: _half_width(variances, level) - size, smallest, 1.0, xtol=1e-13))


def _crossed(drawn: Floats, generator: np.random.Generator) -> Interval:
    """The middle 95 % of the mean differences where each draw of rows has seeds drawn too; ``drawn`` is ``(D, S)``."""
    draws, seeds = drawn.shape
    chosen = generator.integers(0, seeds, (draws, seeds))
    means = np.take_along_axis(drawn, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _quantile(probability: float, num_seeds: int | None = None) -> float:
    """Of Student's t with a degree of freedom less than there are seeds; without them, of the normal distribution."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if num_seeds is None else stdtrit(num_seeds - 1, probability))


def _around(mean: float, half: float) -> Interval:
    return Interval(mean - half, mean + half)
