"""A GAN's gradients go where they may and nowhere else, its rows are drawn alone, and what cannot work is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import SPECS, generator, optimiser_of, some_rows, take_step
from pydantic import ValidationError
from torch import Tensor, nn

from augment.training._optimisation import AveragedWeights
from models._adversarial import LOSSES
from models._conditional_norm import ConditionalBatchNorm
from models._contract import Batch, Objective, Span, TensorSpec
from models._generators import as_seen, shown
from models.gan import GanConfig, GenerativeAdversarialNet

LABELS = torch.arange(12) % 3
MIXED = TensorSpec((6,), (Span("continuous", 2), Span("categorical", 3), Span("continuous", 1, 5)), 3)
# Every loss, and every part that might carry a gradient or a statistic where it does not belong.
ROUTES: list[dict[str, Any]] = [
    *({"loss": name} for name in LOSSES),
    {"norm": "batch"},
    {"spectral_norm": True},
    {"loss": "hinge", "gradient_penalty": 1.0},
]
every_route = pytest.mark.parametrize("settings", ROUTES, ids=str)
every_form = pytest.mark.parametrize("form", SPECS)


def built(form: str, **settings: Any) -> GenerativeAdversarialNet:
    return GanConfig(**settings).build(SPECS[form], generator())


def objectives_of(model: GenerativeAdversarialNet) -> tuple[Objective, Objective]:
    critic, own = model.objectives()
    return critic, own


# Which loss may reach what


def check_routes(model: GenerativeAdversarialNet, batch: Batch) -> None:
    """The critic's loss has no path to the generator; what each takes a step on moves nothing of the other."""
    critic, own = objectives_of(model.train())
    loss = critic.loss(batch, generator(1))["loss"]
    gradients = torch.autograd.grad(loss, list(model.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients), "the critic's loss reaches the generator"
    for objective, others in ((critic, model.generator), (own, nn.ModuleList([model.contest.critic, model.watch]))):
        before = {name: value.clone() for name, value in others.state_dict().items()}
        model.zero_grad(set_to_none=True)
        take_step(objective, optimiser_of(objective), batch, generator(2))
        moved = [name for name, value in others.state_dict().items() if not torch.equal(value, before[name])]
        assert not moved, f"the step of the {objective.name} moves {moved}"
        assert all(p.grad is None for p in others.parameters()), f"the {objective.name} leaves gradients on others"
        # relativistic pairing does not know the one number that is added to every score
        reached = [p.grad is not None and bool(p.grad.any()) for p in objective.parameters]
        assert sum(reached) >= len(reached) - 1, f"the loss of the {objective.name} does not reach its own net"


@every_route
@every_form
def test_each_loss_reaches_its_own_net_alone(form: str, settings: dict[str, Any]) -> None:
    check_routes(built(form, **settings), some_rows(SPECS[form], LABELS))


def test_a_critic_loss_that_leaks_into_the_generator_is_found_out() -> None:
    model = built("vector")
    inner = model._critic_loss

    def leaking(batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        rows = model.generator(batch.y, noise)
        return {"loss": inner(batch, noise)["loss"] + model.contest.critic(rows, batch.y).mean()}

    model._critic_loss = leaking  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="the critic's loss reaches the generator"):
        check_routes(model, some_rows(SPECS["vector"], LABELS))


def test_a_generator_whose_statistics_the_critic_moves_is_found_out() -> None:
    model = built("vector", norm="batch")
    inner = model._critic_loss

    def drawing(batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        model.generator(batch.y, noise)  # in train mode, with gradients: the running statistics take it in
        return inner(batch, noise)

    model._critic_loss = drawing  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"the step of the critic moves .*net.blocks.0.norms.0.mean"):
        check_routes(model, some_rows(SPECS["vector"], LABELS))


@every_form
def test_rows_that_equal_real_ones_score_the_same_because_both_are_changed_alike(form: str) -> None:
    model, batch = built(form), some_rows(SPECS[form], LABELS)
    model.generator.forward = lambda _y, _noise: batch.x  # type: ignore[method-assign,assign]
    terms = objectives_of(model.eval())[0].loss(batch, generator())
    assert float(terms["gap"]) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(terms["r1"], terms["r2"], rtol=1e-5, atol=0)


@every_form
def test_penalties_are_taken_every_so_many_steps_with_so_much_more_weight(form: str) -> None:
    usual, lazy = built(form), built(form, penalty_every=4)
    batch = some_rows(SPECS[form], LABELS)
    taken = []
    for model in (usual, lazy):
        critic, _ = objectives_of(model.eval())
        values = []
        for step in range(8):
            model.begin_step(step, 8)
            values.append(critic.loss(batch, generator(step // 4)))
        taken.append(values)
    for name in ("r1", "r2"):
        every, sometimes = ([float(values[name].detach()) for values in run] for run in taken)
        assert sometimes[::4] == pytest.approx([4 * value for value in every[::4]])
        assert all(value > 0 for value in every)
        assert not any(value for step, value in enumerate(sometimes) if step % 4)


@every_form
def test_the_generator_takes_a_step_for_so_many_of_the_critic(form: str) -> None:
    critic, own = objectives_of(built(form, critic_steps=3))
    assert (critic.every, own.every) == (1, 3)


def test_only_batch_normalisation_forbids_that_a_batch_is_taken_in_parts() -> None:
    for settings, whole in (({}, False), ({"norm": "batch"}, True)):
        assert [o.batch_statistics for o in built("vector", **settings).objectives()] == [whole, whole]


# Rows


def test_rows_are_shown_to_the_critic_as_they_will_be_published() -> None:
    rows = shown(MIXED, 2 * torch.randn(400, 6, generator=generator()), torch.rand(400, 6, generator=generator(1)))
    numbers, category, level = rows.split([2, 3, 1], dim=1)
    assert numbers.unique().numel() == 800
    assert set(category.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(category.sum(1), torch.ones(400))
    torch.testing.assert_close(level.unique(), torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))


def test_categories_have_the_shares_of_their_softmax_and_none_is_drawn_without_noise() -> None:
    logits = torch.tensor([0.0, 0.0, 2.0, 1.0, 0.0, 0.0]).expand(40_000, 6)
    uniform = torch.rand(40_000, 6, generator=generator())
    shares = shown(MIXED, logits, uniform)[:, 2:5].mean(0)
    torch.testing.assert_close(shares, torch.tensor([2.0, 1.0, 0.0]).softmax(0), atol=0.01, rtol=0)
    assert torch.equal(shown(MIXED, logits, uniform, 0.0)[:, 2:5].mean(0), torch.tensor([1.0, 0.0, 0.0]))


def test_gradients_pass_through_what_was_rounded() -> None:
    raw = torch.randn(5, 6, generator=generator(), requires_grad=True)
    uniform = torch.rand(5, 6, generator=generator(1))
    upstream = torch.randn(5, 6, generator=generator(2))
    shown(MIXED, raw, uniform).backward(upstream)
    soft = (raw[:, 2:5] - (-uniform[:, 2:5].log()).log()).softmax(1)
    (expected,) = torch.autograd.grad(soft, raw, upstream[:, 2:5])
    torch.testing.assert_close(raw.grad[:, 2:5], expected[:, 2:5])  # type: ignore[index]
    assert raw.grad is not None
    assert raw.grad[:, 5].abs().min() > 0
    torch.testing.assert_close(raw.grad[:, :2], upstream[:, :2])


def test_the_outermost_levels_are_seen_further_out_and_gradients_do_not_notice() -> None:
    spec = TensorSpec((3,), (Span("continuous", 3, 17),), 1)
    rows = torch.tensor([[-1.0, -0.875, 1.0]], requires_grad=True)
    seen = as_seen(spec, rows)
    torch.testing.assert_close(seen.detach(), torch.tensor([[-1.1875, -0.875, 1.1875]]))
    seen.sum().backward()
    assert torch.equal(rows.grad, torch.ones(1, 3))  # type: ignore[arg-type]


def test_a_narrower_spread_is_of_the_latents_in_a_draw_and_not_of_training() -> None:
    wide, narrow = (built("vector", spread=spread) for spread in (1.0, 0.01))
    labels = torch.zeros(500, dtype=torch.int64)
    first, second = (model.sample(labels, generator())[:, :2].std(0).mean() for model in (wide, narrow))
    assert second < 0.2 * first
    batch = some_rows(SPECS["vector"], LABELS)
    losses = [objectives_of(model.eval())[1].loss(batch, generator())["loss"] for model in (wide, narrow)]
    assert torch.equal(*losses)


def test_the_spread_is_that_of_the_form_unless_it_is_set() -> None:
    assert {form: built(form).spread for form in SPECS} == {"vector": 1.0, "grid": 0.8}
    assert built("grid", spread=0.3).spread == 0.3
    text = GanConfig.model_fields["spread"].description
    assert text == "Spread of z in a draw, over its prior's; null: 1 for a table, 0.8 for images."


# Conditional batch normalisation


def test_a_condition_without_effect_leaves_normalised_features_rather_than_none() -> None:
    norm = ConditionalBatchNorm(4, 3)
    nn.init.zeros_(norm.film.linear.weight)
    nn.init.zeros_(norm.film.linear.bias)
    h = 5 + 3 * torch.randn(500, 4, 2, 2, generator=generator())
    out = norm(h, torch.zeros(500, 3)).detach()
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((0, 2, 3), unbiased=False), torch.ones(4), atol=1e-3, rtol=0)
    nn.init.constant_(norm.film.linear.bias, 0.5)  # the scale is 1.5 then, and the shift 0.5
    torch.testing.assert_close(norm(h, torch.zeros(500, 3)).detach(), 1.5 * out + 0.5)


def test_running_statistics_come_to_those_of_the_batches_and_are_used_afterwards() -> None:
    norm = ConditionalBatchNorm(2, 1)
    h = torch.tensor([4.0, -2.0]) + torch.tensor([3.0, 0.5]) * torch.randn(4000, 2, generator=generator())
    for _ in range(100):
        norm.train()(h, torch.zeros(4000, 1))
    torch.testing.assert_close(norm.mean, h.mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(norm.variance, h.var(0, unbiased=False), atol=1e-3, rtol=1e-3)
    alone, together = norm.eval()(h[:1], torch.zeros(1, 1)), norm(h, torch.zeros(4000, 1))
    torch.testing.assert_close(alone, together[:1])


def check_drawn_alone(model: GenerativeAdversarialNet) -> None:
    """A row is the same whatever the labels of the rows beside it."""
    others = torch.where(LABELS[4] == LABELS, LABELS, (LABELS + 1) % 3)
    others[5] = LABELS[4]
    first, second = (model.sample(labels, generator(3)) for labels in (LABELS, others))
    torch.testing.assert_close(first[4], second[4], atol=1e-5, rtol=0, msg="a row depends on its batch mates")


@every_form
@pytest.mark.parametrize("norm", ["row", "batch"])
def test_a_row_is_drawn_alone_after_training_whatever_the_norm(form: str, norm: str) -> None:
    model = built(form, norm=norm).train()
    critic, own = objectives_of(model)
    for step in range(3):
        for objective in (critic, own):
            take_step(objective, optimiser_of(objective), some_rows(SPECS[form], LABELS), generator(step))
    check_drawn_alone(model.eval())


def test_batch_statistics_in_a_draw_are_found_out() -> None:
    with pytest.raises(AssertionError, match="a row depends on its batch mates"):
        check_drawn_alone(built("vector", norm="batch").train())


def test_the_average_of_the_weights_takes_the_running_statistics_too() -> None:
    model = built("vector", norm="batch").train()
    average = AveragedWeights(model, 0.5)
    _, own = objectives_of(model)
    name = "generator.net.blocks.0.norms.0.mean"
    before = average.tensors[name].clone()
    take_step(own, optimiser_of(own), some_rows(SPECS["vector"], LABELS), generator())
    average.update(100)
    torch.testing.assert_close(average.tensors[name], before + 0.5 * (model.state_dict()[name] - before))
    assert not torch.equal(average.tensors[name], before)


# Refusals


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"r1": 1.0, "gradient_penalty": 10.0}, "set gradient_penalty to 0, or both r1 and r2"),
        ({"loss": "wasserstein", "gradient_penalty": 0.0}, "no bound without a hold on the critic"),
        ({"r1": 0.0, "penalty_every": 4}, "penalty_every is of penalties, and none has a weight"),
        ({"techniques": {"minibatch_numbers": 5}}, "minibatch_numbers is of kernels; set minibatch_kernels too"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        GanConfig(**settings)


@pytest.mark.parametrize(
    ("form", "settings", "sentence"),
    [
        ("vector", {"net": "resnet"}, "a resnet needs rows that are grids"),
        ("vector", {"augmentation": ("shift",)}, "'shift' is of images; for tables there is noise"),
        ("vector", {"augmentation": ("noise", "cutout")}, "'cutout' is of images; for tables there is noise"),
        ("grid", {"augmentation": ("shift", "shift")}, "listed twice"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused(form: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        built(form, **settings)


def test_rows_of_categories_alone_need_no_augmentation_and_are_refused_one() -> None:
    spec = TensorSpec((3,), (Span("categorical", 3),), 2)
    assert GanConfig().build(spec, generator()).contest.changes == ()
    with pytest.raises(ValueError, match="categories alone, which no augmentation changes"):
        GanConfig(augmentation=("noise",)).build(spec, generator())


def test_what_holds_the_critic_follows_from_the_loss_unless_it_is_said() -> None:
    assert GanConfig().penalties() == (1, 1, 0)
    assert GanConfig(r1=0.2).penalties() == (0.2, 0.2, 0)
    assert GanConfig(r1=0.2, r2=0).penalties() == (0.2, 0, 0)
    assert GanConfig(loss="wasserstein").penalties() == (0, 0, 10)
    assert GanConfig(loss="wasserstein", spectral_norm=True).penalties() == (0, 0, 0)
    assert GanConfig(loss="hinge", gradient_penalty=1).penalties() == (0, 0, 1)
