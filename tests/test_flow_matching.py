"""The flow runs from noise to data, guidance does what it states, and rows keep to their spec."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from _model_cases import generator, some_rows, train
from _toy_flows import GRID, LINE, MIXED, PLANE, SMALL, recorded
from torch import Tensor, nn

from models._continuous import as_rows
from models._contract import Batch, Span, TensorSpec
from models._levels import bin_width
from models._solvers import SOLVERS
from models._unet import Exemplars
from models.flow_matching import FlowMatching, FlowMatchingConfig, draw_times


class GaussianVelocity(nn.Module):
    """The flow from N(0, I) to N(m, s^2) along straight paths, in closed form; a label y moves m by y."""

    def __init__(self, m: float, s: float) -> None:
        super().__init__()
        self.m, self.s = m, s

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        t, m, s = t[:, None], self.m + y[:, None].clamp(min=0), self.s
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * (x - t * m)


class Reversed(nn.Module):
    """A velocity that takes t = 0 for data and t = 1 for noise."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        return self.inner(x, 1 - t, y, exemplars)


def check_moments(model: FlowMatching, m: float, s: float) -> None:
    """Rows of label 0 have mean m and standard deviation s."""
    rows = model.sample(torch.zeros(20_000, dtype=torch.int64), generator())
    torch.testing.assert_close(rows.mean(), torch.tensor(m), atol=0.03, rtol=0, msg="mean")
    torch.testing.assert_close(rows.std(), torch.tensor(s), atol=0.03, rtol=0, msg="spread")


def _on_a_gaussian(net: nn.Module) -> FlowMatching:
    return FlowMatching(LINE, net, FlowMatchingConfig(solver_steps=40))


def test_the_flow_in_closed_form_gives_the_moments_of_its_gaussian() -> None:
    check_moments(_on_a_gaussian(GaussianVelocity(1.5, 0.35)), 1.5, 0.35)


def test_a_reversed_time_is_found_out_by_the_moments() -> None:
    with pytest.raises(AssertionError, match=r"mean|spread"):
        check_moments(_on_a_gaussian(Reversed(GaussianVelocity(1.5, 0.35))), 1.5, 0.35)


def _trained_on_a_gaussian() -> FlowMatching:
    model = FlowMatchingConfig(**SMALL, times="uniform", solver_steps=20).build(LINE, generator())
    y = torch.arange(4000) % 2
    x = 1.5 + y[:, None] + 0.35 * torch.randn(4000, 1, generator=generator(2))
    train(model, Batch(x, y), steps=400, batch_size=256)
    return model


@pytest.mark.slow
def test_a_trained_net_approaches_the_velocity_in_closed_form_and_samples_the_moments() -> None:
    model, truth = _trained_on_a_gaussian(), GaussianVelocity(1.5, 0.35)
    t = torch.rand(4000, generator=generator(3))
    y = torch.arange(4000) % 2
    noise, data = (torch.randn(4000, 1, generator=generator(seed)) for seed in (4, 5))
    x = (1 - t)[:, None] * noise + t[:, None] * (1.5 + y[:, None] + 0.35 * data)
    with torch.no_grad():
        error = (model.velocity(x, t, y) - truth(x, t, y)).square().mean().sqrt()
    assert error < 0.12  # the velocity itself is about 2
    check_moments(model, 1.5, 0.35)


class ToOnePoint(nn.Module):
    """The velocity that leads every point to the row ``end``."""

    def __init__(self, end: Tensor) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        return (self.end - x) / (1 - t[:, None])


def test_the_loss_is_zero_for_the_velocity_that_leads_to_the_only_row() -> None:
    row = torch.tensor([0.7, -1.2])
    batch = Batch(row.expand(64, 2), torch.zeros(64, dtype=torch.int64))
    losses = [
        FlowMatching(PLANE, ToOnePoint(end), FlowMatchingConfig()).objectives()[0].loss(batch, generator())["loss"]
        for end in (row, -row)
    ]
    assert losses[0] < 1e-6
    assert losses[1] > 1


def test_the_path_of_training_begins_in_noise_and_ends_in_data() -> None:
    model, net = recorded(PLANE)
    x = torch.tensor([[5.0, -5.0]]).expand(3000, 2)
    model.objectives()[0].loss(Batch(x, torch.zeros(3000, dtype=torch.int64)), generator())
    x_t, t, _, _ = net.asked[0]
    torch.testing.assert_close(x_t[t > 0.99], x[t > 0.99], atol=0.15, rtol=0)
    noise = x_t - t[:, None] * x
    torch.testing.assert_close(noise[t < 0.01].std(), torch.tensor(1.0), atol=0.2, rtol=0)
    assert x_t[t < 0.01].mean(0).abs().max() < 0.6


def test_the_thirds_of_the_path_make_up_the_loss() -> None:
    model = FlowMatchingConfig(**SMALL, times="uniform").build(MIXED, generator())  # as many rows in each third
    terms = model.objectives()[0].loss(some_rows(MIXED, torch.arange(30) % 3), generator())
    thirds = [terms[f"loss_{part}"].item() for part in ("early", "middle", "late")]
    assert sum(thirds) / 3 == pytest.approx(terms["loss"].item(), rel=1e-5)
    assert terms["speed"] > 0


def test_the_share_of_hidden_labels_is_the_label_dropout() -> None:
    model, net = recorded(PLANE, label_dropout=0.3)
    y = torch.arange(20_000) % 4
    model.objectives()[0].loss(Batch(torch.zeros(20_000, 2), y), generator())
    asked = net.asked[0][2]
    hidden = asked == -1
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 20_000))
    assert torch.equal(asked[~hidden], y[~hidden])


@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
def test_times_are_distributed_as_stated_row_by_row(times: Any) -> None:
    noise = generator()
    drawn = torch.stack([draw_times(8, times, noise) for _ in range(4000)])
    spread = {"uniform": math.sqrt(1 / 12), "logit_normal": 0.2083}[times]  # of the logistic function of N(0, 1)
    torch.testing.assert_close(drawn.mean(0), torch.full((8,), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full((8,), spread), atol=0.01, rtol=0)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert drawn.mean(1).std() < 0.5 * spread / math.sqrt(8)  # what even spacing is for


@pytest.mark.parametrize(("guidance", "speed", "rows"), [(0.0, 1.0, 4), (1.0, 4.0, 4), (3.0, 10.0, 8)])
def test_guidance_is_none_plus_weight_times_the_difference(guidance: float, speed: float, rows: int) -> None:
    """No label has speed 1 and label 2 speed 4; two velocities are asked for in one batch, and only where needed."""
    model, net = recorded(PLANE, guidance=guidance, solver="euler", solver_steps=3)
    noise = torch.randn(4, 2, generator=generator())
    drawn = model.sample(torch.full((4,), 2), generator())
    torch.testing.assert_close(drawn, noise + speed)
    assert [len(asked[0]) for asked in net.asked] == [rows] * 3


def test_guidance_one_is_the_flow_of_the_class_and_zero_that_of_no_label() -> None:
    model = FlowMatchingConfig(**SMALL, solver_steps=3).build(GRID, generator()).eval()
    x, y = torch.randn(4, 1, 8, 8, generator=generator()), torch.tensor([0, 1, 2, -1])
    none = torch.full((4,), -1)
    with torch.no_grad():
        of_class, of_none = model.flow(x, y, guidance=1.0), model.flow(x, none, guidance=1.0)
        assert torch.equal(model.flow(x, y, guidance=0.0), of_none)
        torch.testing.assert_close(model.flow(x, y, guidance=1.0 + 1e-6), of_class, atol=1e-4, rtol=0)
        torch.testing.assert_close(model.flow(x, y, guidance=1e-6), of_none, atol=1e-4, rtol=0)
    assert (of_class - of_none)[:3].abs().flatten(1).max(1).values.min() > 1e-3
    assert torch.equal(of_class[3], of_none[3])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5])
def test_the_stated_evaluations_are_those_that_sampling_takes(solver: Any, guidance: float) -> None:
    config = FlowMatchingConfig(solver=solver, solver_steps=4, guidance=guidance)
    model, net = recorded(PLANE, guidance=config.guidance, solver=config.solver, solver_steps=config.solver_steps)
    model.sample(torch.zeros(5, dtype=torch.int64), generator())
    assert sum(len(x) for x, _, _, _ in net.asked) == 5 * config.evaluations()


def test_the_evaluations_of_the_defaults_are_those_of_the_class() -> None:
    assert FlowMatchingConfig().evaluations() == FlowMatchingConfig.evaluations_per_sample


@pytest.mark.parametrize("spec", [PLANE, GRID], ids=["vector", "grid"])
def test_the_flow_there_and_back_returns_to_the_noise(spec: TensorSpec) -> None:
    model = FlowMatchingConfig(**SMALL, solver_steps=25).build(spec, generator()).eval()
    x, y = torch.randn(4, *spec.shape, generator=generator()), torch.tensor([0, 1, 2, -1])
    with torch.no_grad():
        data = model.flow(x, y, guidance=1.0)
        back = model.flow(data, y, guidance=1.0, backwards=True)
    torch.testing.assert_close(back, x, atol=2e-3, rtol=0)
    assert (data - x).abs().max() > 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_categories_end_at_their_corners_and_come_back_from_there(solver: Any) -> None:
    """At t = 1 no time is left, and a velocity that divided by it would send a point far past its corner."""
    spec = TensorSpec((4,), (Span("categorical", 4),), 1)
    shares = torch.tensor([0.6, 0.3, 0.08, 0.02])
    model = FlowMatching(spec, PosteriorOfCategories(shares), FlowMatchingConfig(solver=solver, solver_steps=20))
    x, y = torch.randn(500, 4, generator=generator()), torch.zeros(500, dtype=torch.int64)
    ends = model.flow(x, y, guidance=1.0)
    assert ends.abs().max() < 1.5
    assert model.flow(ends, y, guidance=1.0, backwards=True).abs().max() < 10


def test_evaluations_are_those_of_the_operator_that_draws() -> None:
    config = FlowMatchingConfig(exemplar=True, guidance=3.0)
    assert config.evaluations() == config.evaluations("exemplar") == 20
    assert config.evaluations("prior") == 40


def test_samples_keep_to_their_levels_and_categories_exactly() -> None:
    model = FlowMatchingConfig(**SMALL, solver_steps=2).build(MIXED, generator()).eval()
    rows = model.sample(torch.arange(300) % 3, generator())
    levels = (rows[:, 5] + 1) / bin_width(5)
    assert torch.equal(levels, levels.round())
    assert rows[:, 5].abs().max() <= 1
    assert torch.equal(rows[:, 2:5].sort(1).values, torch.tensor([[0.0, 0.0, 1.0]]).expand(300, 3))


@pytest.mark.parametrize("spec", [MIXED, GRID], ids=["vector", "grid"])
def test_a_temperature_of_zero_gives_one_row_for_each_class(spec: TensorSpec) -> None:
    model = FlowMatchingConfig(**SMALL, solver_steps=3).build(spec, generator()).eval()
    x = torch.zeros(3, *spec.shape)
    with torch.no_grad():
        ends = model.flow(x, torch.tensor([0, 0, 1]), guidance=1.0)
    torch.testing.assert_close(ends[0], ends[1])
    assert (ends[0] - ends[2]).abs().max() > 1e-4
    rows = model.sample(torch.tensor([0, 0, 1]), generator(), 0.0)
    torch.testing.assert_close(rows[0], rows[1])


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 9, 21), (1, 1, 5)])
@pytest.mark.parametrize("exemplar", [False, True])
def test_grids_of_many_sizes_are_learned_and_drawn(shape: tuple[int, int, int], exemplar: bool) -> None:
    spec = TensorSpec(shape, (Span("continuous", math.prod(shape), 256),), 2)
    model = FlowMatchingConfig(width=8, embedding=4, exemplar=exemplar, solver_steps=1).build(spec, generator())
    x = as_rows(spec, torch.rand(3, *shape, generator=generator()) * 2 - 1)
    y = torch.tensor([0, 1, 1])
    assert torch.isfinite(model.objectives()[0].loss(Batch(x, y), generator())["loss"])
    rows = model.sample_from(x, y, generator()) if exemplar else model.sample(y, generator())
    assert rows.shape == x.shape
    assert rows.abs().max() <= 1


@pytest.mark.parametrize("name", ["guidance", "exemplar_guidance"])
def test_guidance_against_labels_that_were_never_hidden_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"set {name} to 1"):
        FlowMatchingConfig(label_dropout=0.0, exemplar=True, **{"exemplar_guidance": 1.0, name: 1.5})


@pytest.mark.parametrize(("name", "value"), [("exemplar_dropout", 0.2), ("exemplar_guidance", 1.5)])
def test_settings_of_exemplars_are_refused_where_none_are_read(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is of flows that read exemplars; set exemplar to true"):
        FlowMatchingConfig(**{name: value})
    assert FlowMatchingConfig.model_validate(FlowMatchingConfig().model_dump()) == FlowMatchingConfig()
    with pytest.raises(ValueError, match="guidance is of rows without an exemplar"):
        FlowMatchingConfig(exemplar=True, exemplar_dropout=0.0, guidance=3.0)


def _shares(x: Tensor) -> Tensor:
    return x[:, 1:].mean(0)


class PosteriorOfCategories(nn.Module):
    """ln p(category | x_t) but for a constant, of corners that have the given shares."""

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.shares = shares

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        corners, left = 2 * torch.eye(len(self.shares)) - 1, (1 - t[:, None]).clamp(min=1e-3)
        return self.shares.log() - (x[:, None] - t[:, None, None] * corners).square().sum(2) / (2 * left**2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_exact_posteriors_of_categories_give_their_shares(solver: Any) -> None:
    shares = torch.tensor([0.6, 0.3, 0.08, 0.02])
    spec = TensorSpec((4,), (Span("categorical", 4),), 1)
    model = FlowMatching(spec, PosteriorOfCategories(shares), FlowMatchingConfig(solver=solver, solver_steps=200))
    rows = model.sample(torch.zeros(20_000, dtype=torch.int64), generator())
    torch.testing.assert_close(rows.mean(0), shares, atol=0.012, rtol=0)


@pytest.mark.slow
def test_categories_have_their_proportions_in_each_class_and_keep_company_with_their_numbers() -> None:
    """Rare and common categories, whose shares the class tells, and a number that the category tells."""
    spec = TensorSpec((5,), (Span("continuous", 1), Span("categorical", 4)), 2)
    shares = torch.tensor([[0.7, 0.2, 0.08, 0.02], [0.02, 0.08, 0.3, 0.6]])
    y = torch.arange(2000) % 2
    category = torch.multinomial(shares[y], 1, generator=generator(1))[:, 0]
    number = category - 1.5 + 0.3 * torch.randn(2000, generator=generator(2))
    real = torch.cat([number[:, None], torch.nn.functional.one_hot(category, 4)], 1)
    model = FlowMatchingConfig(width=64, depth=2, dropout=0.0).build(spec, generator())
    train(model, Batch(real, y), steps=800, batch_size=256)
    labels = torch.arange(6000) % 2
    rows = model.sample(labels, generator(3))
    for label in (0, 1):
        own, truth = rows[labels == label], real[y == label]
        torch.testing.assert_close(_shares(own), _shares(truth), atol=0.03, rtol=0)
    chosen = rows[:, 1:].argmax(1)
    for value in range(4):
        assert rows[chosen == value, 0].mean().item() == pytest.approx(value - 1.5, abs=0.2)
