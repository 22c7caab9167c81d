"""The toy mixtures count what they say: real rows cover all modes, lost modes and strays are found."""

from __future__ import annotations

import math

import pytest
import torch
from _toy_mixtures import (
    DEVIATION,
    RING_CENTRES,
    SCALE,
    SPACING,
    Covered,
    StackJudge,
    load_digits,
    plane_covered,
    plane_rows,
    ring_covered,
    ring_rows,
    stacked_rows,
)


@pytest.mark.parametrize("classes", [1, 5])
def test_rows_of_the_25_gaussians_cover_them(classes: int) -> None:
    labels = torch.arange(5000) % classes
    rows = plane_rows(labels, classes, seed=1)
    torch.testing.assert_close(rows.x.std(0), torch.ones(2), atol=0.02, rtol=0)
    modes, of, share = plane_covered(rows.x, labels, classes)
    assert (modes, of) == (25, 25)
    assert share == pytest.approx(1 - torch.tensor(-4.5).exp().item(), abs=0.005)  # P(|n| < 3) on the plane


def test_a_mode_that_is_lost_and_rows_between_modes_are_found() -> None:
    labels = torch.arange(5000) % 5
    x = plane_rows(labels, 5, seed=1).x
    lost = x.clone()
    lost[x[:, 1] > 1] -= torch.tensor([0.0, 0.35])  # the uppermost row of the grid falls between two others
    assert plane_covered(lost, labels, 5).modes == 20
    assert plane_covered(lost, labels, 5).share < 0.81
    assert plane_covered(x, (labels + 1) % 5, 5) == Covered(0, 25, 0.0)  # modes of other classes do not count
    assert plane_covered(x + 4 * DEVIATION / SCALE, labels, 5).share < 0.1
    spread = 5 * (torch.rand(5000, 2, generator=torch.Generator().manual_seed(1)) - 0.5) * SPACING / SCALE
    assert plane_covered(spread, torch.zeros(5000, dtype=torch.int64), 1).modes == 0  # no mode by chance


def test_rows_of_the_ring_cover_it_and_lost_modes_and_strays_are_found() -> None:
    x = ring_rows(4000, seed=1).x
    assert x.std(0).tolist() == pytest.approx([1, 1], abs=0.02)
    assert ring_covered(x)[:2] == (8, 8)
    assert ring_covered(x).share == pytest.approx(1 - math.exp(-4.5), abs=0.005)
    assert ring_covered(x.abs()).modes == 3  # those of one quadrant, its edges among them
    assert ring_covered(1.5 * x).share < 0.02
    assert ring_covered(RING_CENTRES[:1].expand(50, 2)) == Covered(1, 8, 1.0)


def test_stacks_of_digits_show_all_numbers_and_fewer_are_found() -> None:
    digits = load_digits()
    judge = StackJudge(digits)
    rows = stacked_rows(digits, 3000, seed=1)
    assert rows.x.min() == -1
    assert rows.x.max() == 1
    assert judge.covered(rows.x) == pytest.approx(1000 * (1 - math.exp(-3)), abs=25)
    assert judge.divergence(rows.x) == pytest.approx(1 / 6, abs=0.05)  # (modes - 1) / (2 rows): there are no more rows
    first_is_one = stacked_rows(digits, 1000, seed=2).x
    first_is_one[:, 0] = digits.pixels[digits.digit == 1][0].reshape(8, 8)
    assert judge.covered(first_is_one) <= 100
    assert judge.divergence(first_is_one) > 2
    assert judge.covered(torch.zeros(50, 3, 8, 8)) == 1
