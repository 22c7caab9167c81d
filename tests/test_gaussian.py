"""Divergences, densities and entropies of Gaussians are those of their covariance, and free bits are free."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from models._gaussian import Gaussian, free_bits_penalty, kl_divergence


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _standard(like: Tensor) -> Gaussian:
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def _two_gaussians(*, correlated: bool = False) -> tuple[Gaussian, Gaussian]:
    q = Gaussian(torch.tensor([[0.7, -1.2, 0.0]]), torch.tensor([[0.3, -1.5, 0.0]]))
    p = Gaussian(torch.tensor([[-0.4, -1.0, 0.0]]), torch.tensor([[1.1, -0.6, 0.0]]))
    if correlated:
        return q._replace(lower=torch.tensor([[[0.0, 0, 0], [0.8, 0, 0], [-0.5, 1.2, 0]]])), p
    return q, p


def _by_torch(gaussian: Gaussian) -> MultivariateNormal:
    factor = torch.diag_embed(torch.exp(0.5 * gaussian.log_variance))
    return MultivariateNormal(gaussian.mean, scale_tril=factor if gaussian.lower is None else factor + gaussian.lower)


every_covariance = pytest.mark.parametrize("correlated", [False, True], ids=["diagonal", "full"])


@every_covariance
def test_the_kl_in_closed_form_equals_its_monte_carlo_estimate(*, correlated: bool) -> None:
    q, p = _two_gaussians(correlated=correlated)
    noise = torch.randn(200_000, 1, 3, generator=_generator())
    difference = (q.log_density_at(noise) - p.log_density(q.at(noise)))[:, 0]
    error = difference.std(0) / math.sqrt(len(difference))
    # the share of each latent has the mean that the closed form gives
    assert ((difference.mean(0) - kl_divergence(q, p)[0]).abs() <= 4 * error + 1e-6).all()


@every_covariance
def test_the_kl_and_the_density_are_those_of_the_multivariate_normal(*, correlated: bool) -> None:
    q, p = _two_gaussians(correlated=correlated)
    known = torch.distributions.kl_divergence(_by_torch(q), _by_torch(p))
    torch.testing.assert_close(kl_divergence(q, p).sum(1), known)
    noise = torch.randn(50, 1, 3, generator=_generator())
    constant = 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(q.log_density_at(noise).sum(2) - constant, _by_torch(q).log_prob(q.at(noise)))


@every_covariance
def test_the_entropy_is_that_of_the_diagonal_of_the_factor(*, correlated: bool) -> None:
    q, _ = _two_gaussians(correlated=correlated)
    noise = torch.randn(200_000, 1, 3, generator=_generator())
    surprise = 1.5 * math.log(2 * math.pi) - q.log_density_at(noise).sum(2)
    formula = 1.5 * math.log(2 * math.pi * math.e) + 0.5 * q.log_variance.sum()
    assert formula.item() == pytest.approx(_by_torch(q).entropy().item(), abs=1e-5)
    assert surprise.mean().item() == pytest.approx(formula.item(), abs=4 * surprise.std().item() / math.sqrt(200_000))


def test_points_have_the_covariance_of_the_factor() -> None:
    q, _ = _two_gaussians(correlated=True)
    points = q.at(torch.randn(200_000, 1, 3, generator=_generator()))[:, 0]
    torch.testing.assert_close(points.mean(0), q.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(points.T), _by_torch(q).covariance_matrix[0], atol=0.03, rtol=0)


def test_the_kl_to_a_standard_normal_is_the_known_one() -> None:
    q, _ = _two_gaussians()
    known = 0.5 * (q.mean.square() + q.log_variance.exp() - 1 - q.log_variance)
    torch.testing.assert_close(kl_divergence(q, _standard(q.mean)), known)


def test_the_kl_is_zero_between_equals_and_never_negative() -> None:
    values = torch.randn(1000, 4, generator=_generator())
    q, p = (Gaussian(*(2 * half).chunk(2, dim=1)) for half in values.chunk(2, dim=1))
    assert (kl_divergence(q, p) >= 0).all()
    assert torch.equal(kl_divergence(q, q), torch.zeros(1000, 1))
    lower = torch.randn(1000, 2, 2, generator=_generator(1)).tril(-1)
    wide = Gaussian(*torch.randn(2, 1000, 2, generator=_generator(2)), lower)
    assert (kl_divergence(wide, _standard(wide.mean)) >= 0).all()


def test_a_latent_below_the_free_bits_gets_no_gradient() -> None:
    mean = torch.tensor([[0.1, 2.0], [-0.1, 2.0]], requires_grad=True)
    log_variance = torch.zeros(2, 2, requires_grad=True)
    free_bits_penalty(kl_divergence(Gaussian(mean, log_variance), _standard(mean)), 0.5).backward()
    assert mean.grad is not None
    assert torch.equal(mean.grad[:, 0], torch.zeros(2))
    assert (mean.grad[:, 1] != 0).all()


def test_free_bits_count_the_mean_over_the_batch() -> None:
    kl = torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    assert free_bits_penalty(kl, 0.75).item() == pytest.approx(0.75 + 2.0)
    assert free_bits_penalty(kl, 0.0).item() == pytest.approx(kl.sum(1).mean().item())
