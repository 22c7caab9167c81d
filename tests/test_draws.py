"""Rows are drawn from their likelihoods: as often as they are probable, near the median where they have levels."""

from __future__ import annotations

import math

import pytest
import torch

from models._contract import Span, TensorSpec
from models._heads import Heads, Observation
from models._levels import level_index

CASES: list[tuple[int, Observation]] = [(2, "bernoulli"), (17, "auto"), (256, "auto")]
every_level_head = pytest.mark.parametrize(("levels", "observation"), CASES)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _full_grain(monkeypatch: pytest.MonkeyPatch, grain: float) -> None:
    monkeypatch.setattr("models._heads.GRAIN", grain)
    monkeypatch.setattr("models._heads.SCALED_GRAIN", grain)


def _level_masses(levels: int, observation: Observation) -> tuple[Heads, torch.Tensor, torch.Tensor]:
    """A value with ``levels``, raw outputs ``(1, raw_size)`` and the probability of each level."""
    heads = Heads(TensorSpec((1, 1, 1), (Span("continuous", 1, levels),), 1), observation)
    raw = torch.randn(1, heads.raw_size, generator=_generator())
    if heads.heads[0].scaled:
        raw = torch.tensor([[0.2, -1.0]])
    x = torch.linspace(-1, 1, levels).reshape(levels, 1, 1, 1)
    return heads, raw, torch.exp(-heads.negative_log_likelihood(raw.repeat(levels, 1), x))


def test_continuous_values_are_drawn_with_their_mean_and_scale() -> None:
    heads = Heads(TensorSpec((2,), (Span("continuous", 2),), 1))
    raw = torch.tensor([[1.0, -2.0, math.log(0.5), math.log(2.0)]]).repeat(40_000, 1)
    for temperature in (1.0, 0.5):
        rows = heads.draw(raw, _generator(), temperature)
        torch.testing.assert_close(rows.mean(0), torch.tensor([1.0, -2.0]), atol=0.04, rtol=0)
        torch.testing.assert_close(rows.std(0), temperature * torch.tensor([0.5, 2.0]), atol=0.04, rtol=0)


def test_categories_are_drawn_as_often_as_they_are_probable() -> None:
    heads = Heads(TensorSpec((3,), (Span("categorical", 3),), 1))
    shares = torch.tensor([0.6, 0.3, 0.1])
    raw = shares.log().repeat(40_000, 1)
    rows = heads.draw(raw, _generator())
    assert torch.equal(rows.sum(1), torch.ones(len(rows)))
    torch.testing.assert_close(rows.mean(0), shares, atol=0.01, rtol=0)
    cold = heads.draw(raw, _generator(), 0.5)
    torch.testing.assert_close(cold.mean(0), shares.square() / shares.square().sum(), atol=0.01, rtol=0)


def test_the_centre_is_the_mean_the_median_and_the_likeliest_category() -> None:
    spans = (Span("continuous", 2), Span("categorical", 3), Span("continuous", 1, 256))
    heads = Heads(TensorSpec((6,), spans, 1))
    raw = torch.tensor([[0.3, -4.0, 0.1, 0.2, 0.5, 2.0, 1.0, 0.25, -1.0]])
    known = torch.tensor([[0.3, -4.0, 0.0, 1.0, 0.0, 0.25]])
    torch.testing.assert_close(heads.centre(raw), known)
    assert torch.equal(heads.centre(raw), heads.draw(raw, _generator(), 0.0))


@every_level_head
def test_a_level_without_grain_is_the_median(
    levels: int, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, raw, masses = _level_masses(levels, observation)
    _full_grain(monkeypatch, 0.0)
    rows = heads.draw(raw, _generator())
    assert rows.shape == (1, 1, 1, 1)
    median = int(level_index(rows, levels))
    assert masses[:median].sum() < 0.5 <= masses[: median + 1].sum()
    assert torch.equal(rows, heads.centre(raw))


@every_level_head
def test_a_level_in_full_grain_is_drawn_as_often_as_it_is_probable(
    levels: int, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, raw, masses = _level_masses(levels, observation)
    _full_grain(monkeypatch, 1.0)
    rows = heads.draw(raw.repeat(40_000, 1), _generator())
    assert rows.abs().max() <= 1
    shares = torch.bincount(level_index(rows, levels).flatten(), minlength=levels) / len(rows)
    torch.testing.assert_close(shares, masses, atol=0.01, rtol=0)


@pytest.mark.parametrize("levels", [17, 256])
def test_a_drawn_level_stays_nearer_to_the_median_than_a_full_draw(levels: int) -> None:
    heads, raw, masses = _level_masses(levels, "auto")
    rows = heads.draw(raw.repeat(20_000, 1), _generator()).flatten()
    mean = (masses * torch.linspace(-1, 1, levels)).sum()
    spread = (masses * (torch.linspace(-1, 1, levels) - mean).square()).sum().sqrt()
    assert 0 < rows.std() < 0.8 * spread


def test_a_gaussian_of_values_with_levels_stays_in_their_range() -> None:
    heads = Heads(TensorSpec((1,), (Span("continuous", 1, 256),), 1), "gaussian")
    rows = heads.draw(torch.tensor([[0.9, 0.0]]).repeat(20_000, 1), _generator())
    assert rows.max() == 1
    assert rows.min() >= -1
    assert rows.median().item() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_are_counted_from_minus_one(levels: int) -> None:
    assert torch.equal(level_index(torch.linspace(-1, 1, levels), levels), torch.arange(levels))
