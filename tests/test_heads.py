"""Likelihoods are exact, in nats, and rows are drawn from what the raw outputs say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.nn import functional

from models._contract import Span, TensorSpec
from models._heads import LOG_SCALE_RANGE, Heads, Observation, ScaleRule, logistic_log_mass


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _raw(heads: Heads, rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, heads.raw_size, generator=_generator(seed))


def _levels(count: int) -> torch.Tensor:
    return torch.linspace(-1, 1, count)


def _span(width: int, levels: int | None = None) -> TensorSpec:
    return TensorSpec((width,), (Span("continuous", width, levels),), 1)


def _with_sigma(spec: TensorSpec, sigma: ScaleRule | float, observation: Observation = "auto") -> Heads:
    heads = Heads(spec, observation, sigma)
    if sigma in ("shared", "optimal"):
        heads.load_state_dict({"log_scale": torch.tensor([-0.7] * len(spec.spans))})
    return heads.eval()


@pytest.mark.parametrize("observation", ["auto", "logistic", "categorical"])
@pytest.mark.parametrize("levels", [2, 17, 32, 33, 256])
@pytest.mark.parametrize("log_scale", [-20.0, -3.0, 0.0, 5.0])
def test_the_probabilities_of_all_levels_sum_to_one(observation: Observation, levels: int, log_scale: float) -> None:
    heads = Heads(_span(1, levels), observation)
    raw = _raw(heads, 1).double()
    if heads.heads[0].scaled:
        raw[0, 1] = log_scale
    nll = heads.negative_log_likelihood(raw.repeat(levels, 1), _levels(levels)[:, None])
    assert torch.exp(-nll.double()).sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sigma", ["shared", 0.02])
def test_the_probabilities_sum_to_one_with_a_scale_that_no_net_gives(sigma: ScaleRule | float) -> None:
    heads = _with_sigma(_span(1, 256), sigma)
    assert heads.raw_size == 1
    nll = heads.negative_log_likelihood(torch.full((256, 1), 0.3), _levels(256)[:, None])
    assert torch.exp(-nll.double()).sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sigma", ["learned", "shared", "optimal", 0.02])
@pytest.mark.parametrize("levels", [None, 256])
def test_a_gaussian_density_integrates_to_one(levels: int | None, sigma: ScaleRule | float) -> None:
    heads = _with_sigma(_span(1, levels), sigma, "gaussian")
    x = torch.linspace(-8, 8, 40_001)[:, None]
    raw = torch.tensor([[0.3, -0.7]])[:, : heads.raw_size].repeat(len(x), 1)
    density = torch.exp(-heads.negative_log_likelihood(raw, x).double())
    assert torch.trapezoid(density, x[:, 0].double()).item() == pytest.approx(1, abs=1e-4)


def test_a_bernoulli_is_the_binary_cross_entropy_of_one_logit_a_value() -> None:
    heads = Heads(_span(6, 2), "bernoulli")
    assert heads.raw_size == 6
    raw, bits = _raw(heads, 5), torch.randint(2, (5, 6), generator=_generator(1)).float()
    expected = functional.binary_cross_entropy_with_logits(raw, bits, reduction="none").sum(1)
    torch.testing.assert_close(heads.negative_log_likelihood(raw, 2 * bits - 1), expected)


def test_a_bernoulli_is_a_softmax_over_two_levels() -> None:
    logit = torch.randn(5, 6, generator=_generator())
    two = torch.stack([torch.zeros_like(logit), logit], dim=1).flatten(1)
    x = torch.randint(2, (5, 6), generator=_generator(1)) * 2.0 - 1
    one, other = Heads(_span(6, 2), "bernoulli"), Heads(_span(6, 2), "categorical")
    torch.testing.assert_close(one.negative_log_likelihood(logit, x), other.negative_log_likelihood(two, x))
    assert torch.equal(one.draw(logit, _generator()), other.draw(two, _generator()))
    assert torch.equal(one.centre(logit), torch.sign(logit))


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
    heads = Heads(_span(3))
    raw, x = _raw(heads, 5), torch.randn(5, 3, generator=_generator(1))
    expected = -Normal(raw[:, :3], raw[:, 3:].exp()).log_prob(x).sum(1)
    torch.testing.assert_close(heads.negative_log_likelihood(raw, x), expected)


@pytest.mark.parametrize(("sigma", "scale"), [("shared", math.exp(-0.7)), ("optimal", math.exp(-0.7)), (0.2, 0.2)])
def test_a_scale_that_no_net_gives_is_that_of_every_value(sigma: ScaleRule | float, scale: float) -> None:
    heads = _with_sigma(_span(3), sigma)
    raw, x = _raw(heads, 5), torch.randn(5, 3, generator=_generator(1))
    torch.testing.assert_close(heads.negative_log_likelihood(raw, x), -Normal(raw, scale).log_prob(x).sum(1))
    assert heads.mean_scale(raw) is not None
    torch.testing.assert_close(heads.mean_scale(raw), torch.tensor(scale))


def test_the_optimal_scale_is_the_one_with_the_least_loss() -> None:
    heads = Heads(_span(4), sigma="optimal").train()
    raw, x = _raw(heads, 50), torch.randn(50, 4, generator=_generator(1)) * 0.3
    best = heads.negative_log_likelihood(raw, x).mean()
    root = (raw - x).square().mean().sqrt()
    torch.testing.assert_close(heads.mean_scale(raw), root)
    torch.testing.assert_close(best, 4 * (0.5 * math.log(2 * math.pi) + root.log() + 0.5))
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert best < Heads(_span(4), sigma=factor * root.item()).negative_log_likelihood(raw, x).mean()


def test_the_optimal_scale_has_the_gradient_of_the_least_loss() -> None:
    heads, x = Heads(_span(4), sigma="optimal").train(), torch.randn(50, 4, generator=_generator(1))
    raw = _raw(heads, 50).requires_grad_()
    given = torch.autograd.grad(heads.negative_log_likelihood(raw, x).mean(), raw)[0]
    known = torch.autograd.grad(2 * (raw - x).square().mean().log(), raw)[0]
    torch.testing.assert_close(given, known)


def test_the_optimal_scale_is_kept_after_training_and_does_not_follow_other_rows() -> None:
    heads = Heads(_span(4), sigma="optimal").train()
    raw, x = _raw(heads, 50), torch.randn(50, 4, generator=_generator(1))
    heads.negative_log_likelihood(raw, x)
    again = Heads(_span(4), sigma="optimal").eval()
    again.load_state_dict(heads.state_dict())
    far = again.negative_log_likelihood(raw, 5 * x)
    torch.testing.assert_close(far[:3], again.negative_log_likelihood(raw[:3], 5 * x[:3]))
    torch.testing.assert_close(far, -Normal(raw, (raw - x).square().mean().sqrt()).log_prob(5 * x).sum(1))


def test_a_shared_scale_is_learned() -> None:
    heads = Heads(_span(2, 256), sigma="shared")
    raw, x = torch.zeros(200, 2), _levels(256)[torch.randint(118, 138, (200, 2), generator=_generator())]
    optimiser = torch.optim.Adam(heads.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        heads.negative_log_likelihood(raw, x).mean().backward()
        optimiser.step()
    learned = heads.negative_log_likelihood(raw, x).mean()
    assert all(learned < Heads(_span(2, 256), sigma=s).negative_log_likelihood(raw, x).mean() for s in (0.01, 0.1))


def test_a_scale_stays_above_its_floor() -> None:
    nll = Heads(_span(1)).negative_log_likelihood(torch.tensor([[0.0, -100.0]]), torch.zeros(1, 1))
    assert nll.item() == pytest.approx(LOG_SCALE_RANGE[0] + 0.5 * math.log(2 * math.pi))


def test_a_batch_without_error_leaves_the_optimal_scale_finite() -> None:
    heads = Heads(_span(2), sigma="optimal").train()
    assert torch.isfinite(heads.negative_log_likelihood(torch.ones(3, 2), torch.ones(3, 2))).all()
    assert all(torch.isfinite(tensor).all() for tensor in heads.state_dict().values())


def test_a_categorical_span_has_the_cross_entropy_of_its_category() -> None:
    heads = Heads(TensorSpec((4,), (Span("categorical", 4),), 1))
    raw, index = _raw(heads, 6), torch.tensor([0, 1, 2, 3, 0, 1])
    x = functional.one_hot(index, 4).float()
    torch.testing.assert_close(heads.negative_log_likelihood(raw, x), -Categorical(logits=raw).log_prob(index))


def test_the_spans_of_a_row_add_up() -> None:
    parts = [Span("continuous", 2), Span("categorical", 3), Span("continuous", 1, 17), Span("continuous", 1, 256)]
    heads = Heads(TensorSpec((7,), tuple(parts), 1))
    raw = _raw(heads, 2)
    x = torch.tensor([[0.3, -1.0, 0, 1, 0, 0.5, -1.0], [2.0, 0.0, 1, 0, 0, -1.0, 1.0]])
    total, output, value = torch.zeros(2), 0, 0
    for part in parts:
        alone = Heads(TensorSpec((part.width,), (part,), 1))
        block = raw[:, output : output + alone.raw_size]
        total = total + alone.negative_log_likelihood(block, x[:, value : value + part.width])
        output, value = output + alone.raw_size, value + part.width
    assert output == heads.raw_size
    torch.testing.assert_close(heads.negative_log_likelihood(raw, x), total)


@pytest.mark.parametrize(
    ("spec", "observation", "sigma", "complaint"),
    [
        (_span(2), "bernoulli", "learned", "needs values with levels; take 'auto' or 'gaussian'"),
        (_span(2), "logistic", "learned", "needs values with levels"),
        (_span(2), "categorical", "learned", "needs values with levels"),
        (_span(2, 17), "bernoulli", "learned", "needs values of two levels, these have 17"),
        (_span(2, 17), "auto", "shared", "or take the observation 'gaussian' or 'logistic'"),
        (_span(2, 17), "auto", "optimal", "or take the observation 'gaussian'$"),
        (TensorSpec((3,), (Span("categorical", 3),), 1), "gaussian", "shared", "these rows are categories alone"),
        (_span(2, 2), "bernoulli", 0.1, "a softmax has none"),
        (_span(2, 256), "auto", "optimal", "'gaussian' alone"),
    ],
)
def test_a_likelihood_that_does_not_fit_the_values_is_refused(
    spec: TensorSpec, observation: Observation, sigma: ScaleRule | float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Heads(spec, observation, sigma)


@pytest.mark.parametrize("observation", ["auto", "gaussian", "logistic", "categorical"])
def test_a_value_of_one_level_is_certain_and_drawn_as_it_is(observation: Observation) -> None:
    spec = TensorSpec((4,), (Span("continuous", 1, 1), Span("continuous", 3, 256)), 1)
    heads, rest = Heads(spec, observation), Heads(_span(3, 256), observation)
    raw = torch.randn(50, heads.raw_size, generator=_generator())
    x = _levels(256)[torch.randint(256, (50, 3), generator=_generator(1))]
    nll = heads.negative_log_likelihood(raw, torch.cat([-torch.ones(50, 1), x], 1))
    torch.testing.assert_close(nll, rest.negative_log_likelihood(raw[:, 1:], x))
    for rows in (heads.draw(raw, _generator()), heads.centre(raw)):
        assert (rows[:, 0] == -1).all()
