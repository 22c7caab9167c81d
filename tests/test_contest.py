"""Who learns what from whom where rows are scored: the critic from rows that nobody made, the others through it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from _model_cases import SPECS, generator, some_rows
from pydantic import ValidationError
from torch import Tensor

from models._adversarial import LOSSES
from models._augmentation import draw_changes
from models._contest import Contest
from models._contract import ModelConfig
from models._critics import make_critic
from models._generators import as_seen
from models._nets import NetSize
from models._penalties import Penalties, one_centred
from models._watching import relative_variety
from models.alpha_gan import AlphaGanConfig
from models.gan import GanConfig
from models.vae_gan import VaeGanConfig

SPEC = SPECS["vector"]
LABELS = torch.arange(12) % 3


def contest_of(*, spectral: bool = False, **settings: Any) -> Contest:
    critic = make_critic(SPEC, NetSize(8, 1, 8, 0.0), "mlp", spectral=spectral)
    return Contest(SPEC, critic, LOSSES["non_saturating"], settings.pop("penalties", Penalties(0.1, 0.1)), **settings)


def kinds() -> tuple[Tensor, list[Tensor]]:
    """Real rows, and two kinds of synthetic ones, the second of which are all alike."""
    real, first = (some_rows(SPEC, LABELS, seed).x for seed in (1, 2))
    return real, [first, first[:1].expand(first.shape).clone()]


def test_a_critic_learns_nothing_that_reaches_those_who_made_the_rows() -> None:
    real, synthetic = kinds()
    rows = [x.requires_grad_() for x in (real, *synthetic)]
    terms, _ = contest_of().critic_terms(rows[0], rows[1:], LABELS, generator())
    assert torch.autograd.grad(terms["loss"], rows, allow_unused=True) == (None, None, None)


def test_the_variety_that_is_watched_is_that_of_the_last_kind() -> None:
    real, synthetic = kinds()
    terms, _ = contest_of().critic_terms(real, synthetic, LABELS, generator(3))
    assert float(terms["variety"]) == 0
    assert relative_variety(real, synthetic[0], LABELS, generator(3)) > 0.3


def test_those_who_made_rows_learn_from_what_the_critic_says_of_them_changed() -> None:
    contest, (real, (made, _)) = contest_of(changes=("noise",)), kinds()
    change = draw_changes(SPEC, ("noise",), len(LABELS), generator(3))
    score, features = contest.scored([real, made], LABELS, generator(3))
    for place, rows in enumerate((real, made)):
        expected = contest.critic.scored(change(as_seen(SPEC, rows)), LABELS)
        torch.testing.assert_close(score[place], expected.score)
        torch.testing.assert_close(features[place], expected.features)


def test_a_gradient_penalty_is_taken_between_real_rows_and_each_kind_of_synthetic_ones() -> None:
    contest, (real, synthetic) = contest_of(penalties=Penalties(0, 0, 10.0)), kinds()
    terms, _ = contest.critic_terms(real, synthetic, LABELS, generator(3))
    ends = [torch.cat([as_seen(SPEC, rows) for rows in side]) for side in ([real, real], synthetic)]
    expected = 10 * one_centred(contest.critic, *ends, LABELS.repeat(2), generator(3)).mean()
    torch.testing.assert_close(terms["gradient_penalty"], expected)


def test_a_gradient_penalty_is_left_out_of_the_steps_between() -> None:
    contest, (real, synthetic) = contest_of(penalties=Penalties(0, 0, 10.0), penalty_every=2), kinds()
    found = []
    for step in range(3):
        contest.begin_step(step)
        terms, _ = contest.critic_terms(real, synthetic, LABELS, generator())
        found.append(float(terms["gradient_penalty"].detach()))
    assert found[0] == found[2] > 0
    assert found[1] == 0


def test_singular_vectors_move_in_training_alone() -> None:
    contest, (real, synthetic) = contest_of(spectral=True).eval(), kinds()
    before = {name: value.clone() for name, value in contest.state_dict().items()}
    contest.critic_terms(real, synthetic, LABELS, generator())
    assert all(torch.equal(value, before[name]) for name, value in contest.state_dict().items())
    contest.train().critic_terms(real, synthetic, LABELS, generator())
    assert any(not torch.equal(value, before[name]) for name, value in contest.state_dict().items())


@pytest.mark.parametrize("form", SPECS)
@pytest.mark.parametrize("techniques", [{}, {"classify": True}, {"classify": True, "feature_matching": True}])
def test_what_a_generator_minimises_passes_through_the_critic_and_reaches_none_of_it(
    form: str, techniques: dict[str, Any]
) -> None:
    model = GanConfig(width=8, loss="non_saturating", techniques=techniques).build(SPECS[form], generator()).train()
    _, own = model.objectives()
    loss = own.loss(some_rows(SPECS[form], LABELS), generator(1))["loss"]
    reached = torch.autograd.grad(loss, list(model.contest.critic.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in reached)


@pytest.mark.parametrize(
    ("config", "steps"),
    [(VaeGanConfig(penalty_every=2), (0, 1)), (AlphaGanConfig(penalty_every=2, critic_every=2), (0, 2))],
    ids=lambda given: getattr(given, "kind", ""),
)
def test_critics_of_autoencoders_take_penalties_every_so_many_of_their_steps_with_so_much_more_weight(
    config: ModelConfig, steps: tuple[int, int]
) -> None:
    lazy, usual = (c.build(SPECS["vector"], generator()).eval() for c in (config, type(config)()))
    batch = some_rows(lazy.spec, torch.arange(6) % 3)
    for name in (o.name for o in lazy.objectives() if "critic" in o.name):
        found = []
        for model, step in ((lazy, steps[0]), (lazy, steps[1]), (usual, 0)):
            model.begin_step(step, 100)
            (loss,) = (o.loss for o in model.objectives() if o.name == name)
            found.append(float(loss(batch, generator())["r1"].detach()))
        assert found == [pytest.approx(2 * found[2]), 0.0, found[2]]
        assert found[2] > 0


@pytest.mark.parametrize("config", [VaeGanConfig, AlphaGanConfig])
def test_penalties_every_so_many_steps_without_a_weight_are_refused(config: type[ModelConfig]) -> None:
    none = {"r1": 0.0, "penalty_every": 2}
    without_codes = none if config is VaeGanConfig else {**none, "code_r1": 0.0}
    with pytest.raises(ValidationError, match="penalty_every is of penalties, and none has a weight"):
        config.model_validate(without_codes)
    config.model_validate({**without_codes, "r2": 0.1})


@pytest.mark.parametrize("config", [VaeGanConfig(), AlphaGanConfig()], ids=lambda config: config.kind)
def test_a_weight_that_is_left_out_is_the_one_that_its_description_names(config: ModelConfig) -> None:
    described = type(config).model_fields["r1"].description
    for form, rows in (("vector", "a table"), ("grid", "images")):
        model = config.build(SPECS[form], generator())
        contest = next(part for part in model.modules() if isinstance(part, Contest))
        assert f"{contest.penalties.r1:g} for {rows}" in str(described)


@pytest.mark.parametrize("kind", [GanConfig, VaeGanConfig, AlphaGanConfig])
def test_a_width_that_is_left_out_is_the_one_that_its_description_names(kind: type[ModelConfig]) -> None:
    described = kind.model_fields["width"].description
    for form, net in (("vector", "mlp"), ("grid", "mlp"), ("grid", "resnet")):
        config = kind.model_validate({"net": net, "critic_width": 8})
        widths = [int(word) for word in re.findall(r"\d+", str(described))]
        asked = [config.model_copy(update={"width": width}).build(SPECS[form], generator()) for width in widths]
        sizes = [parameters_of(model) for model in (config.build(SPECS[form], generator()), *asked)]
        assert sizes[0] in sizes[1:]


def parameters_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
