"""What holds for every model that exists, on a small vector and a small grid; how they draw is tested beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from _model_cases import CASES, MODELS, SPECS, choices, draw, generator, optimiser_of, some_rows, take_step, train
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models._contract import (
    Batch,
    BoundsLikelihood,
    GenerativeModel,
    KnowsLikelihood,
    Objective,
    OptimiserConfig,
    Span,
    TensorSpec,
)

CHOICES = [(kind, form, name, value) for kind, form in CASES for name, value in choices(kind)]
every_model = pytest.mark.parametrize(("kind", "form"), CASES)


def _build(kind: str, spec: TensorSpec, seed: int = 0) -> GenerativeModel:
    return MODELS[kind]().build(spec, generator(seed)).eval()


def _labels(rows: int, classes: int) -> Tensor:
    return torch.arange(rows) % classes


def check_objectives_keep_to_their_own(model: GenerativeModel, batch: Batch) -> None:
    """Each objective moves its own parameters and no other tensor of the model; no parameter has two objectives."""
    objectives = model.objectives()
    claimed: dict[int, str] = {}
    for objective in objectives:
        for parameter in objective.parameters:
            other = claimed.setdefault(id(parameter), objective.name)
            assert other == objective.name, f"objectives {other} and {objective.name} move the same parameter"
    for objective in objectives:
        own = {id(parameter) for parameter in objective.parameters}
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        model.zero_grad(set_to_none=True)
        take_step(objective, optimiser_of(objective), batch, generator(7))
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        foreign = {name for name, value in model.named_parameters() if id(value) not in own}
        assert not moved & foreign, f"objective {objective.name} moved {sorted(moved & foreign)}"
        assert moved, f"objective {objective.name} moved nothing"
        touched = {name for name, value in model.named_parameters() if name in foreign and value.grad is not None}
        assert not touched, f"objective {objective.name} left gradients on {sorted(touched)}"


@every_model
def test_first_weights_follow_from_the_generator_alone(kind: str, form: str) -> None:
    state = torch.random.get_rng_state()
    first = _build(kind, SPECS[form], seed=1).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    again = _build(kind, SPECS[form], seed=1).state_dict()
    other = _build(kind, SPECS[form], seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_model
def test_the_loss_draws_its_noise_from_its_generator(kind: str, form: str) -> None:
    spec = SPECS[form]
    model, batch = _build(kind, spec), some_rows(spec, _labels(6, 3))
    for objective in model.objectives():
        first = objective.loss(batch, generator(2))
        torch.manual_seed(5)
        again = objective.loss(batch, generator(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert all(value.shape == () for value in first.values())


@every_model
def test_each_objective_moves_only_its_own_parameters(kind: str, form: str) -> None:
    spec = SPECS[form]
    model = _build(kind, spec).train()
    check_objectives_keep_to_their_own(model, some_rows(spec, _labels(6, 3)))
    assert tuple(objective.name for objective in model.objectives()) == MODELS[kind].objective_names
    claimed = {id(parameter) for objective in model.objectives() for parameter in objective.parameters}
    assert claimed == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


class TwoLayers(GenerativeModel):
    """A model of two objectives, which keeps to the contract, or leaks in one of three ways."""

    def __init__(self, leak: str) -> None:
        super().__init__()
        self.spec, self.leak = SPECS["vector"], leak
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def objectives(self) -> Sequence[Objective]:
        second = tuple(self.parameters()) if self.leak == "parameters" else tuple(self.second.parameters())
        return [
            Objective("first", tuple(self.first.parameters()), self._first),
            Objective("second", second, self._second),
        ]

    def _first(self, batch: Batch, _noise: torch.Generator) -> dict[str, Tensor]:
        if self.leak == "in place":
            with torch.no_grad():
                self.second.weight.clamp_(-0.01, 0.01)
        if self.leak == "backward":
            self.second(batch.x).square().mean().backward()
        return {"loss": self.first(batch.x).square().mean()}

    def _second(self, batch: Batch, _noise: torch.Generator) -> dict[str, Tensor]:
        return {"loss": self.second(self.first(batch.x)).square().mean()}

    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return self.second(self.first(temperature * torch.randn(len(labels), 5, generator=generator)))


def test_objectives_that_keep_to_their_own_pass_the_check() -> None:
    check_objectives_keep_to_their_own(TwoLayers("none"), some_rows(SPECS["vector"], _labels(6, 3)))


@pytest.mark.parametrize(
    ("leak", "complaint"),
    [
        ("parameters", "move the same parameter"),
        ("in place", "moved .*second.weight"),
        ("backward", "left gradients on .*second.weight"),
    ],
)
def test_an_objective_that_leaks_fails_the_check(leak: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_objectives_keep_to_their_own(TwoLayers(leak), some_rows(SPECS["vector"], _labels(6, 3)))


@every_model
def test_a_model_with_a_likelihood_gives_nats_for_each_row(kind: str, form: str) -> None:
    spec = SPECS[form]
    model, batch = _build(kind, spec), some_rows(spec, torch.tensor([0, 1, 2, -1]))
    if MODELS[kind].likelihood == "bound":
        assert isinstance(model, BoundsLikelihood)
        for nats in (model.elbo(batch, generator()), model.iwae(batch, generator(), 3)):
            assert nats.shape == (4,)
            assert torch.isfinite(nats).all()
    exact = MODELS[kind].likelihood == "exact"
    assert exact == isinstance(model, KnowsLikelihood)
    if isinstance(model, KnowsLikelihood):
        nats = model.log_likelihood(batch)
        assert nats.shape == (4,)
        assert torch.isfinite(nats).all()
        assert torch.equal(nats, model.log_likelihood(batch))


@every_model
def test_a_training_that_is_resumed_equals_an_unbroken_one(kind: str, form: str, tmp_path: Path) -> None:
    """All that a step depends on is in the weights, the optimisers, and what ``begin_step`` is told."""
    spec, steps = SPECS[form], 4
    batch = some_rows(spec, _labels(8, 3))

    def go_on(model: GenerativeModel, states: list[dict[str, Any]], first: int, last: int) -> list[dict[str, Any]]:
        taken = [(objective, optimiser_of(objective)) for objective in model.train().objectives()]
        for (_, optimiser), state in zip(taken, states, strict=False):
            optimiser.load_state_dict(state)
        for step in range(first, last):
            torch.manual_seed(step)
            model.begin_step(step, steps)
            for objective, optimiser in taken:
                take_step(objective, optimiser, batch, generator(step))
        return [copy.deepcopy(optimiser.state_dict()) for _, optimiser in taken]

    with torch.random.fork_rng(devices=[]):
        unbroken, broken, resumed = (_build(kind, spec, seed) for seed in (1, 1, 2))
        go_on(unbroken, [], 0, steps)
        states = go_on(broken, [], 0, steps // 2)
        save_file(broken.state_dict(), tmp_path / "weights.safetensors")
        resumed.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        go_on(resumed, states, steps // 2, steps)
    expected = unbroken.state_dict()
    assert [name for name, value in resumed.state_dict().items() if not torch.equal(value, expected[name])] == []


@pytest.mark.parametrize(("kind", "form", "name", "value"), CHOICES)
def test_every_choice_of_a_setting_trains_and_draws_or_is_refused_in_a_sentence(
    kind: str, form: str, name: str, value: Any
) -> None:
    spec = SPECS[form]
    try:
        model = MODELS[kind](**{name: value}).build(spec, generator())
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert len(refusal.split()) > 5
        return
    train(model, some_rows(spec, _labels(9, 3)), 2, 8)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert torch.isfinite(draw(model, _labels(4, 3), generator())).all()


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_model_says_what_it_is_and_why_it_refuses_a_form(kind: str) -> None:
    config = MODELS[kind]
    assert config.accepts
    assert config.accepts <= set(SPECS)
    assert bool(config.refuses) == (config.accepts != set(SPECS)), "say in `refuses` why a form is not accepted"
    assert config.paper
    assert config().kind == kind


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_one_setting_of_a_group_leaves_the_others_as_the_model_has_them(kind: str) -> None:
    usual = MODELS[kind]()
    groups = {name: value for name, value in usual if isinstance(value, OptimiserConfig)}
    assert groups, "every model has an optimiser"
    for name, group in groups.items():
        changed = MODELS[kind].model_validate({name: {"weight_decay": 0.125}})
        assert getattr(changed, name) == group.model_copy(update={"weight_decay": 0.125})


@every_model
def test_settings_survive_json(kind: str, form: str) -> None:
    config = MODELS[kind]()
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_a_spec_survives_json_and_refuses_spans_that_do_not_fit() -> None:
    for spec in SPECS.values():
        assert TensorSpec.from_json(spec.as_json()) == spec
    with pytest.raises(ValueError, match="spans cover 3 values, the shape holds 4"):
        TensorSpec((4,), (Span("continuous", 3),), 1)
