"""Rows drawn after real ones stay with them, codes go there and back, and a full covariance is worth having."""

from __future__ import annotations

import math

import pytest
import torch
from _given_nets import vae_around
from _model_cases import SPECS, generator, some_rows, train
from torch import Tensor, nn

from models._contract import Batch, HasLatents, InterpolatesRows, ResamplesPosterior, Span, TensorSpec
from models._gaussian import Gaussian
from models._latents import Prior, arc
from models.vae import VaeConfig, VariationalAutoencoder

WEIGHT, SCALE = torch.tensor([[1.0, 0.9], [-0.5, -0.7], [0.8, 0.2]]), 0.6
PRECISION = torch.eye(2) + WEIGHT.T @ WEIGHT / SCALE**2  # of the exact posterior
SPEC = TensorSpec((3,), (Span("continuous", 3),), 1)


class Encoder(nn.Module):
    """q(z|x) with the exact mean, and a covariance that is given or learned."""

    def __init__(self, entries: Tensor, *, learned: bool = False) -> None:
        super().__init__()
        self.weight = torch.linalg.inv(PRECISION) @ WEIGHT.T / SCALE**2
        self.entries = nn.Parameter(entries, requires_grad=learned)

    def forward(self, x: Tensor, _y: Tensor) -> Tensor:
        return torch.cat([x @ self.weight.T, self.entries.expand(len(x), -1)], dim=1)


class Decoder(nn.Module):
    """p(x|z) = N(W z, scale^2 I)."""

    def forward(self, z: Tensor, _y: Tensor) -> Tensor:
        mean = z @ WEIGHT.T
        return torch.cat([mean, torch.full_like(mean, math.log(SCALE))], dim=1)


def _exact_entries() -> Tensor:
    """2 ln L_11, 2 ln L_22 and L_21 of the exact posterior, whose latents are far from independent."""
    factor = torch.linalg.cholesky(torch.linalg.inv(PRECISION))
    return torch.stack([2 * factor[0, 0].log(), 2 * factor[1, 1].log(), factor[1, 0]])


def _model(encoder: nn.Module, *, correlated: bool) -> VariationalAutoencoder:
    return vae_around(encoder, Decoder(), SPEC, latent=2, correlated=correlated)


def _rows(count: int) -> tuple[Batch, Tensor]:
    """Rows x = W z + scale eps, and ln p of them."""
    marginal = torch.distributions.MultivariateNormal(torch.zeros(3), WEIGHT @ WEIGHT.T + SCALE**2 * torch.eye(3))
    noise = torch.randn(count, 2, generator=generator()), torch.randn(count, 3, generator=generator(1))
    rows = noise[0] @ WEIGHT.T + SCALE * noise[1]
    return Batch(rows, torch.zeros(count, dtype=torch.int64)), marginal.log_prob(rows)


def test_a_full_covariance_reaches_ln_p_where_the_posterior_is_correlated() -> None:
    batch, exact = _rows(300)
    model = _model(Encoder(_exact_entries()), correlated=True)
    torch.testing.assert_close(model.iwae(batch, generator(), 3), exact, atol=1e-4, rtol=0)


def _learned_bound(*, correlated: bool) -> tuple[float, float]:
    """The ELBO that training the covariance reaches, and ln p, in the mean."""
    batch, exact = _rows(300)
    encoder = Encoder(torch.zeros(3 if correlated else 2), learned=True)
    model = _model(encoder, correlated=correlated)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.05)
    noise = generator(3)
    for step in range(250):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / 250)
        optimiser.zero_grad()
        model.objectives()[0].loss(batch, noise)["loss"].backward()
        optimiser.step()
    elbo = torch.stack([model.elbo(batch, generator(seed)) for seed in range(300)]).mean()
    return elbo.item(), exact.mean().item()


@pytest.mark.slow
def test_a_full_covariance_is_learned_and_independent_latents_stay_below_ln_p() -> None:
    full, exact = _learned_bound(correlated=True)
    diagonal, _ = _learned_bound(correlated=False)
    # the best diagonal posterior has the variances 1 / precision_ii, and so much is what it lacks
    slack = 0.5 * (PRECISION.diagonal().log().sum() - torch.logdet(PRECISION)).item()
    assert slack > 0.2
    assert full == pytest.approx(exact, abs=0.02)
    assert diagonal == pytest.approx(exact - slack, abs=0.02)


def test_the_net_gives_the_lower_triangle_row_by_row() -> None:
    entries = torch.arange(12.0)[None]

    class Given(nn.Module):
        def forward(self, _x: Tensor, _y: Tensor) -> Tensor:
            return torch.cat([torch.zeros(1, 6), entries[:, :3]], dim=1)

    posterior = vae_around(Given(), Decoder(), SPEC, latent=3, correlated=True).posterior
    lower = posterior(torch.zeros(1, 3), torch.zeros(1)).lower
    assert torch.equal(lower, torch.tensor([[[0.0, 0, 0], [0, 0, 0], [1, 2, 0]]]))


def test_rows_after_an_exemplar_have_the_moments_of_its_posterior() -> None:
    model = _model(Encoder(_exact_entries()), correlated=True)
    exemplar, labels = torch.tensor([1.5, -0.4, 0.9]), torch.zeros(60_000, dtype=torch.int64)
    rows = model.resample(exemplar.expand(len(labels), -1), labels, generator())
    covariance = torch.linalg.inv(PRECISION)
    mean = WEIGHT @ covariance @ WEIGHT.T @ exemplar / SCALE**2
    torch.testing.assert_close(rows.mean(0), mean, atol=0.02, rtol=0)
    known = WEIGHT @ covariance @ WEIGHT.T + SCALE**2 * torch.eye(3)
    torch.testing.assert_close(torch.cov(rows.T), known, atol=0.02, rtol=0)


def test_at_temperature_zero_a_row_is_the_reconstruction_of_its_exemplar() -> None:
    model = _model(Encoder(_exact_entries()), correlated=True)
    batch, _ = _rows(20)
    reconstruction = model.decode(model.encode(batch), batch.y)
    torch.testing.assert_close(model.resample(batch.x, batch.y, generator(), 0.0), reconstruction)
    torch.testing.assert_close(reconstruction, batch.x @ (WEIGHT @ model.posterior.net.weight).T)
    nearly = model.resample(batch.x, batch.y, generator(), 1e-4)
    torch.testing.assert_close(nearly, reconstruction, atol=1e-3, rtol=0)


def test_rows_between_an_exemplar_and_itself_are_its_reconstruction() -> None:
    model = _model(Encoder(_exact_entries()), correlated=True)
    batch, _ = _rows(20)
    between = model.interpolate(batch.x, batch.x, batch.y, generator(), 0.0)
    torch.testing.assert_close(between, model.decode(model.encode(batch), batch.y), atol=1e-3, rtol=0)


def test_rows_between_two_exemplars_lie_on_the_arc_between_their_codes() -> None:
    model = _model(Encoder(_exact_entries()), correlated=True)
    batch, _ = _rows(1)
    first, second = batch.x.expand(500, -1), torch.tensor([[-1.0, 0.7, 0.2]]).expand(500, -1)
    labels = torch.zeros(500, dtype=torch.int64)
    rows = model.interpolate(first, second, labels, generator(), 0.0)
    codes = [model.encode(Batch(end, labels)) for end in (first, second)]
    places = torch.linspace(0, 1, 2001)[:, None]
    ends = [code[:1].expand(2001, -1) for code in codes]
    path = model.decode(arc(*ends, model.prior(labels[:1].expand(2001)), places), labels[:1].expand(2001))
    assert torch.cdist(rows, path).min(1).values.max() < 5e-3
    nearest = torch.cdist(rows, path).argmin(1) / 2000
    assert nearest.mean().item() == pytest.approx(0.5, abs=0.05)
    assert nearest.std().item() == pytest.approx(math.sqrt(1 / 12), abs=0.03)


def _moved_prior(rows: int) -> Gaussian:
    return Gaussian(
        torch.tensor([[0.5, -1.0, 2.0]]).expand(rows, -1), torch.tensor([[0.4, -2.0, 1.0]]).expand(rows, -1)
    )


@pytest.mark.parametrize("kind", ["apart", "alike", "opposite"])
def test_an_arc_ends_at_its_parents(kind: str) -> None:
    prior = _moved_prior(50)
    first = prior.at(torch.randn(50, 3, generator=generator()))
    away = {"apart": torch.randn(50, 3, generator=generator(1)), "alike": 0.0, "opposite": -2 * (first - prior.mean)}
    second = first + away[kind]
    torch.testing.assert_close(arc(first, second, prior, torch.zeros(50, 1)), first, atol=1e-4, rtol=0)
    torch.testing.assert_close(arc(first, second, prior, torch.ones(50, 1)), second, atol=1e-4, rtol=0)
    middle = arc(first, second, prior, torch.full((50, 1), 0.5))
    assert (middle - prior.mean).norm(dim=1).max() < 2 * (first - prior.mean).norm(dim=1).max() + 2


def test_codes_on_arcs_between_draws_from_the_prior_are_spread_as_it_is() -> None:
    latent, rows = 16, 20_000
    mean, log_variance = torch.randn(2, 1, latent, generator=generator(4))
    prior = Gaussian(mean.expand(rows, -1), log_variance.expand(rows, -1))
    ends = [prior.at(torch.randn(rows, latent, generator=generator(seed))) for seed in (0, 1)]
    codes = arc(*ends, prior, torch.rand(rows, 1, generator=generator(2)))
    torch.testing.assert_close(codes.mean(0), mean[0], atol=0.05, rtol=0)
    ratio = codes.var(0) / log_variance[0].exp()
    torch.testing.assert_close(ratio, torch.ones(latent), atol=0.1, rtol=0)


@pytest.mark.parametrize("form", ["vector", "grid"])
def test_rows_after_exemplars_are_rows_and_hear_exemplar_and_label(form: str) -> None:
    spec = SPECS[form]
    model = VaeConfig().build(spec, generator()).eval()
    assert isinstance(model, ResamplesPosterior)
    assert isinstance(model, InterpolatesRows)
    assert isinstance(model, HasLatents)
    batch = some_rows(spec, torch.tensor([0, 1, 2, -1, 0, 1]))
    other = some_rows(spec, batch.y, seed=5)
    for draw in (
        lambda x, y: model.resample(x, y, generator(7)),
        lambda x, y: model.interpolate(x, other.x, y, generator(7)),
    ):
        rows = draw(batch.x, batch.y)
        assert rows.shape == batch.x.shape
        assert torch.equal(rows, draw(batch.x, batch.y))
        assert not torch.equal(rows, draw(other.x + 0.3, batch.y))
        assert not torch.equal(rows, draw(batch.x, (batch.y + 1) % 3))
    codes = model.encode(batch)
    assert codes.shape == (6, model.latent)
    assert model.decode(codes, batch.y).shape == batch.x.shape


def test_a_standard_prior_is_where_arcs_turn_around_zero() -> None:
    prior = Prior(2, 3, learned=False)(torch.zeros(1, dtype=torch.int64))
    u, v = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    middle = arc(u, v, prior, torch.tensor([[0.5]]))
    torch.testing.assert_close(middle, torch.tensor([[math.sqrt(0.5), math.sqrt(2.0), 0.0]]))


def test_a_latent_is_active_where_its_posterior_mean_follows_the_rows() -> None:
    """The variance of the mean over the rows counts, not that of the posterior (arXiv:1509.00519)."""
    batch, _ = _rows(200)
    encoder = Encoder(torch.zeros(2))
    for scale, active in [([1.0, 1.0], 2), ([1.0, 0.05], 1), ([0.0, 0.05], 0)]:
        encoder.weight = torch.tensor(scale)[:, None] * torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        model = _model(encoder, correlated=False)
        assert model.objectives()[0].loss(batch, generator())["active_units"] == active


def _trained_active_units(beta: float, seed: int = 0) -> float:
    """Active units after a short training on three columns that follow two hidden numbers."""
    batch, _ = _rows(400)
    model = VaeConfig(latent=4, width=32, beta=beta, dropout=0.0).build(SPEC, generator(seed))
    train(model, batch, steps=150)
    return model.objectives()[0].loss(batch, generator())["active_units"].item()


def test_latents_carry_something_after_training() -> None:
    assert _trained_active_units(beta=1.0) >= 2


def test_a_collapsed_posterior_is_seen_in_the_active_units() -> None:
    assert _trained_active_units(beta=1000.0) == 0
