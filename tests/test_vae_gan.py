"""VAE/GAN: which loss reaches which net, what the likelihood in features is, and what the critic is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from _few_causes import relative_error, rows_of_few_causes
from _model_cases import SPECS, generator, some_rows, train
from _routing import Routes, routes
from pydantic import ValidationError
from torch import Tensor

from models._adversarial import LOSSES, LossName
from models._contest import Contest
from models._contract import Batch, TensorSpec
from models._critics import Scored, scored_kinds
from models._gaussian import Gaussian
from models._generators import Decoded, as_seen
from models.vae_gan import LearnedSimilarityAutoencoder, VaeGanConfig

# Algorithm 1 of the paper: which network each term may reach; the figures that are logged beside them reach none.
TABLE: Routes = {
    ("encoder", "kl"): {"encoder"},
    ("encoder", "likelihood"): {"encoder", "generator"},
    ("encoder", "active_units"): set(),
    ("generator", "likelihood"): {"generator"},
    ("generator", "adversarial"): {"generator"},
    ("critic", "adversarial"): {"critic"},
    ("critic", "r1"): {"critic"},
    ("critic", "r2"): {"critic"},
    ("critic", "told"): set(),
    ("critic", "accuracy_real"): set(),
    ("critic", "accuracy_synthetic"): set(),
    ("critic", "gap"): set(),
    ("critic", "variety"): set(),
}
FORMS = pytest.mark.parametrize("form", SPECS)


def _model(form: str = "vector", **settings: Any) -> LearnedSimilarityAutoencoder:
    return VaeGanConfig(**settings).build(SPECS[form], generator())


def _batch(spec: TensorSpec, rows: int = 8) -> Batch:
    return some_rows(spec, torch.arange(rows) % 3)


def _routes(model: LearnedSimilarityAutoencoder) -> Routes:
    nets = model.autoencoder
    networks = {"encoder": nets.encoder, "generator": nets.generator, "critic": model.contest.critic}
    return routes(model, networks, _batch(model.spec))


@FORMS
@pytest.mark.parametrize("loss", LOSSES)
def test_every_term_reaches_the_networks_of_the_paper_and_no_other(form: str, loss: LossName) -> None:
    assert _routes(_model(form, loss=loss)) == TABLE


def test_normalised_layers_are_routed_like_others() -> None:
    assert _routes(_model(spectral_norm=True)) == TABLE


def test_convolutions_are_routed_like_linear_layers() -> None:
    assert _routes(_model("grid", net="resnet", width=8, embedding=8)) == TABLE


def test_features_that_are_not_held_for_the_likelihood_fail_the_table() -> None:
    class Leaking(Contest):
        def scored(self, kinds: Sequence[Tensor], y: Tensor, generator: torch.Generator) -> Scored:
            return scored_kinds(self.critic, self._seen(kinds, generator), y)

    model = _model()
    model.contest.__class__ = Leaking
    found = _routes(model)
    assert found["encoder", "likelihood"] == {"encoder", "generator", "critic"}
    assert found["generator", "adversarial"] == {"generator", "critic"}


def test_scores_that_reach_the_encoder_fail_the_table() -> None:
    class Leaking(LearnedSimilarityAutoencoder):
        def _both_kinds(self, batch: Batch, generator: torch.Generator) -> tuple[Decoded, ...]:
            nets = self.autoencoder
            code = nets.posterior(batch.x, batch.y).at(nets.noise(batch.y, generator))
            return nets.decoded((code, nets.noise(batch.y, generator)), batch.y, generator)

    model = _model()
    model.__class__ = Leaking
    assert _routes(model)["generator", "adversarial"] == {"encoder", "generator"}


def test_the_objectives_weigh_the_terms_as_the_paper_does() -> None:
    model = _model(beta=2.0, gamma=0.5)
    terms = {objective.name: objective.loss(_batch(model.spec), generator()) for objective in model.objectives()}
    encoder, made, critic = terms["encoder"], terms["generator"], terms["critic"]
    torch.testing.assert_close(encoder["loss"], 2 * encoder["kl"] + encoder["likelihood"])
    torch.testing.assert_close(made["loss"], 0.5 * made["likelihood"] + made["adversarial"])
    torch.testing.assert_close(critic["loss"], critic["adversarial"] + critic["r1"] + critic["r2"])


@pytest.mark.parametrize("ruler", ["unit", "real"])
def test_the_likelihood_of_a_perfect_reconstruction_is_zero_and_of_another_is_not(ruler: str) -> None:
    model = _model(ruler=ruler)
    x, y = _batch(model.spec)
    same = model.contest.scored([x, x], y, generator()).features
    other = model.contest.scored([x, x.flip(0)], y, generator()).features
    assert model.likelihood(same[0], same[1]) == 0
    assert model.likelihood(other[0], other[1]) > 0


def test_the_likelihood_is_that_of_a_unit_gaussian_without_its_constant() -> None:
    real, made = torch.randn(2, 5, 7, generator=generator())
    nats = -torch.distributions.Normal(made, 1.0).log_prob(real).sum(1).mean() - 7 * 0.5 * torch.log(
        torch.tensor(2 * torch.pi)
    )
    torch.testing.assert_close(_model(ruler="unit").likelihood(real, made), nats)


def test_with_the_ruler_of_real_features_a_critic_that_stretches_them_changes_nothing() -> None:
    real, made = torch.randn(2, 5, 7, generator=generator())
    stretched = _model().likelihood(100 * real, 100 * made)
    torch.testing.assert_close(stretched, _model().likelihood(real, made))
    assert _model(ruler="unit").likelihood(100 * real, 100 * made) > 9999 * stretched / 10
    alike = real[:1].expand(5, -1)
    assert torch.isfinite(_model().likelihood(alike, made))  # one row has no spread


@FORMS
def test_the_critic_is_shown_reconstructions_and_rows_of_the_prior_each_for_half(form: str) -> None:
    model = _model(form, loss="non_saturating", augmentation=(), r1=0.0).eval()
    x, y = batch = _batch(model.spec)
    with torch.no_grad():
        of_code, of_prior = (made.rows for made in model._both_kinds(batch, generator(3)))
        real, near, free = (model.contest.critic(as_seen(model.spec, rows), y) for rows in (x, of_code, of_prior))
    adversarial = model._critic_loss(batch, generator(3))["adversarial"]
    logits = torch.nn.functional.softplus
    expected = (logits(-real) + 0.5 * logits(near) + 0.5 * logits(free)).mean()
    torch.testing.assert_close(adversarial.detach(), expected)


@FORMS
def test_the_generator_should_fool_the_critic_with_reconstructions_and_rows_of_the_prior_alike(form: str) -> None:
    model = _model(form, augmentation=()).eval()
    x, y = batch = _batch(model.spec)
    with torch.no_grad():
        near, free = (made.rows for made in model._both_kinds(batch, generator(3)))
        of_real, of_near, of_free = (model.contest.critic(as_seen(model.spec, rows), y) for rows in (x, near, free))
    found = model._generator_loss(batch, generator(3))["adversarial"].detach()
    softplus = torch.nn.functional.softplus
    torch.testing.assert_close(found, (0.5 * softplus(of_real - of_near) + 0.5 * softplus(of_real - of_free)).mean())


def test_reconstructions_follow_the_code_of_their_row_and_rows_of_the_prior_do_not() -> None:
    model = _model("grid").eval()
    x, y = _batch(model.spec)
    first, second = (model._both_kinds(Batch(rows, y), generator(3)) for rows in (x, x.flip(0)))
    assert not torch.equal(first[0].rows, second[0].rows)
    assert torch.equal(first[1].rows, second[1].rows)


@pytest.mark.slow
@FORMS
def test_a_reconstruction_is_nearer_to_its_row_than_the_mean_of_its_class(form: str) -> None:
    model, batch = _model(form), rows_of_few_causes(SPECS[form])
    train(model, batch, 400)
    assert relative_error(model, batch) < 0.6


def test_what_cannot_train_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValidationError, match="no bound without a hold on the critic"):
        VaeGanConfig(loss="wasserstein", r1=0.0)
    assert VaeGanConfig(loss="wasserstein", r1=0.0, spectral_norm=True).spectral_norm
    with pytest.raises(ValueError, match="a resnet needs rows that are grids"):
        VaeGanConfig(net="resnet").build(SPECS["vector"], generator())
    with pytest.raises(ValueError, match="augmentation 'shift' is of images"):
        VaeGanConfig(augmentation=("shift",)).build(SPECS["vector"], generator())


def test_the_watch_sees_what_the_critic_tells_apart() -> None:
    model = _model()
    model.begin_step(0, 10)
    for _ in range(400):
        model.watch.update(torch.tensor(1.0), torch.tensor(0.9))
    assert "the critic has run away" in str(model.trouble())


def test_a_code_is_drawn_around_the_mean_that_is_encoded() -> None:
    model = _model().eval()
    batch = _batch(model.spec)
    with torch.no_grad():
        posterior = model.autoencoder.posterior(*batch)
    assert isinstance(posterior, Gaussian)
    assert torch.equal(model.encode(batch), posterior.mean)
    torch.testing.assert_close(
        model.resample(batch.x, batch.y, generator(), 0.0), model.decode(posterior.mean, batch.y)
    )


def test_the_spread_is_that_of_the_form_unless_it_is_set() -> None:
    assert {form: _model(form).autoencoder.spread for form in SPECS} == {"vector": 1.0, "grid": 0.75}
    assert _model("grid", spread=0.3).autoencoder.spread == 0.3
    text = VaeGanConfig.model_fields["spread"].description
    assert text == "Spread of z in a draw, over its prior's; null: 1 for a table, 0.75 for images."


def test_a_spread_narrows_what_is_drawn_from_the_prior_and_nothing_else() -> None:
    wide, narrow = (_model("grid", spread=spread).eval() for spread in (1.0, 0.5))
    x, y = _batch(wide.spec)
    assert torch.equal(narrow.sample(y, generator()), wide.sample(y, generator(), 0.5))
    assert torch.equal(narrow.resample(x, y, generator()), wide.resample(x, y, generator()))


def test_a_critic_learns_without_a_gradient_to_those_who_made_its_rows() -> None:
    model = _model()
    x, y = _batch(model.spec)
    made = x.clone().requires_grad_()
    terms, _ = model.contest.critic_terms(x, [made], y, generator())
    assert torch.autograd.grad(terms["loss"], made, allow_unused=True) == (None,)


def test_the_likelihood_is_of_reconstructions_and_never_of_rows_of_the_prior() -> None:
    model = _model(augmentation=()).eval()
    batch = _batch(model.spec)
    reconstructions, others = (some_rows(model.spec, batch.y, seed=seed).x for seed in (4, 5))
    both = (Decoded(reconstructions, reconstructions), Decoded(others, others))
    model._both_kinds = lambda *_: both  # type: ignore[method-assign,assign]
    terms = model.objectives()[1].loss(batch, generator())
    features = model.contest.scored([batch.x, reconstructions], batch.y, generator()).features
    torch.testing.assert_close(terms["likelihood"], model.likelihood(features[0], features[1]))


def test_the_penalty_at_synthetic_rows_has_a_weight_of_its_own() -> None:
    usual, other, none = (_model(r1=0.5, **settings).contest for settings in ({}, {"r2": 0.25}, {"r2": 0}))
    assert [contest.penalties[:2] for contest in (usual, other, none)] == [(0.5, 0.5), (0.5, 0.25), (0.5, 0)]
