"""The operators: in which ways rows can be drawn from a model, and from how many real rows each.

The one place that looks at what a model offers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from augment.errors import InputError, did_you_mean
from models._contract import (
    GenerativeModel,
    InterpolatesRows,
    ModelConfig,
    ResamplesPosterior,
    SamplesPrior,
    VariesExemplars,
)

# Labels (B,), as many batches of exemplars (B, *shape) as the operator has parents, and the source of all noise.
Draw = Callable[[Tensor, Sequence[Tensor], torch.Generator], Tensor]


@dataclass(frozen=True)
class Operator:
    """One way to draw rows.

    ``protocol`` is what a model keeps that offers it, ``method`` is called with the exemplars, the labels, the
    generator and the temperature, and ``parents`` is the number of real rows that each synthetic one is drawn from.
    """

    protocol: type[Any]
    method: str
    parents: int
    sentence: str  # what a row is drawn from, for people


OPERATORS = {
    "prior": Operator(SamplesPrior, "sample", 0, "each row is drawn from its label alone"),
    "posterior": Operator(
        ResamplesPosterior, "resample", 1, "each row is drawn near the code of a real training row of its class"
    ),
    "interpolation": Operator(
        InterpolatesRows, "interpolate", 2, "each row is drawn between two real training rows of its class"
    ),
    "exemplar": Operator(
        VariesExemplars, "sample_from", 1, "each row is a variation of a real training row of its class"
    ),
}


def chosen_operator(config: ModelConfig, asked: str | None) -> str:
    """The operator that is ``asked`` for, or the default one of a model with these settings.

    Raises:
        InputError: a model with these settings does not offer it.
    """
    offered = config.offered()
    name = offered[0] if asked is None else asked
    if name not in offered:
        settings = " with these settings" if name in type(config).operators else ""
        others = "" if not settings else f", or change the settings of model.{config.kind} that it needs"
        raise InputError(
            f"generate.operator '{name}' is not offered by {config.kind}{settings}, which offers: "
            f"{', '.join(offered)}; take one of these{others}"
        )
    return name


def draw_function(model: GenerativeModel, name: str, temperature: float = 1.0) -> Draw:
    """How the operator called ``name`` draws rows from ``model``.

    Raises:
        InputError: there is no such operator, or the model does not offer it.
    """
    operator = OPERATORS.get(name)
    if operator is None:
        raise InputError(f"generate.operator '{name}' is not known{did_you_mean(name, OPERATORS)}")
    if not isinstance(model, operator.protocol):
        kept = [other for other, known in OPERATORS.items() if isinstance(model, known.protocol)]
        raise InputError(f"the model does not offer generate.operator '{name}'; use {' or '.join(kept)}.")

    def draw(labels: Tensor, exemplars: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        rows: Tensor = getattr(model, operator.method)(*exemplars, labels, generator, temperature)
        return rows

    return draw
