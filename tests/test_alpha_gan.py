"""Alpha-GAN: which loss reaches which net, what the critics estimate, and that each of its parts is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from _few_causes import relative_error, rows_of_few_causes
from _model_cases import SPECS, generator, optimiser_of, some_rows, train
from _routing import Routes, routes
from pydantic import ValidationError
from torch import Tensor

from models._adversarial import LOSSES
from models._contest import Contest
from models._contract import Batch, Objective, OptimiserConfig, Span, TensorSpec
from models._critics import Scored, make_critic, scored_kinds
from models._generators import Decoded, as_seen
from models._nets import NetSize, first_weights
from models._penalties import Penalties
from models.alpha_gan import DENSITY_RATIO, AlphaGanConfig, AutoEncodingAdversarialNet, reconstruction_error

# Algorithm 1 of the paper: which network each term may reach; the figures that are logged beside them reach none.
CRITICS: Routes = {
    (objective, term): {objective} if term in ("adversarial", "r1", "r2") else set()
    for objective in ("critic", "code_critic")
    for term in ("adversarial", "r1", "r2", "told", "accuracy_real", "accuracy_synthetic", "gap", "variety")
}
TABLE: Routes = {
    ("encoder", "reconstruction"): {"encoder", "generator"},
    ("encoder", "adversarial"): {"encoder"},
    ("encoder", "active_units"): set(),
    ("generator", "reconstruction"): {"generator"},
    ("generator", "adversarial"): {"generator"},
    **CRITICS,
}
LOSS_NAMES = ("density_ratio", *LOSSES)
FORMS = pytest.mark.parametrize("form", SPECS)


def _model(form: str = "vector", **settings: Any) -> AutoEncodingAdversarialNet:
    return AlphaGanConfig(**settings).build(SPECS[form], generator())


def _batch(spec: TensorSpec, rows: int = 8) -> Batch:
    return some_rows(spec, torch.arange(rows) % 3)


def _routes(model: AutoEncodingAdversarialNet) -> Routes:
    networks = {
        "encoder": model.autoencoder.encoder,
        "generator": model.autoencoder.generator,
        "critic": model.rows.critic,
        "code_critic": model.codes.critic,
    }
    return routes(model, networks, _batch(model.spec))


# Routing


@FORMS
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_term_reaches_the_networks_of_the_paper_and_no_other(form: str, loss: str) -> None:
    assert _routes(_model(form, loss=loss, code_loss=loss)) == TABLE


def test_convolutions_are_routed_like_linear_layers() -> None:
    assert _routes(_model("grid", net="resnet", width=8, embedding=8)) == TABLE


def test_critics_that_are_not_held_while_others_learn_fail_the_table() -> None:
    class Leaking(Contest):
        def scored(self, kinds: Sequence[Tensor], y: Tensor, generator: torch.Generator) -> Scored:
            return scored_kinds(self.critic, self._seen(kinds, generator), y)

    model = _model()
    model.rows.__class__ = model.codes.__class__ = Leaking
    found = _routes(model)
    assert found["encoder", "adversarial"] == {"encoder", "code_critic"}
    assert found["generator", "adversarial"] == {"generator", "critic"}


def test_scores_of_rows_that_reach_the_encoder_fail_the_table() -> None:
    class Leaking(AutoEncodingAdversarialNet):
        def _both_kinds(self, batch: Batch, generator: torch.Generator) -> tuple[Decoded, ...]:
            code = self._code(batch, generator)
            return self.autoencoder.decoded((code, self.autoencoder.noise(batch.y, generator)), batch.y, generator)

    model = _model()
    model.__class__ = Leaking
    assert _routes(model)["generator", "adversarial"] == {"encoder", "generator"}


def test_the_objectives_weigh_the_terms_as_the_paper_does() -> None:
    model = _model(reconstruction=2.0)
    for objective in model.objectives()[:2]:
        terms = objective.loss(_batch(model.spec), generator())
        torch.testing.assert_close(terms["loss"], 2 * terms["reconstruction"] + terms["adversarial"])
    for objective in model.objectives()[2:]:
        terms = objective.loss(_batch(model.spec), generator())
        torch.testing.assert_close(terms["loss"], terms["adversarial"] + terms["r1"] + terms["r2"])


def test_encoder_and_generator_step_more_often_than_the_critics_where_asked() -> None:
    assert [objective.every for objective in _model(critic_every=2).objectives()] == [1, 1, 2, 2]


# What the critic of codes estimates


def _codes_contest(classes: int = 1) -> Contest:
    spec = TensorSpec((1,), (Span("continuous", 1),), classes)
    with first_weights(generator()):
        critic = make_critic(spec, NetSize(64, 1, 8, 0.0), "mlp")
    return Contest(spec, critic, DENSITY_RATIO, Penalties(0.0, 0.0))


def _settle(contest: Contest, means: Tensor, deviation: float, *, exchanged: bool = False, deaf: bool = False) -> None:
    """Train the critic of ``contest`` to tell N(0, 1) from N(means[y], deviation^2)."""
    objective = Objective("codes", tuple(contest.critic.parameters()), lambda _batch, _noise: {}, OptimiserConfig())
    optimiser, noise = optimiser_of(objective), generator(3)
    y = torch.arange(1024) % len(means)
    for step in range(400):
        prior, codes = torch.randn(2, 1024, 1, generator=noise)
        codes = means[y, None] + deviation * codes
        real, synthetic = (codes, prior) if exchanged else (prior, codes)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / 400)
        optimiser.zero_grad()
        terms, _ = contest.critic_terms(real, [synthetic], torch.zeros_like(y) if deaf else y, noise)
        terms["loss"].backward()
        optimiser.step()


def _estimate(contest: Contest, means: Tensor, deviation: float, *, deaf: bool = False) -> tuple[float, Tensor]:
    """E_q[R_C], and the step away from zero that a descent of it would take each code of q."""
    noise, y = generator(4), torch.arange(20_000) % len(means)
    prior, codes = torch.randn(2, 20_000, 1, generator=noise)
    codes = (means[y, None] + deviation * codes).requires_grad_()
    score = contest.scored([prior, codes], torch.zeros_like(y) if deaf else y, noise).score
    estimate = contest.against(score[1:], score[0])
    (gradient,) = torch.autograd.grad(estimate, codes)
    return float(estimate.detach()), -(gradient * codes.sign()).sum()


def test_the_mean_ratio_of_the_critic_of_codes_is_the_divergence_of_two_gaussians() -> None:
    contest, means = _codes_contest(), torch.tensor([1.5])
    _settle(contest, means, 1.0)
    estimate, away = _estimate(contest, means, 1.0)
    assert estimate == pytest.approx(0.5 * 1.5**2, abs=0.08)
    assert away < 0, "the encoder would take its codes away from the prior"


def test_a_critic_of_codes_with_its_inputs_exchanged_drives_codes_from_the_prior() -> None:
    """Equations 16 and 17 of the first version of the paper."""
    contest, means = _codes_contest(), torch.tensor([1.5])
    _settle(contest, means, 1.0, exchanged=True)
    estimate, away = _estimate(contest, means, 1.0)
    assert estimate < -0.9
    assert away > 0


def test_the_critic_of_codes_holds_the_codes_of_each_class_to_the_prior_and_a_deaf_one_their_mixture() -> None:
    means, deviation = torch.tensor([-0.8, 0.8]), 0.6
    divergence = 0.5 * (deviation**2 + 0.8**2 - 1) - torch.log(torch.tensor(deviation))
    hearing, deaf = _codes_contest(2), _codes_contest(2)
    _settle(hearing, means, deviation)
    _settle(deaf, means, deviation, deaf=True)
    assert _estimate(hearing, means, deviation)[0] == pytest.approx(float(divergence), abs=0.08)
    assert _estimate(deaf, means, deviation, deaf=True)[0] < 0.2 * divergence


def test_the_model_tells_its_critic_of_codes_the_labels() -> None:
    model = _model().eval()
    x, y = batch = _batch(model.spec)
    model.autoencoder.encoder.label.table.weight.data.zero_()  # codes now know no label
    other = Batch(x, (y + 1) % 3)
    losses = [model._code_loss(asked, generator())["adversarial"] for asked in (batch, other)]
    assert losses[0] != losses[1]


def test_codes_of_the_prior_are_the_real_ones_of_the_critic_of_codes() -> None:
    model = _model(code_r1=0.0).eval()
    batch = _batch(model.spec)
    noise = generator(3)
    with torch.no_grad():
        code = model._code(batch, noise)
        prior = model.autoencoder.noise(batch.y, noise)
        of_prior, of_code = (model.codes.critic(z, batch.y) for z in (prior, code))
    found = model._code_loss(batch, generator(3))["adversarial"].detach()
    softplus = torch.nn.functional.softplus
    torch.testing.assert_close(found, (softplus(-of_prior) + softplus(of_code)).mean())


# Rows


def test_the_critic_of_rows_is_watched_and_that_of_codes_is_not() -> None:
    model, batch = _model().train(), _batch(_model().spec)
    rows, codes = (objective.loss for objective in model.objectives()[2:])
    codes(batch, generator())
    assert (float(model.watch.told), float(model.watch.variety)) == (0.5, 1.0)
    rows(batch, generator())
    assert float(model.watch.variety) != 1
    assert [name for name in model.state_dict() if name.endswith(("told", "variety"))] == [
        "watch.told",
        "watch.variety",
    ]


def test_the_reconstruction_error_is_a_mean_distance_with_the_cross_entropy_of_categories() -> None:
    spec = SPECS["vector"]
    x, _ = some_rows(spec, torch.arange(4) % 3)
    raw = torch.randn(4, 5, generator=generator(1))
    rows = torch.cat([raw[:, :2], x[:, 2:]], dim=1)
    nats = torch.nn.functional.cross_entropy(raw[:, 2:], x[:, 2:].argmax(1), reduction="none")
    expected = (((x - raw)[:, :2].abs().sum(1) + nats) / 3).mean()
    torch.testing.assert_close(reconstruction_error(spec, Decoded(rows, raw), x), expected)
    grid = some_rows(SPECS["grid"], torch.arange(4) % 3).x
    assert reconstruction_error(SPECS["grid"], Decoded(grid, torch.zeros(4, 64)), grid) == 0


@FORMS
def test_both_kinds_of_rows_are_synthetic_to_the_critic_each_for_half(form: str) -> None:
    model = _model(form, loss="density_ratio", augmentation=(), r1=0.0).eval()
    x, y = batch = _batch(model.spec)
    with torch.no_grad():
        near, free = (
            model.rows.critic(as_seen(model.spec, made.rows), y) for made in model._both_kinds(batch, generator(3))
        )
        real = model.rows.critic(as_seen(model.spec, x), y)
    softplus = torch.nn.functional.softplus
    expected = (softplus(-real) + 0.5 * softplus(near) + 0.5 * softplus(free)).mean()
    torch.testing.assert_close(model._critic_loss(batch, generator(3))["adversarial"].detach(), expected)


@FORMS
def test_the_generator_should_fool_the_critic_with_reconstructions_and_rows_of_the_prior_alike(form: str) -> None:
    model = _model(form, augmentation=()).eval()
    x, y = batch = _batch(model.spec)
    with torch.no_grad():
        near, free = (made.rows for made in model._both_kinds(batch, generator(3)))
        of_real, of_near, of_free = (model.rows.critic(as_seen(model.spec, rows), y) for rows in (x, near, free))
    found = model._generator_loss(batch, generator(3))["adversarial"].detach()
    softplus = torch.nn.functional.softplus
    torch.testing.assert_close(found, (0.5 * softplus(of_real - of_near) + 0.5 * softplus(of_real - of_free)).mean())


def test_the_spread_is_that_of_the_form_unless_it_is_set() -> None:
    assert {form: _model(form).autoencoder.spread for form in SPECS} == {"vector": 1.0, "grid": 0.55}
    assert _model("grid", spread=0.3).autoencoder.spread == 0.3
    text = AlphaGanConfig.model_fields["spread"].description
    assert text == "Spread of z in a draw, over its prior's; null: 1 for a table, 0.55 for images."


@pytest.mark.slow
@FORMS
def test_a_reconstruction_is_nearer_to_its_row_than_the_mean_of_its_class(form: str) -> None:
    model, batch = _model(form), rows_of_few_causes(SPECS[form])
    train(model, batch, 400)
    assert relative_error(model, batch) < 0.6


@pytest.mark.slow
def test_without_the_reconstruction_term_codes_tell_nothing_of_their_rows() -> None:
    model, batch = _model(reconstruction=0.0), rows_of_few_causes(SPECS["vector"])
    train(model, batch, 400)
    assert relative_error(model, batch) > 0.9


def test_what_cannot_train_is_refused_in_a_sentence() -> None:
    for unheld in ({"loss": "wasserstein", "r1": 0.0}, {"code_loss": "wasserstein", "code_r1": 0.0}):
        with pytest.raises(ValidationError, match="no bound without a hold on the critic"):
            AlphaGanConfig.model_validate(unheld)
    with pytest.raises(ValueError, match="a resnet needs rows that are grids"):
        AlphaGanConfig(net="resnet").build(SPECS["vector"], generator())


def test_the_generator_reconstructs_the_codes_of_rows_and_never_those_of_the_prior() -> None:
    model = _model().eval()
    batch = _batch(model.spec)
    reconstructions, others = (some_rows(model.spec, batch.y, seed=seed).x for seed in (4, 5))
    both = (Decoded(reconstructions, reconstructions), Decoded(others, others))
    model._both_kinds = lambda *_: both  # type: ignore[method-assign,assign]
    (made,) = [objective for objective in model.objectives() if objective.name == "generator"]
    expected = reconstruction_error(model.spec, both[0], batch.x)
    assert not torch.allclose(expected, reconstruction_error(model.spec, both[1], batch.x))
    torch.testing.assert_close(made.loss(batch, generator())["reconstruction"], expected)
