"""A masked net over the factors of a row: the logits of each from the factors before it and the class.

MADE: Masked Autoencoder for Distribution Estimation, arXiv:1502.03509, with its direct connections; every layer hears
the class. Nothing is normalised over the features of a row, since a factor would then hear later ones. A hidden
feature has the place of a factor in the order and hears the factors before that, so a factor's own features can be
computed as soon as these are known: a row is drawn factor by factor at the cost of one pass in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._factors import Factors, draw_outcomes
from models._masked import MaskedLinear, order_mask, spread_orders
from models._nets import LabelEmbedding

FIRST_SCALE = 0.1  # of the last layer's first weights: all outcomes are about as likely at the start
FARTHEST = 4.0  # deviations; a number beyond is heard as if it were there, and is no outlier to later factors


class MadeSize(NamedTuple):
    """Hidden features for each factor, residual layers, length of the class embedding, share of features left out."""

    units: int
    depth: int
    embedding: int
    dropout: float


class ClassLayer(nn.Module):
    """A masked linear map, moved by the class."""

    def __init__(self, mask: Tensor, embedding: int) -> None:
        super().__init__()
        self.linear = MaskedLinear(mask)
        self.of_class = nn.Linear(embedding, len(mask), bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, outputs)`` for ``(B, inputs)`` and conditions ``(B, embedding)``."""
        out: Tensor = self.linear(x) + self.of_class(condition)
        return out


class MadeNet(nn.Module):
    """The parts of the logits of every factor, ``(B, parts)``, group after group and factor after factor."""

    def __init__(self, factors: Factors, order: tuple[int, ...], num_classes: int, size: MadeSize) -> None:
        super().__init__()
        self.factors, self.order = factors, order
        rank = torch.empty(factors.count, dtype=torch.int64)
        rank[list(order)] = torch.arange(factors.count)
        values = rank[list(factors.of_value)]
        hidden = spread_orders(size.units * factors.count, factors.count)
        self.parts = [group.outcome.parts for group in factors.groups]
        counted = zip(factors.groups, self.parts, strict=True)
        outputs = torch.cat([rank[group.numbers].repeat_interleave(parts) for group, parts in counted])
        self.units = size.units
        self.label = LabelEmbedding(num_classes, size.embedding)
        self.first = ClassLayer(order_mask(values, hidden, strict=True), size.embedding)
        self.blocks = nn.ModuleList(
            ClassLayer(order_mask(hidden, hidden, strict=False), size.embedding) for _ in range(size.depth)
        )
        self.last = ClassLayer(order_mask(hidden, outputs, strict=False), size.embedding)
        self.direct = MaskedLinear(order_mask(values, outputs, strict=True))
        self.dropout = nn.Dropout(size.dropout)
        for number, group in enumerate(factors.groups):
            self.register_buffer(f"shapes_{number}", group.outcome.shapes, persistent=False)
        with torch.no_grad():
            for parameter in (*self.last.parameters(), *self.direct.parameters()):
                parameter.mul_(FIRST_SCALE)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(B, parts)`` for rows ``(B, D)`` and labels ``(B,)``."""
        condition, x = self.label(y), as_heard(x)
        h = self.first(x, condition)
        for block in self.blocks:
            h = h + block(self.dropout(functional.silu(h)), condition)
        raw: Tensor = self.last(self.dropout(functional.silu(h)), condition) + self.direct(x)
        return raw

    def logits(self, number: int, parts: Tensor) -> Tensor:
        """The logits ``(B, n, K)`` of factors of a group from their parts ``(B, n, p)``, in 32 bits at least."""
        exact = parts.to(torch.promote_types(parts.dtype, torch.float32))
        shapes: Tensor | None = getattr(self, f"shapes_{number}")
        if shapes is None:
            return exact
        with torch.autocast(exact.device.type, enabled=False):  # a density in bfloat16 would be of other values
            return exact @ shapes.to(exact.dtype)

    def by_group(self, raw: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The number of each group and the logits ``(B, n, K)`` of its factors."""
        first = 0
        for number, (group, parts) in enumerate(zip(self.factors.groups, self.parts, strict=True)):
            last = first + parts * len(group.numbers)
            yield number, self.logits(number, raw[:, first:last].reshape(len(raw), len(group.numbers), parts))
            first = last

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """ln p(x|y) in nats ``(B,)`` of rows ``(B, D)``.

        Raises:
            ValueError: a value lies between two of its levels.
        """
        nats = torch.zeros((), device=x.device)
        for number, logits in self.by_group(self(x, y)):
            outcome, _, places = self.factors.groups[number]
            values = x[:, places].to(logits.dtype)
            chosen = logits.log_softmax(2).gather(2, outcome.index(values)[..., None])[..., 0]
            nats = nats + (chosen + outcome.log_within(values)).sum(1)
        return nats


class Drawing:
    """Rows whose factors become known one after the other, in the order of the net.

    The features of a place hear nothing that comes later, so they are computed once, when their turn comes.
    """

    def __init__(self, net: MadeNet, y: Tensor) -> None:
        self.net = net
        condition = net.label(y)
        layers = [net.first, *net.blocks, net.last]
        self.moved = [layer.linear.bias + layer.of_class(condition) for layer in layers]
        self.weights = [layer.linear.weight * layer.linear.mask for layer in layers]
        self.direct = net.direct.weight * net.direct.mask
        self.x = torch.zeros(len(y), len(net.factors.of_value), dtype=condition.dtype, device=y.device)
        self.heard = torch.zeros_like(self.x)
        self.active = [torch.zeros_like(moved) for moved in self.moved[:-1]]  # what the next layer hears of each
        self.outputs = _outputs_of(net)

    def logits(self, place: int) -> Tensor:
        """The logits ``(B, 1, K)`` of the factor at a place in the order, all before it being known."""
        own = slice(place * self.net.units, (place + 1) * self.net.units)
        h = self.heard @ self.weights[0][own].T + self.moved[0][:, own]
        self.active[0][:, own] = functional.silu(h)
        for layer in range(1, len(self.active)):
            h = h + self.active[layer - 1] @ self.weights[layer][own].T + self.moved[layer][:, own]
            self.active[layer][:, own] = functional.silu(h)
        number, outputs = self.outputs[self.net.order[place]]
        raw = self.active[-1] @ self.weights[-1][outputs].T + self.moved[-1][:, outputs]
        raw = raw + self.heard @ self.direct[outputs].T + self.net.direct.bias[outputs]
        return self.net.logits(number, raw[:, None])

    def put(self, place: int, values: Tensor) -> None:
        """Take the values ``(B, width)`` of the factor at a place in the order."""
        places = self.net.factors.places(self.net.order[place])
        self.x[:, places] = values.to(self.x.dtype)
        self.heard[:, places] = as_heard(self.x[:, places])


def draw(net: MadeNet, y: Tensor, uniform: Tensor, temperature: float, given: Tensor, known: int) -> Tensor:
    """Rows ``(B, D)`` of classes ``y`` that ``uniform`` noise ``(B, factors)`` names, in the order of the net.

    The first ``known`` factors in that order are taken from ``given`` ``(B, D)``.
    """
    rows = Drawing(net, y)
    for place, number in enumerate(net.order):
        logits = rows.logits(place)
        if place < known:
            rows.put(place, given[:, net.factors.places(number)])
            continue
        index, within = draw_outcomes(logits, uniform[:, number, None], temperature)
        values = net.factors.outcome(number).values(index, within.to(uniform.dtype))
        rows.put(place, torch.where(logits.isfinite().all(2, keepdim=True), values, torch.nan)[:, 0])
    return rows.x


def as_heard(x: Tensor) -> Tensor:
    """What later factors hear of values: the values, within bounds."""
    return x.clamp(-FARTHEST, FARTHEST)


def _outputs_of(net: MadeNet) -> dict[int, tuple[int, slice]]:
    """For each factor the number of its group, and where its parts lie among the outputs of the net."""
    found: dict[int, tuple[int, slice]] = {}
    first = 0
    for number, (group, parts) in enumerate(zip(net.factors.groups, net.parts, strict=True)):
        for factor in group.numbers:
            found[factor] = (number, slice(first, first + parts))
            first += parts
    return found
