"""Masked MLPs of small tables, whole and with something left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from _model_cases import generator, some_rows
from torch import Tensor

from models._contract import Batch, Span, TensorSpec
from models._factors import draw_outcomes
from models._made import ClassLayer
from models.masked_mlp import MaskedMlp, MaskedMlpConfig

# Columns 0 and 1 are numbers, 2 a category, 3 a value of levels, 4 a number, 5 a category.
MIXED = TensorSpec(
    (9,),
    (
        Span("continuous", 2),
        Span("categorical", 3),
        Span("continuous", 1, 5),
        Span("continuous", 1),
        Span("categorical", 2),
    ),
    3,
)


TINY = TensorSpec((6,), (Span("categorical", 2), Span("continuous", 1, 3), Span("categorical", 3)), 2)


ORDERS: dict[str, Any] = {"columns": "columns", "reversed": "reversed", "shuffled": 3, "named": (3, 0, 5, 1, 4, 2)}


COLUMN_OF_VALUE = [0, 1, 2, 2, 2, 3, 4, 5, 5]


every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def build(spec: TensorSpec = MIXED, **settings: Any) -> MaskedMlp:
    small = {"units": 5, "embedding": 4, "bins": 8, "terms": 3}
    return MaskedMlpConfig(**{**small, **settings}).build(spec, generator())


def stirred(model: MaskedMlp, seed: int = 1) -> MaskedMlp:
    """The model in 64 bits, every weight moved at random, so that the class and all columns matter."""
    noise = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return model.double().eval()


def deaf(model: MaskedMlp) -> MaskedMlp:
    """The model without what moves the layers by the class, in training as well."""
    for layer in model.modules():
        if isinstance(layer, ClassLayer):
            layer.of_class.register_forward_hook(lambda _layer, _given, moved: 0 * moved)
    return model


def rows_of(spec: TensorSpec, labels: Tensor, seed: int = 0) -> Batch:
    batch = some_rows(spec, labels, seed)
    return Batch(batch.x.double(), batch.y)


def drawn_by_whole_passes(
    model: MaskedMlp, labels: Tensor, seed: int, temperature: float = 1.0, given: Tensor | None = None, known: int = 0
) -> Tensor:
    """The rows that a pass over the whole row for every column draws. Nobody should draw like this."""
    net = model.net
    uniform = torch.rand(len(labels), net.factors.count, generator=generator(seed), dtype=torch.float64)
    x = torch.zeros(len(labels), model.spec.size, dtype=torch.float64)
    for place, column in enumerate(net.order):
        places = net.factors.places(column)
        if place < known:
            assert given is not None
            x[:, places] = given[:, places]
            continue
        for number, logits in net.by_group(net(x, labels)):
            group = net.factors.groups[number]
            if column in group.numbers:
                own = group.numbers.index(column)
                index, within = draw_outcomes(logits[:, [own]], uniform[:, [column]], temperature)
                x[:, places] = group.outcome.values(index, within)[:, 0]
    return x
