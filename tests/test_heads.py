"""Likelihoods are exact, in nats, and rows are drawn from what the raw outputs say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Normal

from models._contract import Span, TensorSpec
from models._heads import (
    LOG_SCALE_RANGE,
    draw,
    level_index,
    logistic_log_mass,
    negative_log_likelihood,
    outputs_per_value,
    raw_size,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _raw(spec: TensorSpec, rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, raw_size(spec), generator=_generator(seed))


def _levels(count: int) -> torch.Tensor:
    return torch.linspace(-1, 1, count)


@pytest.mark.parametrize("levels", [2, 17, 32, 33, 256])
@pytest.mark.parametrize("log_scale", [-20.0, -3.0, 0.0, 5.0])
def test_the_probabilities_of_all_levels_sum_to_one(levels: int, log_scale: float) -> None:
    spec = TensorSpec((1,), (Span("continuous", 1, levels),), 1)
    raw = _raw(spec, 1).double()
    if outputs_per_value(spec.spans[0]) == 2:
        raw[0, 1] = log_scale
    nll = negative_log_likelihood(spec, raw.repeat(levels, 1), _levels(levels)[:, None])
    assert torch.exp(-nll.double()).sum().item() == pytest.approx(1, abs=1e-5)


def test_a_bin_has_the_mass_between_its_edges() -> None:
    location, log_scale, levels = 0.1, -2.0, 256
    x = _levels(levels)[100:101]
    half = 1 / (levels - 1)
    edges = torch.tensor([x.item() - half, x.item() + half], dtype=torch.float64)
    lower, upper = torch.sigmoid((edges - location) / math.exp(log_scale))
    outputs = torch.tensor([[[location], [log_scale]]], dtype=torch.float64)
    mass = logistic_log_mass(outputs, x.double()[None], levels)
    assert mass.item() == pytest.approx(math.log(upper - lower), abs=1e-9)


def test_a_bin_far_in_the_tail_has_a_finite_gradient() -> None:
    outputs = torch.tensor([[[1.0], [-7.0]]], requires_grad=True)
    mass = logistic_log_mass(outputs, torch.tensor([[-0.5]]), 256)
    mass.sum().backward()
    assert torch.isfinite(mass).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_a_continuous_span_has_the_density_of_a_gaussian() -> None:
    spec = TensorSpec((3,), (Span("continuous", 3),), 1)
    raw, x = _raw(spec, 5), torch.randn(5, 3, generator=_generator(1))
    expected = -Normal(raw[:, :3], raw[:, 3:].exp()).log_prob(x).sum(1)
    torch.testing.assert_close(negative_log_likelihood(spec, raw, x), expected)


def test_a_scale_stays_above_its_floor() -> None:
    spec = TensorSpec((1,), (Span("continuous", 1),), 1)
    nll = negative_log_likelihood(spec, torch.tensor([[0.0, -100.0]]), torch.zeros(1, 1))
    assert nll.item() == pytest.approx(LOG_SCALE_RANGE[0] + 0.5 * math.log(2 * math.pi))


def test_a_categorical_span_has_the_cross_entropy_of_its_category() -> None:
    spec = TensorSpec((4,), (Span("categorical", 4),), 1)
    raw, index = _raw(spec, 6), torch.tensor([0, 1, 2, 3, 0, 1])
    x = torch.nn.functional.one_hot(index, 4).float()
    torch.testing.assert_close(negative_log_likelihood(spec, raw, x), -Categorical(logits=raw).log_prob(index))


def test_the_spans_of_a_row_add_up() -> None:
    parts = [Span("continuous", 2), Span("categorical", 3), Span("continuous", 1, 17), Span("continuous", 1, 256)]
    spec = TensorSpec((7,), tuple(parts), 1)
    raw = _raw(spec, 2)
    x = torch.tensor([[0.3, -1.0, 0, 1, 0, 0.5, -1.0], [2.0, 0.0, 1, 0, 0, -1.0, 1.0]])
    total, output, value = torch.zeros(2), 0, 0
    for part in parts:
        alone = TensorSpec((part.width,), (part,), 1)
        size = raw_size(alone)
        block = raw[:, output : output + size]
        total = total + negative_log_likelihood(alone, block, x[:, value : value + part.width])
        output, value = output + size, value + part.width
    assert output == raw_size(spec)
    torch.testing.assert_close(negative_log_likelihood(spec, raw, x), total)


def test_continuous_values_are_drawn_with_their_mean_and_scale() -> None:
    spec = TensorSpec((2,), (Span("continuous", 2),), 1)
    raw = torch.tensor([[1.0, -2.0, math.log(0.5), math.log(2.0)]]).repeat(40_000, 1)
    for temperature in (1.0, 0.5):
        rows = draw(spec, raw, _generator(), temperature)
        torch.testing.assert_close(rows.mean(0), torch.tensor([1.0, -2.0]), atol=0.04, rtol=0)
        torch.testing.assert_close(rows.std(0), temperature * torch.tensor([0.5, 2.0]), atol=0.04, rtol=0)


def test_categories_are_drawn_as_often_as_they_are_probable() -> None:
    spec = TensorSpec((3,), (Span("categorical", 3),), 1)
    shares = torch.tensor([0.6, 0.3, 0.1])
    raw = shares.log().repeat(40_000, 1)
    rows = draw(spec, raw, _generator())
    assert torch.equal(rows.sum(1), torch.ones(len(rows)))
    torch.testing.assert_close(rows.mean(0), shares, atol=0.01, rtol=0)
    cold = draw(spec, raw, _generator(), 0.5)
    torch.testing.assert_close(cold.mean(0), shares.square() / shares.square().sum(), atol=0.01, rtol=0)


def _level_masses(levels: int) -> tuple[TensorSpec, torch.Tensor, torch.Tensor]:
    """A value with ``levels``, raw outputs ``(1, raw_size)`` and the probability of each level."""
    spec = TensorSpec((1, 1, 1), (Span("continuous", 1, levels),), 1)
    raw = _raw(spec, 1) if outputs_per_value(spec.spans[0]) == levels else torch.tensor([[0.2, -1.0]])
    x = _levels(levels).reshape(levels, 1, 1, 1)
    return spec, raw, torch.exp(-negative_log_likelihood(spec, raw.repeat(levels, 1), x))


@pytest.mark.parametrize("levels", [17, 256])
def test_a_level_without_grain_is_the_median(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, raw, masses = _level_masses(levels)
    monkeypatch.setattr("models._heads.GRAIN", 0.0)
    monkeypatch.setattr("models._heads.LOGISTIC_GRAIN", 0.0)
    rows = draw(spec, raw, _generator())
    assert rows.shape == (1, 1, 1, 1)
    median = int(level_index(rows, levels))
    assert masses[:median].sum() < 0.5 <= masses[: median + 1].sum()


@pytest.mark.parametrize("levels", [17, 256])
def test_a_level_in_full_grain_is_drawn_as_often_as_it_is_probable(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, raw, masses = _level_masses(levels)
    monkeypatch.setattr("models._heads.GRAIN", 1.0)
    monkeypatch.setattr("models._heads.LOGISTIC_GRAIN", 1.0)
    rows = draw(spec, raw.repeat(40_000, 1), _generator())
    assert rows.abs().max() <= 1
    shares = torch.bincount(level_index(rows, levels).flatten(), minlength=levels) / len(rows)
    torch.testing.assert_close(shares, masses, atol=0.01, rtol=0)


@pytest.mark.parametrize("levels", [17, 256])
def test_a_drawn_level_stays_nearer_to_the_median_than_a_full_draw(levels: int) -> None:
    spec, raw, masses = _level_masses(levels)
    rows = draw(spec, raw.repeat(20_000, 1), _generator()).flatten()
    mean = (masses * _levels(levels)).sum()
    spread = (masses * (_levels(levels) - mean).square()).sum().sqrt()
    assert 0 < rows.std() < 0.8 * spread


def test_levels_are_counted_from_minus_one() -> None:
    assert torch.equal(level_index(_levels(17), 17), torch.arange(17))
    assert torch.equal(level_index(_levels(256), 256), torch.arange(256))
