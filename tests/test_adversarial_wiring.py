"""What the switches of adversarial training come to in a model that is built with them, on rows that are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import MODELS, SPECS, generator, some_rows
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import parametrize

from models._conditional_norm import ConditionalBatchNorm
from models._contract import Batch
from models._critics import Critic
from models._generators import REFERENCE, as_seen
from models._penalties import squared_gradient, zero_centred
from models._virtual_norm import VirtualBatchNorm
from models.gan import GanConfig

NORMS: dict[str, set[type[nn.Module]]] = {"row": set(), "batch": {ConditionalBatchNorm}, "virtual": {VirtualBatchNorm}}
HOLDING = [kind for kind, config in MODELS.items() if "spectral_norm" in config.model_fields]


def critic_of(form: str = "vector", **settings: Any) -> tuple[Any, Batch, Tensor, Tensor]:
    """A model in evaluation mode whose generator's rows are known; a batch, and the rows of both as its critic sees."""
    spec = SPECS[form]
    model = GanConfig(**{"width": 8, "augmentation": (), "critic_dropout": 0.0, **settings}).build(spec, generator())
    batch = some_rows(spec, torch.tensor([0, 1, 2, 1, 0, -1]))
    made = some_rows(spec, batch.y, seed=9).x
    model.eval().generator.forward = lambda *_: made + 0 * sum(p.sum() for p in model.generator.parameters())
    return model, batch, as_seen(spec, batch.x), as_seen(spec, made)


def terms_of(model: Any, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    critic, maker = (objective.loss(batch, generator(2)) for objective in model.objectives())
    return critic, maker


def test_rows_of_one_source_are_never_compared_with_those_of_the_other() -> None:
    model, batch, real, made = critic_of(techniques={"minibatch_kernels": 3}, loss="non_saturating", r1=0, r2=0)
    expected = model.contest.loss.critic(
        model.contest.critic(real, batch.y), model.contest.critic(made, batch.y)
    ).mean()
    assert float(terms_of(model, batch)[0]["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_penalties_are_taken_where_their_names_say() -> None:
    model, batch, real, made = critic_of(r1=0.5, r2=0.25)
    critic, _ = terms_of(model, batch)
    for name, weight, rows in (("r1", 0.5, real), ("r2", 0.25, made)):
        expected = weight * zero_centred(squared_gradient(model.contest.critic, rows, batch.y)).mean()
        assert float(critic[name].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_generator_that_matches_features_minimises_their_distance_alone() -> None:
    model, batch, real, made = critic_of(techniques={"feature_matching": True})
    of_real, of_made = (model.contest.critic.scored(x, batch.y).features.mean(0) for x in (real, made))
    expected = (of_real - of_made).square().sum()
    assert float(terms_of(model, batch)[1]["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_labels_weigh_as_set_in_the_losses_of_both_nets() -> None:
    model, batch, real, made = critic_of(
        techniques={"classify": True, "label_weight": 3.0}, loss="non_saturating", r1=0, r2=0
    )
    critic, maker = terms_of(model, batch)
    known = batch.y >= 0
    for terms, rows in ((critic, real), (maker, made)):
        logits = model.contest.critic.class_logits(model.contest.critic.net(rows))
        expected = 3 * nn.functional.cross_entropy(logits[known], batch.y[known])
        assert float(terms["labels"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    scores = model.contest.critic(made, batch.y)
    expected = model.contest.loss.generator(scores).mean() + maker["labels"]
    assert float(maker["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_classes_are_told_from_rows_as_the_critic_saw_them() -> None:
    model, batch, _, _ = critic_of("grid", techniques={"classify": True}, loss="non_saturating")
    seen = as_seen(model.spec, batch.x)
    assert not torch.equal(seen, batch.x)
    assert torch.equal(model.class_logits(batch.x), model.contest.critic.class_logits(model.contest.critic.net(seen)))


def test_a_smoothed_critic_should_be_as_sure_of_real_rows_as_is_set_and_never_believe_a_synthetic_one() -> None:
    model, batch, real, made = critic_of(techniques={"real_target": 0.9}, loss="non_saturating")
    of_real, of_made = (model.contest.critic(rows, batch.y) for rows in (real, made))
    expected = (0.9 * softplus(-of_real) + 0.1 * softplus(of_real) + softplus(of_made)).mean()
    torch.testing.assert_close(terms_of(model, batch)[0]["adversarial"], expected)


def test_both_nets_pay_as_set_for_the_distance_to_their_past() -> None:
    model, batch, _, made = critic_of(techniques={"historical_averaging": 0.3}, loss="non_saturating", r1=0, r2=0)
    terms_of(model.train(), batch)  # where they are now is all of their past
    nets = (model.contest.critic, model.generator)
    with torch.no_grad():
        for parameter in (parameter for net in nets for parameter in net.parameters()):
            parameter.add_(0.5)
    critic, maker = terms_of(model.eval(), batch)
    for terms, net in zip((critic, maker), nets, strict=True):
        numbers = sum(parameter.numel() for parameter in net.parameters())
        torch.testing.assert_close(terms["history"], torch.tensor(0.3 * 0.25 * numbers))
    torch.testing.assert_close(critic["loss"], critic["adversarial"] + critic["history"])
    of_made = model.contest.critic(made, batch.y)
    torch.testing.assert_close(maker["loss"], softplus(-of_made).mean() + maker["history"])


def test_a_critic_that_compares_rows_reads_beside_their_features_how_alike_they_are() -> None:
    model, batch, real, _ = critic_of(techniques={"minibatch_kernels": 3, "minibatch_numbers": 5})
    critic = model.contest.critic
    assert critic.minibatch is not None, "the critic compares no rows"
    assert critic.minibatch.project.weight.shape == (3 * 5, 8)
    features = critic.net(real)
    closeness = critic.minibatch(features) / 5  # the mean over the five other rows
    torch.testing.assert_close(critic(real, batch.y), critic.head(torch.cat([features, closeness], 1), batch.y))


def test_the_generator_learns_from_the_classes_that_the_critic_tells_in_its_rows() -> None:
    model, batch, _, _ = critic_of(techniques={"classify": True, "label_weight": 3.0}, loss="non_saturating")
    critic, known = model.contest.critic, batch.y >= 0
    rows = some_rows(model.spec, batch.y, seed=5).x.requires_grad_()
    model.generator.forward = lambda *_: rows
    (found,) = torch.autograd.grad(terms_of(model, batch)[1]["loss"], rows)
    seen = as_seen(model.spec, rows)
    of_classes = nn.functional.cross_entropy(critic.class_logits(critic.net(seen))[known], batch.y[known])
    (expected,) = torch.autograd.grad(softplus(-critic(seen, batch.y)).mean() + 3 * of_classes, rows)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("form", "net"), [("vector", "mlp"), ("grid", "mlp"), ("grid", "resnet")])
def test_a_generator_normalises_as_is_set(form: str, net: str, norm: str) -> None:
    built = GanConfig(width=8, net=net, norm=norm).build(SPECS[form], generator()).generator
    layers = [layer for layer in built.modules() if isinstance(layer, ConditionalBatchNorm | VirtualBatchNorm)]
    assert {type(layer) for layer in layers} == NORMS[norm]
    references = {layer.reference for layer in layers if isinstance(layer, VirtualBatchNorm)}
    assert references == ({REFERENCE} if norm == "virtual" else set())
    assert len(built.reference_z) == (REFERENCE if norm == "virtual" else 0)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize("kind", HOLDING)
def test_all_layers_of_each_critic_are_spectrally_normalised_where_asked_and_none_elsewhere(
    kind: str, form: str, asked: bool
) -> None:
    model = MODELS[kind](width=8, spectral_norm=asked).build(SPECS[form], generator())
    critics = [module for module in model.modules() if isinstance(module, Critic)]
    assert critics
    for critic in critics:
        layers = [layer for layer in critic.modules() if isinstance(getattr(layer, "weight", None), Tensor)]
        assert [parametrize.is_parametrized(layer, "weight") for layer in layers] == [asked] * len(layers)
