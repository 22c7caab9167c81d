"""The bounds are bounds in nats, priors are those of their class, and the label is heard."""

from __future__ import annotations

import math

import pytest
import torch
from _given_nets import vae_around
from torch import Tensor, nn

from models._contract import Batch, BoundsLikelihood, Span, TensorSpec
from models._gaussian import Gaussian, kl_divergence
from models.vae import Prior, VaeConfig, VariationalAutoencoder

VECTOR = TensorSpec((5,), (Span("continuous", 2), Span("categorical", 3)), 3)
GRID = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 3)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _standard(like: Tensor) -> Gaussian:
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


class LinearEncoder(nn.Module):
    """q(z|x) = N(weight x, variance) with the label unread."""

    def __init__(self, weight: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.log_variance = weight, variance.log()

    def forward(self, x: Tensor, _y: Tensor) -> Tensor:
        return torch.cat([x @ self.weight.T, self.log_variance.expand(len(x), -1)], dim=1)


class LinearDecoder(nn.Module):
    """p(x|z) = N(weight z, scale^2)."""

    def __init__(self, weight: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, z: Tensor, _y: Tensor) -> Tensor:
        mean = z @ self.weight.T
        return torch.cat([mean, torch.full_like(mean, math.log(self.scale))], dim=1)


def _linear_gaussian(
    widen: float, *, num_classes: int = 1, learned_prior: bool = False
) -> tuple[VariationalAutoencoder, Batch, Tensor]:
    """A model whose ln p(x) is known, rows of it, and ln p of them; ``widen`` = 1 gives the exact posterior.

    z ~ N(0, 1), x = w z + scale eps: then x ~ N(0, w w' + scale^2 I) and p(z|x) is Gaussian in closed form.
    """
    weight, scale = torch.tensor([[1.0], [-0.5], [0.8]]), 0.6
    variance = 1 / (1 + weight.square().sum() / scale**2)
    encoder = LinearEncoder(variance * weight.T / scale**2, widen * variance.reshape(1))
    spec = TensorSpec((3,), (Span("continuous", 3),), num_classes)
    decoder = LinearDecoder(weight, scale)
    model = vae_around(encoder, decoder, spec, latent=1, beta=7.0, free_bits=3.0, learned_prior=learned_prior)
    rows = torch.randn(400, 1, generator=_generator()) @ weight.T + scale * torch.randn(400, 3, generator=_generator(1))
    marginal = torch.distributions.MultivariateNormal(torch.zeros(3), weight @ weight.T + scale**2 * torch.eye(3))
    return model, Batch(rows, torch.zeros(400, dtype=torch.int64)), marginal.log_prob(rows)


def test_the_bounds_are_exact_where_the_posterior_is() -> None:
    model, batch, exact = _linear_gaussian(widen=1.0)
    torch.testing.assert_close(model.iwae(batch, _generator(), 7), exact, atol=1e-4, rtol=0)
    # the ELBO draws z only for the likelihood, so it is exact in the mean
    bounds = torch.stack([model.elbo(batch, _generator(seed)) for seed in range(200)])
    error = bounds.mean(1).std() / math.sqrt(len(bounds))
    assert abs(bounds.mean() - exact.mean()) < 4 * error


def test_the_bound_rises_to_ln_p_with_the_importance_samples() -> None:
    """With a posterior four times as wide as the exact one; ln p is -3.725 a row."""
    model, batch, exact = _linear_gaussian(widen=4.0)
    repeats = {1: 200, 5: 40, 50: 10, 500: 4}
    bounds = [
        torch.stack([model.iwae(batch, _generator(seed), count) for seed in range(times)]).mean().item()
        for count, times in repeats.items()
    ]
    slack = 0.5 * (4 - 1 - math.log(4))  # KL(q || p(z|x))
    assert exact.mean().item() == pytest.approx(-3.7246, abs=1e-3)
    assert bounds == pytest.approx([exact.mean().item() - slack, -3.786, -3.729, -3.726], abs=0.015)
    assert bounds == sorted(bounds)
    assert bounds[-1] < exact.mean() + 0.002


def test_one_importance_sample_is_the_elbo_in_the_mean() -> None:
    model, batch, _ = _linear_gaussian(widen=4.0)
    gap = torch.stack([model.iwae(batch, _generator(s), 1) - model.elbo(batch, _generator(s)) for s in range(100)])
    assert abs(gap.mean()) < 4 * gap.mean(1).std() / math.sqrt(len(gap))


def test_the_chunks_of_importance_samples_do_not_change_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, _ = _linear_gaussian(widen=4.0)
    whole = model.iwae(batch, _generator(), 48)
    monkeypatch.setattr("models._gaussian.IMPORTANCE_CHUNK", 7)
    torch.testing.assert_close(model.iwae(batch, _generator(), 48), whole)


@pytest.mark.parametrize("spec", [VECTOR, GRID], ids=["vector", "grid"])
def test_the_elbo_of_a_net_lies_below_its_importance_weighted_bound(spec: TensorSpec) -> None:
    model = VaeConfig().build(spec, _generator()).eval()
    assert isinstance(model, BoundsLikelihood)
    y = torch.tensor([0, 1, 2, -1] * 8)
    batch = Batch(model.sample(y, _generator(1)), y)
    elbo = torch.stack([model.elbo(batch, _generator(s)) for s in range(20)]).mean(0)
    iwae = model.iwae(batch, _generator(), 64)
    gap = iwae - elbo
    assert gap.mean() > -3 * gap.std() / math.sqrt(len(gap))


def test_the_loss_is_the_negative_bound_without_beta_and_free_bits() -> None:
    model = VaeConfig(beta=1.0, prior_weight=0.0).build(VECTOR, _generator()).eval()
    _move_priors(model)
    y = torch.tensor([0, 1, 2, -1])
    batch = Batch(model.sample(y, _generator(1)).detach(), y)
    terms = model.objectives()[0].loss(batch, _generator(5))
    assert terms["loss"].item() == pytest.approx(-model.elbo(batch, _generator(5)).mean().item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["nll"] + terms["kl"]).item(), rel=1e-5)


def _move_priors(model: VariationalAutoencoder) -> None:
    """Give each class a prior of its own, far enough from N(0, I) to be told from it."""
    with torch.no_grad():
        model.prior.table.copy_(0.3 * torch.randn(model.prior.table.shape, generator=_generator(8)))


def _with_class_prior() -> tuple[VariationalAutoencoder, Batch, Tensor]:
    """A model with one latent and a moved prior for each class, rows, and ln p(x|y) of them by quadrature."""
    model, batch, _ = _linear_gaussian(widen=2.0, num_classes=2, learned_prior=True)
    _move_priors(model)
    batch = Batch(batch.x, torch.arange(400) % 3 - 1)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    prior = model.prior(batch.y)
    weight, scale = model.decoder.weight.double(), model.decoder.scale
    scatter = torch.distributions.Normal((grid @ weight.T)[:, None], scale).log_prob(batch.x.double()).sum(2)
    before = torch.distributions.Normal(prior.mean[:, 0].double(), torch.exp(0.5 * prior.log_variance[:, 0].double()))
    exact = (before.log_prob(grid) + scatter).logsumexp(0) + math.log(24 / 4000)
    return model, batch, exact.float()


def test_the_bound_rises_to_ln_p_under_the_prior_of_each_class() -> None:
    model, batch, exact = _with_class_prior()
    elbo = torch.stack([model.elbo(batch, _generator(seed)) for seed in range(50)]).mean(0)
    bounds = [model.iwae(batch, _generator(3), count) for count in (5, 3000)]
    for label in (-1, 0, 1):
        own = batch.y == label
        assert elbo[own].mean() < bounds[0][own].mean() < exact[own].mean() + 0.05
        assert bounds[1][own].mean().item() == pytest.approx(exact[own].mean().item(), abs=0.01)


def test_rows_are_drawn_under_the_prior_of_their_class() -> None:
    model, _, _ = _with_class_prior()
    for label in (-1, 0, 1):
        rows = model.sample(torch.full((40_000,), label), _generator())
        prior = model.prior(torch.tensor([label]))
        weight, scale = model.decoder.weight, model.decoder.scale
        torch.testing.assert_close(rows.mean(0), weight[:, 0] * prior.mean[0], atol=0.03, rtol=0)
        spread = torch.sqrt(weight[:, 0].square() * prior.log_variance[0].exp() + scale**2)
        torch.testing.assert_close(rows.std(0), spread, atol=0.03, rtol=0)


def test_a_narrower_spread_draws_nearer_to_the_mean_of_the_prior() -> None:
    model, _, _ = _with_class_prior()
    model.spread, labels = 1e-6, torch.ones(40_000, dtype=torch.int64)
    rows = model.sample(labels, _generator())
    torch.testing.assert_close(rows.std(0), torch.full((3,), model.decoder.scale), atol=0.02, rtol=0)


def test_a_standard_prior_has_nothing_to_learn() -> None:
    prior = Prior(3, 2, learned=False)
    assert not list(prior.parameters())
    assert not prior.state_dict()
    assert torch.equal(prior(torch.tensor([-1, 0, 2])).mean, torch.zeros(3, 2))
    assert prior.divergence() == 0
    assert not any("prior" in name for name in VaeConfig(prior="standard").build(VECTOR, _generator()).state_dict())


def test_the_hold_on_the_priors_draws_them_towards_the_standard_normal() -> None:
    prior = Prior(3, 2, learned=True)
    with torch.no_grad():
        prior.table.copy_(torch.randn(4, 4, generator=_generator()))
    known = kl_divergence(prior(torch.tensor([-1, 0, 1, 2])), _standard(torch.zeros(4, 2))).sum()
    torch.testing.assert_close(prior.divergence(), known)
    step = torch.autograd.grad(prior.divergence(), prior.table)[0]
    with torch.no_grad():
        before = prior.divergence().item()
        prior.table -= 1e-3 * step
    assert prior.divergence().item() < before


@pytest.mark.slow
def test_the_prior_of_a_class_of_few_rows_moves_to_its_rows_and_stays_wide() -> None:
    """1,000 rows around one place and ten around another, which the decoder tells by z alone."""
    model, _, _ = _linear_gaussian(widen=1.0, num_classes=2, learned_prior=True)
    rows = torch.randn(1010, 3, generator=_generator()) * 0.6
    rows[1000:] += 2 * model.decoder.weight[:, 0] * (1 + 0.3 * torch.randn(10, 1, generator=_generator(1)))
    y = (torch.arange(1010) >= 1000).long()
    optimiser = torch.optim.Adam(model.prior.parameters(), lr=3e-3)
    for _ in range(1500):
        posterior = model.posterior(rows, y)
        loss = kl_divergence(posterior, model.prior(y)).sum(1).mean() + 0.001 * model.prior.divergence()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        few, means = model.prior(torch.tensor([1])), model.posterior(rows, y).mean[1000:]
        held = 0.001 / (0.001 + 10 / 1010)
        assert few.mean.item() == pytest.approx((1 - held) * means.mean().item(), abs=0.1)
        assert few.log_variance.exp().item() > means.var().item()


def test_only_free_bits_keep_a_batch_whole() -> None:
    assert VaeConfig(free_bits=0.1).build(VECTOR, _generator()).objectives()[0].batch_statistics
    assert not VaeConfig(free_bits=0.0).build(VECTOR, _generator()).objectives()[0].batch_statistics


@pytest.mark.parametrize("spec", [VECTOR, GRID], ids=["vector", "grid"])
def test_encoder_and_decoder_both_hear_the_label(spec: TensorSpec) -> None:
    model = VaeConfig().build(spec, _generator()).eval()
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    x, z = torch.rand(4, *spec.shape, generator=_generator()), torch.randn(4, model.latent, generator=_generator())
    assert (model.decoder(z, zeros) - model.decoder(z, ones)).abs().max() > 1e-3
    assert (model.posterior(x, zeros)[0] - model.posterior(x, ones)[0]).abs().max() > 1e-3
    unknown = torch.full((4,), -1)
    assert (model.decoder(z, zeros) - model.decoder(z, unknown)).abs().max() > 1e-3


def test_a_temperature_near_zero_gives_one_row_for_each_class() -> None:
    model = VaeConfig().build(TensorSpec((3,), (Span("continuous", 3),), 2), _generator()).eval()
    rows = model.sample(torch.tensor([0, 0, 1]), _generator(), 1e-6)
    torch.testing.assert_close(rows[0], rows[1], atol=1e-4, rtol=0)
    assert (rows[0] - rows[2]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 9, 21), (1, 1, 5)])
def test_grids_of_many_sizes_are_encoded_and_decoded(shape: tuple[int, int, int]) -> None:
    spec = TensorSpec(shape, (Span("continuous", math.prod(shape), 256),), 2)
    model = VaeConfig(width=8, latent=3, embedding=4).build(spec, _generator())
    x = torch.rand(2, *shape, generator=_generator()) * 2 - 1
    terms = model.objectives()[0].loss(Batch(x, torch.tensor([0, 1])), _generator())
    assert torch.isfinite(terms["loss"])
    rows = model.sample(torch.tensor([0, 1]), _generator())
    assert rows.shape == x.shape
    assert rows.abs().max() <= 1


def test_a_grid_of_two_spans_is_refused() -> None:
    spec = TensorSpec((2, 8, 8), (Span("continuous", 64, 17), Span("continuous", 64)), 1)
    with pytest.raises(ValueError, match="one span"):
        VaeConfig().build(spec, _generator())
