"""What the tests of all models share: the models that exist, small specs, batches of them, and a training step."""

from __future__ import annotations

import torch

import models
from augment._plugins import find_plugins
from models._contract import Batch, GenerativeModel, ModelConfig, Objective, Span, TensorSpec

SPECS = {
    "vector": TensorSpec((5,), (Span("continuous", 2), Span("categorical", 3)), 3),
    "grid": TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 3),
}
MODELS = find_plugins(models, ModelConfig)  # type: ignore[type-abstract]
CASES = [(kind, form) for kind, config in sorted(MODELS.items()) for form in SPECS if form in config.accepts]


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own for each use."""
    return torch.Generator().manual_seed(seed)


def some_rows(spec: TensorSpec, labels: torch.Tensor, seed: int = 0) -> Batch:
    """Random rows that keep to the spec: levels on their grid, categories one-hot."""
    parts = []
    for span in spec.spans:
        values = torch.randn(len(labels), span.width, generator=generator(seed))
        if span.kind == "categorical":
            values = torch.nn.functional.one_hot(values.argmax(1), span.width).float()
        elif span.levels is not None:
            step = 2 / (span.levels - 1)
            values = (values.clamp(-1, 1) / step).round() * step
        parts.append(values)
    return Batch(torch.cat(parts, 1).reshape(-1, *spec.shape), labels)


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
    """Train ``model`` on ``rows`` in place; the learning rate falls to zero over the last half."""
    model.train()
    noise = generator(1)
    taken = [(objective, optimiser_of(objective)) for objective in model.objectives()]
    for step in range(steps):
        index = torch.randint(len(rows.y), (batch_size,), generator=noise)
        model.begin_step(step, steps)
        for objective, optimiser in taken:
            if step % objective.every:
                continue
            for group in optimiser.param_groups:
                group["lr"] = objective.optimiser.learning_rate * min(1.0, 2 * (1 - step / steps))
            take_step(objective, optimiser, Batch(rows.x[index], rows.y[index]), noise)
    model.eval()
