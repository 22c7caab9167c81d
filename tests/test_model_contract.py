"""What holds for every model that exists, on a small vector and a small grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from _model_cases import CASES, MODELS, SPECS, generator, optimiser_of, some_rows, take_step
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models._contract import Batch, BoundsLikelihood, GenerativeModel, Objective, Span, TensorSpec

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
def test_a_sample_has_the_shape_and_type_of_a_row(kind: str, form: str) -> None:
    spec = SPECS[form]
    rows = _build(kind, spec).sample(_labels(7, 3), generator())
    assert rows.shape == (7, *spec.shape)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    values = rows.detach().flatten(1)
    start = 0
    for span in spec.spans:
        part = values[:, start : start + span.width]
        if span.kind == "categorical":
            assert torch.equal(part.sort(1).values, torch.tensor([0.0] * (span.width - 1) + [1.0]).expand_as(part))
        elif span.levels is not None:
            assert part.abs().max() <= 1
        start += span.width


@every_model
def test_the_same_seed_gives_the_same_sample_and_another_seed_another(kind: str, form: str) -> None:
    model, labels = _build(kind, SPECS[form]), _labels(6, 3)
    first = model.sample(labels, generator(4))
    torch.manual_seed(123)
    assert torch.equal(first, model.sample(labels, generator(4)))
    assert not torch.equal(first, model.sample(labels, generator(5)))


@every_model
def test_a_row_does_not_depend_on_the_labels_of_its_batch_mates(kind: str, form: str) -> None:
    model, labels = _build(kind, SPECS[form]), _labels(8, 3)
    others = (labels + 1) % 3
    others[3] = labels[3]
    rows, again = model.sample(labels, generator()), model.sample(others, generator())
    torch.testing.assert_close(rows[3], again[3], atol=1e-6, rtol=0)


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
def test_saved_weights_give_the_same_samples(kind: str, form: str, tmp_path: Path) -> None:
    model, other = _build(kind, SPECS[form], seed=1), _build(kind, SPECS[form], seed=2)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    labels = _labels(5, 3)
    assert torch.equal(model.sample(labels, generator()), other.sample(labels, generator()))


@every_model
@pytest.mark.parametrize("labels", [[1], [-1], [-1, -1, -1], [0, -1, 2]], ids=str)
def test_a_single_row_and_rows_without_a_label_train_and_are_drawn(kind: str, form: str, labels: list[int]) -> None:
    spec, y = SPECS[form], torch.tensor(labels)
    model = _build(kind, spec).train()
    for objective in model.objectives():
        terms = take_step(objective, optimiser_of(objective), some_rows(spec, y), generator())
        assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert model.eval().sample(y, generator()).shape == (len(y), *spec.shape)


@every_model
def test_one_class_is_enough(kind: str, form: str) -> None:
    spec = TensorSpec(SPECS[form].shape, SPECS[form].spans, 1)
    model = _build(kind, spec).train()
    zeros = torch.zeros(4, dtype=torch.int64)
    for objective in model.objectives():
        assert torch.isfinite(objective.loss(some_rows(spec, zeros), generator())["loss"])
    assert model.eval().sample(zeros, generator()).shape == (4, *spec.shape)


@every_model
def test_a_model_with_a_likelihood_gives_nats_for_each_row(kind: str, form: str) -> None:
    spec = SPECS[form]
    model, batch = _build(kind, spec), some_rows(spec, torch.tensor([0, 1, 2, -1]))
    if MODELS[kind].likelihood == "bound":
        assert isinstance(model, BoundsLikelihood)
        for nats in (model.elbo(batch, generator()), model.iwae(batch, generator(), 3)):
            assert nats.shape == (4,)
            assert torch.isfinite(nats).all()


@every_model
def test_settings_survive_json(kind: str, form: str) -> None:
    config = MODELS[kind]()
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_a_spec_survives_json_and_refuses_spans_that_do_not_fit() -> None:
    for spec in SPECS.values():
        assert TensorSpec.from_json(spec.as_json()) == spec
    with pytest.raises(ValueError, match="spans cover 3 values, the shape holds 4"):
        TensorSpec((4,), (Span("continuous", 3),), 1)
