"""The parts of adversarial training have the values that they have on paper: losses, penalties, critics, norms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from _model_cases import SPECS, generator, some_rows
from torch import Tensor, nn

from models import _spectral
from models._adversarial import LOSSES, LossName
from models._contest import Contest
from models._critics import Critic, make_critic
from models._generators import as_seen
from models._nets import NetSize
from models._penalties import Penalties, one_centred, squared_gradient, zero_centred

NAMES: list[LossName] = list(LOSSES)
SIZE = NetSize(16, 1, 8, 0.0)
LABELS = torch.arange(12) % 3


def scores(seed: int, count: int = 50) -> Tensor:
    return 2 * torch.randn(count, generator=generator(seed), dtype=torch.float64)


def of_generator(name: LossName, real: Tensor, synthetic: Tensor) -> Tensor:
    loss = LOSSES[name]
    return loss.generator(synthetic - real if loss.relative else synthetic)


# Losses


def test_the_losses_are_those_of_their_papers() -> None:
    real, synthetic = scores(1), scores(2)
    d_real, d_synthetic = torch.sigmoid(real), torch.sigmoid(synthetic)
    logistic = -d_real.log() - (1 - d_synthetic).log()
    zero = torch.zeros(())
    expected: dict[LossName, tuple[Tensor, Tensor]] = {
        "minimax": (logistic, (1 - d_synthetic).log()),
        "non_saturating": (logistic, -d_synthetic.log()),
        "hinge": (torch.maximum(1 - real, zero) + torch.maximum(1 + synthetic, zero), -synthetic),
        "least_squares": ((real - 1) ** 2 / 2 + synthetic**2 / 2, (synthetic - 1) ** 2 / 2),
        "wasserstein": (synthetic - real, -synthetic),
        "relativistic": (-torch.sigmoid(real - synthetic).log(), -torch.sigmoid(synthetic - real).log()),
    }
    assert set(expected) == set(NAMES)
    for name, (critic, generator_) in expected.items():
        torch.testing.assert_close(LOSSES[name].critic(real, synthetic), critic, msg=f"critic of {name}")
        torch.testing.assert_close(of_generator(name, real, synthetic), generator_, msg=f"generator of {name}")


@pytest.mark.parametrize("name", NAMES)
def test_the_critic_wants_real_rows_higher_and_the_generator_its_own(name: LossName) -> None:
    real, synthetic = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    up, down = torch.autograd.grad(LOSSES[name].critic(real, synthetic).sum(), (real, synthetic), allow_unused=True)
    assert up < 0
    assert down > 0 or name == "least_squares"  # synthetic rows are asked to score 0, where this one is
    (own,) = torch.autograd.grad(of_generator(name, real.detach(), synthetic).sum(), synthetic)
    assert own < 0


def test_relativistic_pairing_does_not_change_with_a_constant_in_the_critic() -> None:
    real, synthetic = scores(1), scores(2)
    for constant in (-30.0, 0.5, 30.0):
        for of in (LOSSES["relativistic"].critic, lambda r, s: of_generator("relativistic", r, s)):
            torch.testing.assert_close(of(real + constant, synthetic + constant), of(real, synthetic))
    moved = LOSSES["non_saturating"].critic(real + 0.5, synthetic + 0.5)
    assert not torch.allclose(moved, LOSSES["non_saturating"].critic(real, synthetic))


@pytest.mark.parametrize(("name", "nats"), [("minimax", 2 * math.log(2)), ("relativistic", math.log(2))])
def test_a_critic_of_two_equal_distributions_ends_at_the_value_on_paper(name: LossName, nats: float) -> None:
    """arXiv:1406.2661, theorem 1: -V = ln 4 where the rows of both have one distribution."""
    critic = make_critic(SPECS["vector"], SIZE, "mlp")
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(4)))
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    values = []
    for step in range(400):
        y = torch.arange(256) % 3
        first, second = (some_rows(SPECS["vector"], y, seed=2 * step + n).x for n in range(2))
        loss = LOSSES[name].critic(critic(first, y), critic(second, y)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[0] > nats + 0.05
    assert sum(values[-50:]) / 50 == pytest.approx(nats, abs=0.02)


# Penalties


def linear(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, _y: x.flatten(1) @ weight.to(x.dtype) + 0.5


def test_the_penalties_of_a_linear_critic_are_those_in_closed_form() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    x, other = (some_rows(SPECS["vector"], LABELS, seed).x for seed in (1, 2))
    critic, squared = linear(weight), weight.square().sum()
    torch.testing.assert_close(squared_gradient(critic, x, LABELS), squared.expand(12))
    torch.testing.assert_close(zero_centred(squared_gradient(critic, x, LABELS)), squared.expand(12) / 2)
    found = one_centred(critic, x, other, LABELS, generator())
    torch.testing.assert_close(found, (squared.sqrt() - 1).square().expand(12))
    unit = one_centred(linear(weight / weight.norm()), x, other, LABELS, generator())
    torch.testing.assert_close(unit, torch.zeros(12), atol=1e-6, rtol=0)


def test_a_penalty_moves_the_weights_of_the_critic_towards_a_flatter_one() -> None:
    weight = nn.Parameter(torch.tensor([3.0, -4.0]))
    zero_centred(squared_gradient(linear(weight), torch.zeros(5, 2), LABELS[:5])).mean().backward()
    torch.testing.assert_close(weight.grad, weight.detach())  # of |w|^2 / 2


@pytest.mark.parametrize(("r1", "r2"), [(0.5, 0.25), (0.5, 0.0), (0.0, 0.25), (0.0, 0.0)])
def test_scores_and_penalties_of_one_pass_are_those_of_passes_of_their_own(r1: float, r2: float) -> None:
    spec = SPECS["grid"]
    real, *synthetic = (some_rows(spec, LABELS, seed).x for seed in (1, 2, 3))
    contest = Contest(spec, make_critic(spec, SIZE, "resnet"), LOSSES["relativistic"], Penalties(r1, r2))
    terms, _ = contest.critic_terms(real, synthetic, LABELS, generator())
    critic, of_real, *others = contest.critic, *(as_seen(spec, x) for x in (real, *synthetic))
    adversarial = torch.stack(
        [LOSSES["relativistic"].critic(critic(of_real, LABELS), critic(x, LABELS)) for x in others]
    )
    expected = {
        "adversarial": adversarial.mean(),
        "r1": r1 * squared_gradient(critic, of_real, LABELS).mean() / 2,
        "r2": r2 * torch.stack([squared_gradient(critic, x, LABELS) for x in others]).mean() / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms.get(name, torch.zeros(())), value)
    weights = [*critic.parameters()]
    gradients = (torch.autograd.grad(loss, weights) for loss in (terms["loss"], sum(expected.values())))
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_those_who_made_rows_are_scored_beside_real_ones_that_nobody_made() -> None:
    spec = SPECS["grid"]
    real, made = (some_rows(spec, LABELS, seed).x for seed in (1, 2))
    contest = Contest(spec, make_critic(spec, SIZE, "resnet"), LOSSES["relativistic"], Penalties(1.0, 1.0))
    made.requires_grad_()
    score, features = contest.scored([real, made], LABELS, generator())
    for place, rows in enumerate((real, made)):
        alone = contest.critic.scored(as_seen(spec, rows), LABELS)
        torch.testing.assert_close(score[place], alone.score)
        torch.testing.assert_close(features[place], alone.features)
    contest.against(score[1:], score[0]).backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in contest.critic.parameters())


def test_the_gradient_penalty_looks_between_a_real_row_and_its_synthetic_one() -> None:
    asked: list[Tensor] = []

    def critic(x: Tensor, y: Tensor) -> Tensor:
        asked.append(x.detach())
        return x.flatten(1).square().sum(1)

    real, synthetic = torch.zeros(2000, 2), torch.tensor([[2.0, 4.0]]).expand(2000, 2)
    one_centred(critic, real, synthetic, torch.zeros(2000, dtype=torch.int64), generator())
    place = asked[0][:, 0] / 2
    torch.testing.assert_close(asked[0][:, 1], 4 * place)
    assert place.min() >= 0
    assert place.max() <= 1
    torch.testing.assert_close(torch.stack([place.mean(), place.std()]), torch.tensor([0.5, 0.2887]), atol=0.02, rtol=0)


# Critics


def critics(form: str, *, spectral: bool = False) -> list[Critic]:
    kinds = ("mlp", "resnet") if form == "grid" else ("mlp",)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [make_critic(SPECS[form], SIZE, kind, spectral=spectral) for kind in kinds]


def check_projection(critic: Critic, form: str) -> None:
    """D(x, y) - D(x, y') = <v_y - v_y', f(x)>, and it is not zero (arXiv:1802.05637, equation 3)."""
    x = some_rows(SPECS[form], LABELS).x
    other = (LABELS + 1) % 3
    with torch.no_grad():
        difference = critic(x, LABELS) - critic(x, other)
        vectors = critic.head.label(LABELS) - critic.head.label(other)
        projected = (vectors * critic.scored(x, LABELS).features).sum(1)
    torch.testing.assert_close(difference, projected, atol=1e-5, rtol=1e-4, msg="no projection")
    assert difference.abs().min() > 1e-6, "no projection: the label is not heard"


@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize("spectral", [False, True])
def test_a_label_adds_its_projection_on_the_features(form: str, spectral: bool) -> None:
    for critic in critics(form, spectral=spectral):
        check_projection(critic, form)


def test_a_critic_that_ignores_the_label_is_found_out_by_the_projection() -> None:
    (critic,) = critics("vector")
    heard = critic.forward
    critic.forward = lambda x, y: heard(x, torch.zeros_like(y))  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="no projection"):
        check_projection(critic, "vector")


@pytest.mark.parametrize("form", SPECS)
def test_a_critic_scores_a_row_the_same_whatever_else_is_in_the_batch(form: str) -> None:
    x = some_rows(SPECS[form], LABELS).x
    for critic in critics(form):
        torch.testing.assert_close(critic(x, LABELS)[3:5], critic(x[3:5], LABELS[3:5]), atol=1e-5, rtol=1e-4)


# Spectral normalisation


def largest_singular_values(net: nn.Module) -> list[float]:
    layers = [m for m in net.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    return [float(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]) for layer in layers]


@pytest.mark.parametrize("form", SPECS)
def test_the_largest_singular_value_of_every_normalised_layer_is_one(form: str) -> None:
    for critic in critics(form, spectral=True):
        for _ in range(200):
            _spectral.iterate(critic)
        values = largest_singular_values(critic)
        assert len(values) >= 5
        assert values == pytest.approx([1.0] * len(values), abs=1e-3)
    assert max(largest_singular_values(critics(form)[0])) > 1.1


def test_only_iterating_moves_the_singular_vectors() -> None:
    (critic,) = critics("vector", spectral=True)
    before = {name: value.clone() for name, value in critic.named_buffers()}
    assert before
    critic.train()(some_rows(SPECS["vector"], LABELS).x, LABELS).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in critic.named_buffers())
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator()))
    _spectral.iterate(critic)
    assert not any(torch.equal(value, before[name]) for name, value in critic.named_buffers() if value.numel() > 1)


def test_the_gradient_of_a_normalised_weight_is_that_of_the_quotient() -> None:
    """d sigma / d W = u v' (arXiv:1802.05957, equation 12), with u and v held."""
    layer = nn.Linear(4, 3, bias=False)
    _spectral.normalised(layer)
    _spectral.iterate(layer, 100)
    part = layer.parametrizations.weight[0]  # type: ignore[index,union-attr]
    weight = layer.parametrizations.weight.original  # type: ignore[union-attr]
    upstream = torch.randn(3, 4, generator=generator())
    layer.weight.backward(upstream)
    sigma = torch.linalg.svdvals(weight.detach())[0]
    outer = torch.outer(part.left, part.right)
    expected = (upstream - (upstream * weight.detach() / sigma).sum() * outer) / sigma
    torch.testing.assert_close(weight.grad, expected, atol=1e-5, rtol=1e-4)
