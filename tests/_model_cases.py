"""What the tests of all models share: the models that exist, small specs, batches of them, training steps and draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic import ValidationError

import models
from augment._plugins import find_plugins
from augment.operators import OPERATORS, draw_function
from augment.training._optimisation import AveragedWeights
from models._contract import Batch, GenerativeModel, ModelConfig, Objective, Span, TensorSpec

SPECS = {
    "vector": TensorSpec((5,), (Span("continuous", 2), Span("categorical", 3)), 3),
    "grid": TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 3),
}
AVERAGED = 0.98  # decay of the averaged weights in trainings of some hundred steps
MODELS = find_plugins(models, ModelConfig)  # type: ignore[type-abstract]
CASES = [(kind, form) for kind, config in sorted(MODELS.items()) for form in SPECS if form in config.accepts]
# Every way of drawing that some settings of a model offer.
DRAWN_CASES = [(kind, form, operator) for kind, form in CASES for operator in MODELS[kind].operators]


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own for each use."""
    return torch.Generator().manual_seed(seed)


def on_levels(values: torch.Tensor, levels: int) -> torch.Tensor:
    """The nearest of so many levels in [-1, 1] to each value."""
    step = 2 / (levels - 1)
    return ((values.clamp(-1, 1) + 1) / step).round() * step - 1


def some_rows(spec: TensorSpec, labels: torch.Tensor, seed: int = 0) -> Batch:
    """Random rows that keep to the spec: levels on their grid, categories one-hot."""
    parts = []
    noise = generator(seed)
    for span in spec.spans:
        values = torch.randn(len(labels), span.width, generator=noise)
        if span.kind == "categorical":
            values = torch.nn.functional.one_hot(values.argmax(1), span.width).float()
        elif span.levels is not None:
            values = on_levels(values, span.levels)
        parts.append(values)
    return Batch(torch.cat(parts, 1).reshape(-1, *spec.shape), labels)


def choices(kind: str) -> Iterator[tuple[str, Any]]:
    """Every setting of a model that has named or yes-and-no choices, with each choice but the default one."""
    for name, field in MODELS[kind].model_fields.items():
        kinds = [t for t in (field.annotation, *get_args(field.annotation)) if get_origin(t) is Literal]
        values = [value for t in kinds for value in get_args(t)]
        values += [True, False] if field.annotation is bool else []
        yield from ((name, value) for value in values if name != "kind" and value != field.default)


@cache
def settings_offering(kind: str, operator: str) -> ModelConfig:
    """The default settings of a model, or those with one choice changed, under which it offers the operator."""
    tried: list[dict[str, Any]] = [{}, *({name: value} for name, value in choices(kind))]
    for changed in tried:
        try:
            config = MODELS[kind](**changed)
        except ValidationError:
            continue
        if operator in config.offered():
            return config
    raise AssertionError(f"no single choice of a setting makes {kind} offer '{operator}', which its class lists")


def draw(
    model: GenerativeModel,
    labels: torch.Tensor,
    noise: torch.Generator,
    operator: str | None = None,
    *,
    temperature: float = 1.0,
    exemplars: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Rows for ``labels`` by an operator, or by the first of all that the model keeps the protocol of.

    Without ``exemplars`` the operator's are random rows of the model's spec.
    """
    name = operator or next(name for name, known in OPERATORS.items() if isinstance(model, known.protocol))
    if exemplars is None:
        exemplars = [some_rows(model.spec, labels, seed=20 + n).x for n in range(OPERATORS[name].parents)]
    with torch.no_grad():
        return draw_function(model, name, temperature)(labels, exemplars, noise)


class Deaf(GenerativeModel):
    """A model that trains and draws from its prior without reading the label."""

    def __init__(self, inner: GenerativeModel) -> None:
        super().__init__()
        self.spec, self.inner = inner.spec, inner

    def objectives(self) -> Sequence[Objective]:
        def deaf(objective: Objective) -> Objective:
            return dataclasses.replace(
                objective, loss=lambda batch, noise: objective.loss(Batch(batch.x, torch.zeros_like(batch.y)), noise)
            )

        return [deaf(objective) for objective in self.inner.objectives()]

    def begin_step(self, step: int, steps: int) -> None:
        self.inner.begin_step(step, steps)

    def sample(self, labels: torch.Tensor, generator: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        return draw(self.inner, torch.zeros_like(labels), generator, "prior", temperature=temperature)


def exemplars_for(real: Batch, labels: torch.Tensor, operator: str, seed: int = 0) -> list[torch.Tensor]:
    """As many batches of real rows of the classes ``labels`` as the operator has parents, each class's used evenly."""
    noise, parents = generator(seed), OPERATORS[operator].parents
    chosen = torch.zeros(parents, len(labels), dtype=torch.int64)
    for label in labels.unique():
        own, rows = (real.y == label).nonzero()[:, 0], (labels == label).nonzero()[:, 0]
        for parent in range(parents):
            order = own[torch.randperm(len(own), generator=noise)]
            chosen[parent, rows] = order[(torch.arange(len(rows)) + parent) % len(own)]
    return [real.x[index] for index in chosen]


def optimiser_of(objective: Objective) -> torch.optim.Optimizer:
    """The optimiser that an objective asks for."""
    asked = objective.optimiser
    return torch.optim.AdamW(
        objective.parameters,
        lr=asked.learning_rate,
        betas=asked.betas,
        eps=asked.epsilon,
        weight_decay=asked.weight_decay,
    )


def take_step(
    objective: Objective, optimiser: torch.optim.Optimizer, batch: Batch, noise: torch.Generator
) -> dict[str, torch.Tensor]:
    """One step of ``objective`` as the trainer takes it; what the loss returned."""
    optimiser.zero_grad(set_to_none=True)
    terms = objective.loss(batch, noise)
    terms["loss"].backward(inputs=list(objective.parameters))
    if objective.optimiser.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(objective.parameters, objective.optimiser.clip_norm)
    optimiser.step()
    return terms


def train(model: GenerativeModel, rows: Batch, steps: int, batch_size: int = 64) -> None:
    """Train ``model`` on ``rows`` in place; the learning rate falls to zero over the last half.

    It ends with the average of its weights, as the trainer's do: players of a game circle about where they belong.
    """
    model.train()
    average = AveragedWeights(model, AVERAGED)
    noise = generator(1)
    taken = [(objective, optimiser_of(objective)) for objective in model.objectives()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # dropout
        for step in range(steps):
            index = torch.randint(len(rows.y), (batch_size,), generator=noise)
            model.begin_step(step, steps)
            for objective, optimiser in taken:
                if step % objective.every:
                    continue
                for group in optimiser.param_groups:
                    group["lr"] = objective.optimiser.learning_rate * min(1.0, 2 * (1 - step / steps))
                take_step(objective, optimiser, Batch(rows.x[index], rows.y[index]), noise)
            average.update(step)
    model.load_state_dict(average.tensors)
    model.eval()
