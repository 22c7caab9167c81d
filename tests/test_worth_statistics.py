"""Worth's statistics: known scores, intervals that hold the true lift as often as they say, and words that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, wilcoxon
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, log_loss, recall_score

from augment.worth._resampling import Metric, _row_counts, _row_weights
from augment.worth._scores import average_precisions, score
from augment.worth.statistics import Interval, PairedLift, compare, holm, signed_rank_p, verdict

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Arms(NamedTuple):
    """Two arms of classifiers ``(S, N, K)``, the classes of the rows, and the lift over all seeds and all rows."""

    with_: Floats
    without: Floats
    y: Labels
    true_lift: float


def drawn_arms(
    draw: np.random.Generator, seeds: int, rows: Sequence[int], lift: float = 0.3, seed_spread: float = 0.05
) -> Arms:
    """Classifiers of two classes that are right where a sum of normal effects is positive, so that the lift is known.

    Rows are easy or hard (deviation 1), for one arm more than for the other (.3); arms of a seed are better or worse
    (``seed_spread``), both of a seed together (.1), and all of them stumble over some rows (.2).
    """
    y = np.repeat([0, 1], rows)
    n = len(y)
    effects = draw.normal(size=(n, 1)) + 0.3 * draw.normal(size=(n, 2)) + np.array([0.6 + lift, 0.6])
    of_seeds = 0.1 * draw.normal(size=(seeds, 1, 1)) + seed_spread * draw.normal(size=(seeds, 1, 2))
    right = effects + of_seeds + 0.2 * draw.normal(size=(seeds, n, 2)) > 0
    deviation = (1 + 0.3**2 + 0.1**2 + seed_spread**2 + 0.2**2) ** 0.5
    predicted = np.where(right, y[:, None], 1 - y[:, None])
    arms = [np.eye(2)[predicted[..., arm]] for arm in (0, 1)]
    return Arms(arms[0], arms[1], y, float(norm.cdf((0.6 + lift) / deviation) - norm.cdf(0.6 / deviation)))


def probabilities(seed: int, rows: int, classes: int, seeds: int = 3) -> tuple[Floats, Floats, Labels]:
    """Two arms that are right more often than not, and the classes of their rows."""
    draw = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    arms = draw.random((2, seeds, rows, classes))
    arms[..., np.arange(rows), y] += 0.3
    arms /= arms.sum(axis=-1, keepdims=True)
    return arms[0], arms[1], y


def of(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def width(interval: Interval | None) -> float:
    return of(interval).high - of(interval).low


# Scores


def test_scores_are_those_of_scikit_learn() -> None:
    found, _, y = probabilities(0, 300, 4)
    got = score(found[0], y, of_class=2)
    predicted = found[0].argmax(axis=1)
    assert got.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, predicted))
    assert got.macro_f1 == pytest.approx(f1_score(y, predicted, average="macro"))
    assert got.average_precision == pytest.approx(average_precision_score(y == 2, found[0][:, 2]))
    assert got.log_loss == pytest.approx(log_loss(y, found[0]))
    assert list(got.recalls.values()) == pytest.approx(recall_score(y, predicted, average=None))
    assert got.worst_recall == min(got.recalls.values()) == got.recalls[got.worst_class]


def test_classes_without_a_held_out_row_count_in_no_mean() -> None:
    found = np.eye(4)[[0, 0, 2, 3]]
    got = score(found, np.array([0, 0, 2, 2]))
    assert got.recalls == {0: 1.0, 2: 0.5}
    assert got.balanced_accuracy == 0.75
    assert got.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert (got.worst_class, got.worst_recall, got.average_precision) == (2, 0.5, None)


def test_a_classifier_that_is_as_sure_as_it_is_right_is_calibrated() -> None:
    y = np.repeat([0, 1], [70, 30])
    assert score(np.tile([0.7, 0.3], (100, 1)), y).calibration_error == pytest.approx(0)
    assert score(np.tile([0.9, 0.1], (100, 1)), y).calibration_error == pytest.approx(0.2)
    assert score(np.tile([1.0, 0.0], (100, 1)), y).log_loss == pytest.approx(0.3 * -np.log(np.finfo(float).eps))


def test_average_precision_weighs_rows_and_finds_equal_scores_together() -> None:
    draw = np.random.default_rng(0)
    scores, positive = draw.integers(0, 6, 80) / 5, draw.random(80) < 0.3
    weights = draw.integers(0, 4, (5, 80)).astype(np.float64)
    expected = [average_precision_score(positive, scores, sample_weight=weight) for weight in weights]
    assert average_precisions(scores, positive, weights) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "y", "reason"),
    [(2, [0, 1, 1], "2 rows do not fit 3 labels"), (0, [], "need held-out rows"), (2, [0, 3], "between 0 and 1")],
)
def test_scores_of_what_does_not_belong_together_are_refused(rows: int, y: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        score(np.full((rows, 2), 0.5), np.array(y, np.int64))


# The interval of a lift


def coverage(seeds: int, rows: tuple[int, int], trials: int, seed_spread: float) -> float:
    """The share of trials whose interval holds the true lift."""
    draw = np.random.default_rng(seeds)
    inside = 0
    for trial in range(trials):
        arms = drawn_arms(draw, seeds, rows, seed_spread=seed_spread)
        found = of(compare(arms.with_, arms.without, arms.y, "balanced_accuracy", trial, draws=200).interval)
        inside += found.low <= arms.true_lift <= found.high
    return inside / trials


def test_the_interval_holds_the_true_lift() -> None:
    """Where rows decide and where seeds do, with ten held-out rows of a class and with five hundred."""
    trials = {(90, 10): 120, (500, 500): 60}
    cases = [(seeds, rows, spread) for seeds in (3, 5, 8) for rows in trials for spread in (0.05, 0.3)]
    found = [coverage(seeds, rows, trials[rows], spread) for seeds, rows, spread in cases]
    assert np.average(found, weights=[trials[rows] for _, rows, _ in cases]) >= 0.95
    assert min(found) >= 0.9


@pytest.mark.prove
@pytest.mark.parametrize("rows", [(90, 10), (95, 5), (500, 500), (980, 20)])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_the_interval_holds_the_true_lift_in_many_trials(seeds: int, rows: tuple[int, int]) -> None:
    for seed_spread in (0.02, 0.05, 0.3):
        assert coverage(seeds, rows, 1000, seed_spread) >= 0.935


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_the_interval_is_no_wider_than_half_as_much_again_as_needed(seeds: int) -> None:
    """What is needed: the factor on all half-widths with which 95 % of the intervals would hold the true lift."""
    draw = np.random.default_rng(seeds)
    needed = []
    for trial in range(150):
        arms = drawn_arms(draw, seeds, (60, 40))
        found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", trial, draws=200)
        needed.append(abs(found.mean - arms.true_lift) / (width(found.interval) / 2))
    assert np.quantile(needed, 0.95) > 1 / 1.5


def test_seeds_alone_or_rows_alone_hold_the_true_lift_too_rarely() -> None:
    draw = np.random.default_rng(0)
    over_seeds = bootstrap = 0
    for trial in range(200):
        arms = drawn_arms(draw, 8, (90, 10))
        found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", trial, draws=200)
        over_seeds += of(found.over_seeds).low <= arms.true_lift <= of(found.over_seeds).high
        arms = drawn_arms(draw, 3, (500, 500), seed_spread=0.3)
        found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", trial, draws=100)
        bootstrap += of(found.bootstrap).low <= arms.true_lift <= of(found.bootstrap).high
    assert over_seeds < 0.85 * 200
    assert bootstrap < 0.9 * 200


def test_the_smallest_effect_is_shown_in_about_four_cases_of_five() -> None:
    draw = np.random.default_rng(1)
    effects, shown = [], 0
    for trial in range(200):
        arms = drawn_arms(draw, 5, (200, 200), lift=0.17)
        found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", trial, draws=200)
        assert found.smallest_effect is not None
        effects.append(found.smallest_effect)
        shown += of(found.interval).low > 0
    assert np.mean(effects) == pytest.approx(arms.true_lift, rel=0.1)
    assert 0.7 < shown / 200 < 0.92


def test_pairs_of_the_same_seed_and_rows_make_the_interval_narrower() -> None:
    arms = drawn_arms(np.random.default_rng(0), 8, (300, 300))
    paired = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", 0)
    order = np.concatenate([np.random.default_rng(1).permutation(300) + start for start in (0, 300)])
    other_rows = compare(arms.with_, arms.without[:, order], arms.y, "balanced_accuracy", 0)
    assert other_rows.mean == pytest.approx(paired.mean)
    assert width(other_rows.interval) > 1.2 * width(paired.interval)
    # seeds on which both arms stumble together
    stumble = np.repeat([0, 250], 4)
    with_, without = arms.with_.copy(), arms.without.copy()
    for seed, rows in enumerate(stumble):
        for arm in (with_, without):
            arm[seed, :rows] = arm[seed, :rows][:, [1, 0]]
    together = compare(with_, without, arms.y, "balanced_accuracy", 0)
    crossed = compare(with_, without[::-1], arms.y, "balanced_accuracy", 0)
    assert width(crossed.over_seeds) > 2 * width(together.over_seeds)


def test_more_held_out_rows_and_more_seeds_make_it_narrower() -> None:
    def typical(seeds: int, rows: tuple[int, int]) -> float:
        trials = [drawn_arms(np.random.default_rng(t), seeds, rows) for t in range(10)]
        return float(
            np.mean([width(compare(*arms[:3], "balanced_accuracy", 0, draws=200).interval) for arms in trials])
        )

    assert typical(8, (400, 400)) < 0.7 * typical(8, (100, 100))
    assert typical(8, (100, 100)) < 0.8 * typical(3, (100, 100))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "worst_recall", "recall", "average_precision"])
def test_the_same_predictions_lift_nothing(metric: Metric) -> None:
    arm, _, y = probabilities(0, 90, 3)
    found = compare(arm, arm.copy(), y, metric, 0, of_class=1, draws=50)
    assert found.mean == 0
    assert found.differences == (0, 0, 0)
    assert found.over_seeds == found.bootstrap == (0, 0)
    assert found.p_value == found.signed_rank_p == 1
    assert 0 < width(found.interval) / 2 < 1 / 30  # less than one held-out row of a class, of which there are 30


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "worst_recall", "recall", "average_precision"])
def test_a_lift_is_the_difference_of_scores_and_that_of_swapped_arms_is_its_negative(metric: Metric) -> None:
    with_, without, y = probabilities(3, 120, 3)
    found = compare(with_, without, y, metric, 0, of_class=1, draws=100)
    scores = [[score(p, y, 1) for p in arm] for arm in (with_, without)]
    taken = [[s.recalls[1] if metric == "recall" else getattr(s, metric) for s in arm] for arm in scores]
    assert found.differences == pytest.approx(np.subtract(*taken).tolist())
    swapped = compare(without, with_, y, metric, 0, of_class=1, draws=100)
    assert swapped.mean == pytest.approx(-found.mean)
    assert of(swapped.interval).low == pytest.approx(-of(found.interval).high)
    assert swapped.p_value == pytest.approx(found.p_value)


def test_the_seed_decides_the_draws() -> None:
    with_, without, y, _ = drawn_arms(np.random.default_rng(0), 3, (60, 60))
    first, again, other = (compare(with_, without, y, "macro_f1", seed, draws=100) for seed in (1, 1, 2))
    assert first == again
    assert first.interval != other.interval
    assert width(first.interval) == pytest.approx(width(other.interval), rel=0.2)


def test_rows_drawn_again_have_the_variance_of_a_recall() -> None:
    y = np.repeat([0, 1], [8, 50])
    with_ = np.eye(2)[np.where(np.isin(np.arange(58), [0, 1, 2]), 1 - y, y)][None].repeat(2, axis=0)
    without = np.eye(2)[y][None].repeat(2, axis=0)
    found = compare(with_, without, y, "recall", 0, of_class=0, draws=20_000)
    unbiased = np.var([-1, -1, -1, 0, 0, 0, 0, 0], ddof=1) / 8
    assert (width(found.interval) / 2 / norm.ppf(0.975)) ** 2 == pytest.approx(unbiased + (0.4 / 8) ** 2, rel=0.05)


def test_every_class_keeps_its_number_of_rows_in_every_draw() -> None:
    y = np.repeat([0, 1, 2], [1, 3, 60])
    counts = np.concatenate([*_row_counts(y, 50, 1, np.random.default_rng(0))])
    weights = _row_weights(counts, y)
    assert weights.shape == (50, 64)
    for label, rows in enumerate((1, 3, 60)):
        assert (counts[:, y == label].sum(axis=1) == max(rows - 1, 1)).all()
        assert weights[:, y == label].sum(axis=1) == pytest.approx(rows, rel=1e-5)


def test_the_p_value_is_at_five_hundredths_where_the_interval_touches_zero() -> None:
    arms = drawn_arms(np.random.default_rng(4), 5, (100, 100), lift=0.1)
    found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", 0)
    assert found.p_value is not None
    assert (found.p_value < 0.05) == (of(found.interval).low > 0)
    sure = drawn_arms(np.random.default_rng(4), 5, (100, 100), lift=2.0)
    small = compare(sure.with_, sure.without, sure.y, "balanced_accuracy", 0).p_value
    assert small is not None
    assert small < 0.01


def test_one_seed_has_a_lift_and_nothing_that_says_how_sure_it_is() -> None:
    arms = drawn_arms(np.random.default_rng(0), 1, (50, 50), lift=2.0)
    found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", 0)
    assert found.mean > 0.2
    assert found.interval is found.over_seeds is found.bootstrap is found.p_value is found.signed_rank_p is None
    assert verdict(found) == "not measurable here"


def test_what_cannot_be_compared_is_refused() -> None:
    with_, without, y = probabilities(0, 20, 2)
    with pytest.raises(ValueError, match=r"not \(3, 20, 2\) and \(2, 20, 2\)"):
        compare(with_, without[:2], y, "macro_f1", 0)
    with pytest.raises(ValueError, match="give of_class"):
        compare(with_, without, y, "average_precision", 0)
    with pytest.raises(ValueError, match="needs held-out rows of it and of others"):
        compare(with_, without, np.zeros(20, np.int64), "average_precision", 0, of_class=0)
    with pytest.raises(ValueError, match="'accuracy' is not one of"):
        compare(with_, without, y, "accuracy", 0)  # type: ignore[arg-type]


# Words


LIFT = PairedLift("macro_f1", None, 0.8, 0.7, 0.1, (0.1,), smallest_effect=0.02)


@pytest.mark.parametrize(
    ("low", "high", "smallest_effect", "expected"),
    [
        (0.01, 0.2, 0.2, "helps"),
        (-0.2, -0.01, 0.2, "harms"),
        (-0.01, 0.02, 0.04, "no clear difference"),
        (-0.01, 0.09, 0.06, "not measurable here"),
        (0.0, 0.04, 0.04, "no clear difference"),
    ],
)
def test_the_words_follow_from_the_interval_and_from_what_was_measurable(
    low: float, high: float, smallest_effect: float, expected: str
) -> None:
    lift = replace(LIFT, interval=Interval(low, high), smallest_effect=smallest_effect)
    assert verdict(lift) == expected


def test_what_counts_as_measurable_can_be_said() -> None:
    lift = replace(LIFT, interval=Interval(-0.01, 0.09), smallest_effect=0.06)
    assert verdict(lift, measurable_at=0.1) == "no clear difference"


# p-values


def test_holm_adjusts_as_by_hand() -> None:
    # .005 x 4, .01 x 3, .03 x 2, and .04 x 1 = .04 raised to the .06 before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_the_signed_rank_test_is_exact() -> None:
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)
    assert signed_rank_p([-0.1, 0.0, -0.2]) == pytest.approx(2 / 4)
    for seed in range(5):
        differences = np.random.default_rng(seed).normal(0.5, 1, 8)
        assert signed_rank_p(differences.tolist()) == pytest.approx(wilcoxon(differences, method="exact").pvalue)
    # ranks 1.5, 1.5, 3, of which all signs give the sums 0, 1.5 (twice), 3 (twice), 4.5 (twice), 6
    assert signed_rank_p([0.1, -0.1, 0.3]) == pytest.approx(2 * 3 / 8)


def test_no_smaller_p_than_the_smallest_comes_out_of_so_many_seeds() -> None:
    arms = drawn_arms(np.random.default_rng(0), 5, (100, 100), lift=2.0)
    found = compare(arms.with_, arms.without, arms.y, "balanced_accuracy", 0)
    assert found.signed_rank_p == found.smallest_p == 2 / 32
