"""Shortcut: a detector judges rows that it has not seen, and groups of classes show what looking generated tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _faults import only, orchard_court, refusing
from _faults import recognisable_scarce_classes as recognisable

from augment.checks.shortcut import _apart, _Side
from augment.worth._detector import FOLDS, Seen, detect, side_weights, weighted_auc
from models._contract import Span, TensorSpec

SPEC = TensorSpec((3,), (Span("continuous", 3),), 2)


def seen(rows: int, seed: int, measure: float = 0.0) -> Seen:
    """Noise of two classes by turns, with one measure that is the same in every row."""
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    return Seen(x, np.full((rows, 1), measure), torch.arange(rows) % 2)


def sides(generated: list[list[bool]], weights: list[list[float]] | None = None) -> _Side:
    """Rows of several classes that look generated or not."""
    y = np.repeat(np.arange(len(generated)), [len(rows) for rows in generated])
    weight = np.concatenate(weights) if weights else np.ones(len(y))
    return _Side(np.concatenate(generated), y, weight)


def test_every_class_has_the_same_mass_and_where_it_has_both_sides_each_has_half() -> None:
    y, side = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 1])
    weight = side_weights(y, side)
    assert [weight[y == label].sum() for label in (0, 1)] == pytest.approx([1, 1])
    assert weight[(y == 0) & (side == 0)].sum() == pytest.approx(0.5)
    assert weight[:3].tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_the_area_under_the_curve_is_the_chance_that_a_weighted_pair_is_in_order() -> None:
    draw = np.random.default_rng(0)
    high, low = draw.integers(0, 5, 30).astype(float), draw.integers(-1, 4, 40).astype(float)
    high_weight, low_weight = draw.random(30), draw.random(40)
    above = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    expected = high_weight @ above @ low_weight / high_weight.sum() / low_weight.sum()
    assert weighted_auc(high, high_weight, low, low_weight) == pytest.approx(expected)


def test_a_measure_that_is_a_little_off_is_seen_and_unseen_real_rows_look_real() -> None:
    found = detect(SPEC, seen(120, 1), seen(120, 2, measure=1e-6), seen(40, 3), 0)
    assert found.auc == pytest.approx(1)
    assert (found.unseen == 0).all()
    assert (found.synthetic > 0).all()


def test_rows_of_one_distribution_are_not_told_apart_though_a_detector_could_learn_them_by_heart() -> None:
    found = detect(SPEC, seen(150, 1), seen(150, 2), seen(40, 3), 0)
    assert 0.4 < found.auc < 0.62
    again = detect(SPEC, seen(150, 1), seen(150, 2), seen(40, 3), 0)
    assert np.array_equal(again.synthetic, found.synthetic)


def test_real_rows_of_a_small_class_look_as_generated_in_training_as_outside_it() -> None:
    """Detectors that learned from few real rows take others for synthetic; that must not tell the sides apart."""

    def rows(counts: tuple[int, int], seed: int) -> Seen:
        y = torch.arange(2).repeat_interleave(torch.tensor(counts))
        x = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(seed)) + y[:, None]
        return Seen(x, x[:, :2].double().numpy(), y)

    shares = []
    for seed in range(4):
        real, synthetic, other = rows((100, 10), 3 * seed), rows((30, 100), 3 * seed + 1), rows((20, 20), 3 * seed + 2)
        found = detect(SPEC, real, synthetic, other, seed)
        votes = found.unseen * FOLDS
        assert np.allclose(votes, votes.round()), "each detector judges by itself"
        assert 0 < found.unseen.mean() < 1
        shares.append([(found.real[100:] > 0).mean(), found.unseen[20:].mean()])
    of_training, of_others = np.mean(shares, axis=0)
    assert of_training == pytest.approx(of_others, abs=0.2)


def test_synthetic_rows_that_look_generated_in_one_class_alone_are_half_of_its_mass() -> None:
    half, none = [True] * 50 + [False] * 50, [False] * 100
    found = _apart(sides([none, half, none]), sides([none, none, none]), 0)
    assert found.group == [1]
    assert found.excess == pytest.approx(0.5, abs=0.12)
    assert found.excess > 0.15 + 2 * found.error


def test_synthetic_rows_that_look_generated_in_every_class_give_nothing_away() -> None:
    half, none = [True] * 50 + [False] * 50, [False] * 100
    found = _apart(sides([half, half, half]), sides([none, none, none]), 0)
    assert abs(found.excess) < 0.15


def test_what_real_rows_of_a_class_look_like_anyway_is_no_shortcut() -> None:
    most, none = [True] * 80 + [False] * 20, [False] * 100
    found = _apart(sides([none, most, none]), sides([none, most, none]), 0)
    assert abs(found.excess) < 0.15


def test_groups_are_chosen_on_other_rows_than_they_are_measured_on() -> None:
    """Of rows that look generated at random the most different group would differ by much where it was chosen."""
    draw = np.random.default_rng(0)
    excess = []
    for seed in range(20):
        ours, theirs = (sides([list(draw.random(10) < 0.5) for _ in range(8)]) for _ in range(2))
        excess.append(_apart(ours, theirs, seed).ours)
    assert abs(np.mean(excess)) < 0.1


def test_weights_within_a_class_decide_its_share() -> None:
    of_one = sides([[True, False], [False]], [np.array([3.0, 1.0]), np.array([1.0])])
    assert of_one.shares() == {0: 0.75, 1: 0.0}
    assert of_one.difference([0]) == 0.75
    assert of_one.difference([0, 1]) == 0


def test_rows_of_some_classes_alone_are_refused_where_they_can_be_recognised() -> None:
    gates = orchard_court().gates(recognisable, **only("shortcut"))
    assert refusing(gates) == ["shortcut"]
    assert gates["shortcut"].sentence.startswith("Of quince, beside the other classes")


def test_a_class_of_one_row_gives_nothing_away_and_is_no_hindrance() -> None:
    found = _apart(sides([[False] * 20, [True]]), sides([[False] * 20, [False]]), 0)
    assert found.excess <= 0.5
