"""How many real rows synthetic ones are worth: exact on an exact power law, and silent where there is no curve."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from augment.worth.equivalence import MOST, equivalent_rows

ROWS = (25, 50, 100)


def power_law(rows: NDArray[np.float64] | float, seeds: int = 4) -> NDArray[np.float64]:
    """Scores of which twice the rows halve the error: e(n) = 10 / n; the same for all seeds."""
    return np.tile(1 - 10 / np.atleast_1d(rows), (seeds, 1))


CURVE = power_law(np.array(ROWS, dtype=np.float64))


@pytest.mark.parametrize("worth", [1.0, 40.0, 300.0, 600.0, -20.0, -60.0, -90.0])
def test_on_a_power_law_the_number_is_exact(worth: float) -> None:
    found = equivalent_rows(ROWS, CURVE, power_law(100 + worth)[:, 0])
    assert found.rows == pytest.approx(worth)
    assert (found.low, found.high) == (pytest.approx(worth), pytest.approx(worth))
    assert found.extrapolated == (worth > 0 or worth < -75)
    assert not found.capped


def test_what_adds_nothing_is_worth_no_row() -> None:
    found = equivalent_rows(ROWS, CURVE, CURVE[:, -1])
    assert found.rows == pytest.approx(0)
    assert not found.extrapolated
    assert found.sentence.startswith("The synthetic rows are worth no real row")


def test_the_sentence_says_what_was_gained_or_lost_and_from_what() -> None:
    gained = equivalent_rows(ROWS, CURVE, power_law(140.0)[:, 0]).sentence
    assert gained == (
        "The synthetic rows do as much as 40 more real rows of each scarce class, of which there are 100 "
        "(95 % of draws of the seeds: 40 to 40); extrapolated, since more than 100 were never measured."
    )
    lost = equivalent_rows(ROWS, CURVE[:1], power_law(60.0, seeds=1)[:, 0]).sentence
    assert lost == "The synthetic rows do as much harm as losing 40 of the 100 real rows of each scarce class."


def test_beyond_eight_times_the_rows_it_says_no_more_than_that() -> None:
    for target in (power_law(100.0 * MOST + 1)[:, 0], np.ones(4)):
        found = equivalent_rows(ROWS, CURVE, target)
        assert found.rows == 700
        assert found.capped
        assert found.extrapolated
        assert found.sentence == "No fewer than 8 times the 100 real rows of each scarce class would do as much."


def test_between_measured_sizes_the_curve_goes_through_what_was_measured() -> None:
    bent = np.tile([0.5, 0.8, 0.82], (3, 1))
    assert equivalent_rows(ROWS, bent, np.full(3, 0.8)).rows == pytest.approx(-50)
    assert equivalent_rows(ROWS, bent, np.full(3, 0.82)).rows == pytest.approx(0)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.7, 0.7, 0.7], "did not raise the score measurably"),
        ([0.8, 0.75, 0.7], "did not raise the score measurably"),
        ([0.7, 0.9, 0.8], "did not rise with each step"),
        ([0.9, 0.95, 1.0], "leave no error"),
    ],
)
def test_without_a_rising_curve_there_is_a_reason_and_no_number(scores: list[float], reason: str) -> None:
    found = equivalent_rows(ROWS, np.tile(scores, (4, 1)), np.full(4, 0.8))
    assert found.rows is found.low is found.high is None
    assert reason in found.sentence


def test_a_rise_that_seeds_disagree_about_is_no_curve() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (5, 3))
    assert equivalent_rows(ROWS, np.array([0.7, 0.705, 0.71]) + noise, np.full(5, 0.8)).rows is None


def test_the_interval_is_wider_where_seeds_disagree_and_holds_the_number() -> None:
    draw = np.random.default_rng(0)

    def found(spread: float) -> tuple[float, float, float]:
        noise = draw.normal(0, spread, (8, 4))
        got = equivalent_rows(ROWS, CURVE[:1] + noise[:, :3], 1 - 10 / 140 + noise[:, 3])
        assert got.rows is not None
        assert got.low is not None
        assert got.high is not None
        return got.low, got.rows, got.high

    sharp, vague = found(0.002), found(0.02)
    assert sharp[0] < sharp[1] < sharp[2]
    assert sharp[0] < 40 < sharp[2]
    assert vague[2] - vague[0] > 2 * (sharp[2] - sharp[0])


def test_the_interval_holds_the_true_number_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    inside = 0
    for trial in range(40):
        noise = draw.normal(0, 0.01, (5, 4))
        got = equivalent_rows(ROWS, CURVE[:1] + noise[:, :3], 1 - 10 / 140 + noise[:, 3], trial)
        assert got.low is not None
        assert got.high is not None
        inside += got.low <= 40 <= got.high
    assert inside >= 36


def test_one_seed_has_a_number_without_an_interval() -> None:
    found = equivalent_rows(ROWS, CURVE[:1], power_law(140.0, seeds=1)[:, 0])
    assert found.rows == pytest.approx(40)
    assert found.low is found.high is None


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="two sizes that rise"):
        equivalent_rows([50, 50], CURVE[:, :2], CURVE[:, 0])
    with pytest.raises(ValueError, match="of 3 seeds do not fit 3 sizes"):
        equivalent_rows(ROWS, CURVE, CURVE[:3, 0])
