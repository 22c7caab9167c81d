"""Rows become continuous values and return from them."""

from __future__ import annotations

import math

import pytest
import torch
from _model_cases import generator
from _toy_flows import GRID, MIXED

from models._continuous import as_continuous, as_rows
from models._contract import Span, TensorSpec
from models._levels import bin_width


@pytest.mark.parametrize("spec", [MIXED, GRID], ids=["vector", "grid"])
def test_rows_survive_the_way_to_continuous_values_and_back(spec: TensorSpec) -> None:
    rows = as_rows(spec, torch.randn(200, *spec.shape, generator=generator()))  # rows of the spec, by rounding
    values = as_continuous(spec, rows, generator(1))
    torch.testing.assert_close(as_rows(spec, values), rows)
    torch.testing.assert_close(as_rows(spec, as_continuous(spec, rows, None)), rows)
    assert torch.equal(as_rows(spec, rows), as_rows(spec, as_rows(spec, rows)))


def test_levels_are_spread_evenly_over_their_bins_and_no_further() -> None:
    rows = torch.zeros(4000, 6)
    rows[:, 2] = 1.0
    values = as_continuous(MIXED, rows, generator())
    moved = (values - rows)[:, 5]
    assert moved.abs().max() <= bin_width(5) / 2
    assert moved.std().item() == pytest.approx(bin_width(5) / math.sqrt(12), rel=0.05)
    assert torch.equal(values[:, 2:5], torch.tensor([[1.0, -1.0, -1.0]]).expand(4000, 3))
    assert torch.equal(values[:, :2], rows[:, :2])


def test_the_outermost_levels_stand_apart_and_forgive_noise_that_would_be_other_levels() -> None:
    spec = TensorSpec((256,), (Span("continuous", 256, 256),), 1)
    rows = torch.linspace(-1, 1, 256)[None]
    values = as_continuous(spec, rows, None)
    assert torch.equal(values[:, 1:-1], rows[:, 1:-1])
    noisy = values + 0.09 * torch.tensor([1.0, -1.0]).repeat(128)
    assert torch.equal(as_rows(spec, noisy)[:, [0, -1]], rows[:, [0, -1]])
