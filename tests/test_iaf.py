"""The density of a flow is the one its Jacobian says, the bounds are bounds, and the flow buys nats."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models._contract import Batch, Span, TensorSpec
from models._flat import FlatLatents
from models._heads import Heads
from models._iaf import GATE_BIAS, Flow, FlowSize, grid_step, vector_step
from models._latents import Prior
from models._nets import NetSize
from models.iaf_vae import IafVae, IafVaeConfig


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _wild(module: nn.Module) -> nn.Module:
    """The module in float64 with weights far from those it starts with."""
    module.double()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=_generator(seed), dtype=torch.float64))
    return module


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_generator(seed), dtype=torch.float64)


def _vector_flow(steps: int, *, location_only: bool = False) -> tuple[Flow, Tensor, Tensor]:
    size = FlowSize(steps, 20, 2, location_only)
    made = [vector_step(6, 4, size, reverse=step % 2 == 1) for step in range(steps)]
    flow = _wild(Flow(made, location_only=location_only))
    assert isinstance(flow, Flow)
    return flow, _normal(3, 6), _normal(3, 4, seed=1)


def _grid_flow(steps: int, *, location_only: bool = False) -> tuple[Flow, Tensor, Tensor]:
    size = FlowSize(steps, 6, 1, location_only)
    made = [grid_step(2, 4, size, reverse=step % 2 == 1) for step in range(steps)]
    flow = _wild(Flow(made, location_only=location_only))
    assert isinstance(flow, Flow)
    return flow, _normal(3, 2, 3, 4), _normal(3, 4, 3, 4, seed=1)


FLOWS = pytest.mark.parametrize("made", [_vector_flow, _grid_flow], ids=["vector", "grid"])


def _jacobian(flow: Flow, z: Tensor, h: Tensor, row: int) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(lambda one: flow(one[None], h[row : row + 1]).z[0], z[row])
    return jacobian.reshape(z[row].numel(), -1)


@FLOWS
def test_the_log_determinant_is_that_of_the_jacobian(made) -> None:
    flow, z, h = made(3)
    told = flow(z, h).log_stretch.flatten(1).sum(1)
    for row in range(len(z)):
        known = torch.linalg.slogdet(_jacobian(flow, z, h, row)).logabsdet
        torch.testing.assert_close(told[row], known, atol=1e-12, rtol=1e-12)


@FLOWS
def test_each_latent_is_stretched_by_the_diagonal_of_a_step(made) -> None:
    flow, z, h = made(1)
    told = flow(z, h).log_stretch.flatten(1)
    torch.testing.assert_close(told[0].exp(), _jacobian(flow, z, h, 0).diagonal(), atol=1e-12, rtol=1e-12)


@FLOWS
def test_a_step_is_triangular_and_the_next_one_in_the_reverse_order(made) -> None:
    flow, z, h = made(2)
    for step, told in enumerate(flow.steps):
        jacobian = _jacobian(Flow([told], location_only=False), z, h, 0)
        if z.dim() == 4:  # from (map, place) to raster order with the maps of a place together
            places = torch.arange(24).reshape(2, 12).T.flatten()
            jacobian = jacobian[places][:, places]
        jacobian = jacobian.flip(0, 1) if step else jacobian
        assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))
        assert (jacobian.tril(-1) != 0).any()


def test_two_steps_let_every_latent_hear_every_other() -> None:
    flow, z, h = _vector_flow(2)
    assert (_jacobian(flow, z, h, 0) != 0).all()


@FLOWS
def test_solving_the_steps_one_latent_after_the_other_gives_the_noise_back(made) -> None:
    """z_i = (z'_i - (1 - g_i) m_i) / g_i, where m_i and g_i hear the latents that are known already."""
    flow, z_0, h = made(3)
    z = flow(z_0, h).z
    for step in reversed(flow.steps):
        known = torch.zeros_like(z)
        for _ in range(z[0].numel()):  # with each pass one latent more is right
            m, s = step(known, h)
            gate = torch.sigmoid(s)
            known = (z - (1 - gate) * m) / gate
        z = known
    torch.testing.assert_close(z, z_0, atol=1e-12, rtol=0)


@FLOWS
def test_a_flow_whose_gates_are_open_is_the_identity(made) -> None:
    flow, z, h = made(3)
    with torch.no_grad():
        for step in flow.steps:
            step.layers[-1].bias.chunk(2)[1].fill_(60.0)
    z_T, log_stretch = flow(z, h)
    torch.testing.assert_close(z_T, z, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_stretch, torch.zeros_like(z), atol=1e-12, rtol=0)


def test_a_new_step_starts_near_the_identity() -> None:
    step = vector_step(6, 4, FlowSize(1, 40, 2, location_only=False), reverse=False)
    m, s = step(torch.randn(50, 6, generator=_generator()), torch.randn(50, 4, generator=_generator(1)))
    assert m.std() < 0.1
    assert (s - GATE_BIAS).std() < 0.1
    assert 1 <= GATE_BIAS <= 2


@FLOWS
def test_a_flow_of_locations_only_keeps_the_volume(made) -> None:
    flow, z, h = made(3, location_only=True)
    z_T, log_stretch = flow(z, h)
    assert torch.equal(log_stretch, torch.zeros_like(z))
    assert torch.linalg.slogdet(_jacobian(flow, z, h, 0)).logabsdet.abs() < 1e-12
    assert (z_T - z).abs().max() > 0.1


@FLOWS
def test_every_step_hears_the_context(made) -> None:
    flow, z, h = made(2)
    for step in flow.steps:
        for before, after in zip(step(z, h), step(z, h + 1), strict=True):
            assert ((before - after).abs() > 1e-6).all()


class LinearEncoder(nn.Module):
    """mu = weight x, ln sigma^2 as given, and a context of zeros; the label is unread."""

    def __init__(self, weight: Tensor, log_variance: Tensor, context: int) -> None:
        super().__init__()
        self.weight, self.log_variance = nn.Parameter(weight), nn.Parameter(log_variance)
        self.context = context

    def forward(self, x: Tensor, _y: Tensor) -> Tensor:
        rest = self.log_variance.expand(len(x), -1)
        return torch.cat([x @ self.weight.T, rest, x.new_zeros(len(x), self.context)], dim=1)


class LinearDecoder(nn.Module):
    """p(x|z) = N(weight z, scale^2)."""

    def __init__(self, weight: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, z: Tensor, _y: Tensor) -> Tensor:
        mean = z @ self.weight.T
        return torch.cat([mean, torch.full_like(mean, math.log(self.scale))], dim=1)


class BananaDecoder(nn.Module):
    """x = z_1 + z_2^2 / 2 and noise: given x, the two latents lie on a curve."""

    scale = 0.3

    def forward(self, z: Tensor, _y: Tensor) -> Tensor:
        mean = z[:, :1] + 0.5 * z[:, 1:].square()
        return torch.cat([mean, torch.full_like(mean, math.log(self.scale))], dim=1)


def _known_model(decoder: nn.Module, encoder: nn.Module, values: int, steps: int, **settings: float) -> IafVae:
    spec = TensorSpec((values,), (Span("continuous", values),), 2)
    torch.manual_seed(0)
    size, flow = NetSize(8, 1, 4, 0.0), FlowSize(steps, 32, 2, location_only=False)
    latents = FlatLatents(spec, size, flow, latent=2, context=4, outputs=2 * values, learned_prior=False)
    latents.encoder, latents.decoder = encoder, decoder
    return IafVae(spec, latents, Heads(spec), IafVaeConfig(**settings), spread=1.0)


def _correlated(steps: int, widen: float = 1.0) -> tuple[IafVae, Batch, Tensor, Tensor]:
    """z ~ N(0, I), x = w z + noise with a correlated posterior; the model, rows, ln p and the best diagonal's bound.

    The best q_0 of independent latents has the posterior's mean and the precisions on its diagonal:
    KL(q || p(z|x)) = (sum_i ln P_ii - ln |P|) / 2 for the precision P. ``widen`` is the encoder's variance over that.
    """
    weight, scale = torch.tensor([[1.0, 0.7], [0.6, 1.0]]), 0.4
    precision = torch.eye(2) + weight.T @ weight / scale**2
    log_variance = math.log(widen) - precision.diagonal().log()
    encoder = LinearEncoder(torch.linalg.solve(precision, weight.T) / scale**2, log_variance, 4)
    model = _known_model(LinearDecoder(weight, scale), encoder, 2, steps)
    noise = torch.randn(2, 300, 2, generator=_generator())
    rows = noise[0] @ weight.T + scale * noise[1]
    marginal = torch.distributions.MultivariateNormal(torch.zeros(2), weight @ weight.T + scale**2 * torch.eye(2))
    exact = marginal.log_prob(rows)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return model, Batch(rows, torch.zeros(300, dtype=torch.int64)), exact, exact - gap


def _banana(steps: int) -> tuple[IafVae, Batch, Tensor]:
    """A model whose posterior is curved, one row seen 100 times, and ln p of it by quadrature."""
    encoder = LinearEncoder(torch.zeros(2, 1), torch.zeros(2), 4)
    model = _known_model(BananaDecoder(), encoder, 1, steps)
    x, axis = torch.full((100, 1), 1.2), torch.linspace(-7, 7, 1401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    mean = z[:, 0] + 0.5 * z[:, 1].square()
    log_joint = torch.distributions.Normal(mean, BananaDecoder.scale).log_prob(torch.tensor(1.2))
    log_joint = log_joint - 0.5 * z.square().sum(1) - math.log(2 * math.pi)
    exact = log_joint.logsumexp(0) + 2 * math.log(14 / 1400)
    return model, Batch(x, torch.zeros(100, dtype=torch.int64)), exact.float()


def _bound(model: IafVae, batch: Batch, draws: int = 50) -> Tensor:
    """The ELBO of each draw, a mean over rows."""
    return torch.stack([model.elbo(batch, _generator(seed)).mean() for seed in range(draws)])


def _fit(model: IafVae, batch: Batch, steps: int) -> None:
    """Fit posterior and flow to a decoder that stays as it is."""
    noise = _generator(9)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    objective = model.objectives()[0]
    for _ in range(steps):
        optimiser.zero_grad()
        objective.loss(batch, noise)["loss"].backward()
        optimiser.step()
        schedule.step()


def test_without_steps_the_bound_is_the_closed_form_one_of_a_diagonal_gaussian() -> None:
    model, batch, _, diagonal = _correlated(steps=0)
    bounds = _bound(model, batch, 200)
    assert abs(bounds.mean() - diagonal.mean()) < 4 * bounds.std() / math.sqrt(len(bounds))


@pytest.mark.parametrize("steps", [0, 3])
def test_the_kl_of_an_identity_flow_is_the_closed_form_in_the_mean(steps: int) -> None:
    model, batch, _, _ = _correlated(steps)
    for step in model.latents.flow.steps:
        nn.init.constant_(step.layers[-1].bias, 60.0)
        nn.init.zeros_(step.layers[-1].weight)
        nn.init.zeros_(step.contexts[-1].weight)
    mean, log_variance, h = model.latents.read(*batch)
    known = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    noise = _generator()
    drawn = torch.stack(
        [
            model.latents.infer((mean, log_variance, h), batch.y, lambda s: torch.randn(s, generator=noise)).kl
            for _ in range(200)
        ]
    ).mean(1)
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - known.mean(0)).abs() < 4 * error).all()


@pytest.mark.parametrize(("steps", "widen"), [(0, 4.0), (2, 20.0)])
def test_the_importance_weighted_bound_reaches_ln_p_from_below(steps: int, widen: float) -> None:
    model, batch, exact, _ = _correlated(steps, widen)
    bounds = [model.iwae(batch, _generator(1), count).mean().item() for count in (1, 5, 50, 2000)]
    assert bounds[0] < bounds[1] < bounds[2] < exact.mean() + 0.01
    assert bounds[3] == pytest.approx(exact.mean().item(), abs=0.01)


@pytest.mark.slow
def test_a_flow_finds_a_correlated_posterior_and_closes_the_gap_to_ln_p() -> None:
    model, batch, exact, diagonal = _correlated(steps=1)
    batch, exact, diagonal = Batch(batch.x[:60], batch.y[:60]), exact[:60], diagonal[:60]
    assert (exact - diagonal).mean() > 0.5
    _fit(model, batch, 400)
    bounds = _bound(model, batch)
    assert bounds.mean() > exact.mean() - 0.05
    assert bounds.mean() - 4 * bounds.std() / math.sqrt(len(bounds)) < exact.mean()


@pytest.mark.slow
def test_a_flow_finds_a_curved_posterior_that_a_diagonal_gaussian_cannot() -> None:
    gaps = []
    for steps in (0, 4):
        model, batch, exact = _banana(steps)
        _fit(model, batch, 400)
        gaps.append((exact - _bound(model, batch).mean()).item())
    assert model.iwae(batch, _generator(), 500).mean().item() == pytest.approx(exact.item(), abs=0.02)
    assert gaps[0] > 0.3
    assert -0.02 < gaps[1] < 0.1


def test_the_parts_of_importance_samples_do_not_change_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, _, _ = _correlated(steps=2)
    monkeypatch.setattr("models._gaussian.ROWS_AT_ONCE", 10**6)
    whole = model.iwae(batch, _generator(), 20)
    monkeypatch.setattr("models._gaussian.ROWS_AT_ONCE", 2 * len(batch.y))
    torch.testing.assert_close(model.iwae(batch, _generator(), 20), whole)


def test_the_label_reaches_the_flow_by_itself() -> None:
    """Where the encoder is deaf, the context still knows the class."""
    model, batch, _, _ = _correlated(steps=2)
    mean, _, h = model.latents.read(batch.x, batch.y)
    other_mean, _, other_h = model.latents.read(batch.x, batch.y + 1)
    assert torch.equal(mean, other_mean)
    assert (h - other_h).abs().max() > 0.01


def test_a_row_between_two_has_a_code_on_the_arc_between_theirs() -> None:
    model, batch, _, _ = _correlated(steps=2)
    first, second = Batch(batch.x[:100], batch.y[:100]), Batch(batch.x[100:200], batch.y[100:200])
    rows = model.interpolate(first.x, second.x, first.y, _generator(), 0.0)
    codes = torch.linalg.solve(model.latents.decoder.weight, rows.T).T  # the decoder is linear and invertible
    shares = torch.linalg.solve(torch.stack([model.encode(first), model.encode(second)], dim=2), codes[:, :, None])
    assert shares.min() > -0.01  # between the two directions
    assert shares.max() < 1.01
    assert shares.std() > 0.2


def test_samples_come_from_the_prior_of_their_class() -> None:
    model, _, _, _ = _correlated(steps=2)
    model.latents.prior = Prior(2, 2, learned=True)
    with torch.no_grad():
        model.latents.prior.table.copy_(0.3 * torch.randn(3, 4, generator=_generator(8)))
    weight, scale = model.latents.decoder.weight, model.latents.decoder.scale
    for label in (-1, 0, 1):
        y = torch.full((40_000,), label)
        rows, prior = model.sample(y, _generator()), model.latents.prior(y[:1])
        covariance = weight @ torch.diag(prior.log_variance[0].exp()) @ weight.T + scale**2 * torch.eye(2)
        torch.testing.assert_close(rows.mean(0), weight @ prior.mean[0], atol=0.04, rtol=0)
        torch.testing.assert_close(rows.T.cov(), covariance, atol=0.1, rtol=0.05)
