"""The layers of the two stacks applied a row above and then a place at a time, by caches of what they have heard.

A value costs only what is new for it: the vertical stack is computed once a row, the horizontal one place by place and
channel by channel, and a coarse scale only in the rows and places where it has one. All that outlives a row of the grid
is written in place or made anew in that row of every period.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._gated_layers import Above, Beside


class Cached:
    """Layers applied to a row of the grid, then at one place of it after the other, and there to one channel.

    What a horizontal layer is given and gives is the channel's share of its features, ``(B, share)``; what a vertical
    one is given and gives is a row, ``(B, features, 1, W)``.
    """

    def __init__(self, net: nn.Module, condition: Tensor, groups: int, width: int) -> None:
        self.rows = {id(m): RowCache(m, condition, width) for m in net.modules() if isinstance(m, Above)}
        self.places = {id(m): PlaceCache(m, condition, groups, width) for m in net.modules() if isinstance(m, Beside)}
        self.v: dict[int, Tensor] = {}
        self.h: dict[int, Tensor] = {}
        self.phase = self.column = self.group = 0

    def begin_row(self, phase: int) -> None:
        """Go to the next row, the ``phase``-th of its period."""
        self.phase = phase

    def at(self, column: int, group: int) -> None:
        """Go to a channel of a place of the row."""
        self.column, self.group = column, group

    def row_due(self, period: int) -> bool:
        """Whether a scale has features for this row."""
        return self.phase % period == 0

    def place_due(self, period: int) -> bool:
        """Whether a scale has features for this place."""
        return self.row_due(period) and self.column % period == 0

    def above(self, layer: Above, x: Tensor) -> Tensor:
        """The layer's row of its scale, or while that has none its last."""
        cache = self.rows[id(layer)]
        cache.put(x)
        if self.row_due(layer.writes):
            cache.out = cache.outputs()
        return cache.out

    def tell(self, layer: Beside, v: Tensor) -> None:
        """Let the layer hear ``(B, told, 1, W)``, at once at all places of the row."""
        self.places[id(layer)].tell(v)

    def beside(self, layer: Beside, x: Tensor) -> Tensor:
        """The channel's share of the outputs, or while their scale has no place here the last."""
        cache = self.places[id(layer)]
        if cache.forgets:
            return torch.addmm(cache.base[self.column // layer.writes], x, cache.weight)
        cache.put(self.column // layer.reads, self.group, x)
        if self.place_due(layer.writes):
            cache.out = cache.outputs_at(self.column, self.group)
        return cache.out

    def spread_above(self, layer: Above, x: Tensor) -> Tensor:
        """The row ``(B, outputs / 4, 1, W)`` of the finer scale."""
        cache = self.rows[id(layer)]
        if self.row_due(layer.reads):
            cache.put(x)
            cache.out = cache.outputs()  # (B, outputs, 1, W / 2)
        within = self.phase // layer.writes % 2
        rows = torch.unflatten(cache.out[:, :, 0], 1, (-1, 2, 2))
        fours = rows[:, :, within]  # (B, outputs / 4, 2, W / 2)
        return fours.transpose(2, 3).flatten(2)[:, :, None, : cache.spread_width]

    def spread_beside(self, layer: Beside, x: Tensor) -> Tensor:
        """The channel's share of the features of the finer place."""
        cache = self.places[id(layer)]
        share = cache.outputs[self.group]
        fours = cache.spread[self.column // layer.reads, :, share]
        if self.place_due(layer.reads):
            cache.put(self.column // layer.reads, self.group, x)
            fours.copy_(cache.outputs_at(self.column, self.group))
        down, across = self.phase // layer.writes % 2, self.column // layer.writes % 2
        return torch.unflatten(fours, 1, (-1, 2, 2))[:, :, down, across]


class RowCache:
    """The rows that a vertical layer hears, in a window that moves down."""

    def __init__(self, layer: Above, condition: Tensor, width: int) -> None:
        self.weight, self.stride = layer.conv.weight.detach(), layer.conv.stride
        assert layer.conv.bias is not None
        self.by_class: Tensor = (layer.of_class(condition) + layer.conv.bias).detach()[:, :, None, None]
        self.width, self.reach = -(-width // layer.reads), layer.reach
        self.spread_width = -(-width // layer.writes)
        inputs, (rows, _) = layer.conv.in_channels, layer.conv.kernel_size
        # empty at first, as what lies above the image is, and beside it always
        self.window = condition.new_zeros(len(condition), inputs, rows, self.width + 2 * self.reach)
        self.out: Tensor = self.window

    def put(self, x: Tensor) -> None:
        """Take the next row ``(B, inputs, 1, W)``."""
        self.window[:, :, :-1] = self.window[:, :, 1:].clone()
        self.window[:, :, -1:, self.reach : self.reach + self.width] = x

    def outputs(self) -> Tensor:
        """The row that comes of those in the window, ``(B, outputs, 1, W)``."""
        heard = functional.conv2d(self.window, self.weight, stride=self.stride)
        return heard + self.by_class


class PlaceCache:
    """What a horizontal layer has heard in the row, and what it was told of the rows above.

    ``inputs`` and ``outputs`` are the shares of each channel, the outputs in an order in which each share is in one
    piece; ``forgets`` says that nothing of the inputs is heard again.
    """

    def __init__(self, layer: Beside, condition: Tensor, groups: int, width: int) -> None:
        weight = (layer.conv.weight * layer.conv.mask).detach()[:, :, 0]  # (outputs, inputs, reach + 1)
        order = layer.outputs.argsort(stable=True).to(weight.device)
        self.outputs = shares(layer.outputs.sort().values, groups)
        self.inputs = shares(layer.inputs, groups)
        self.reads, self.writes, self.reach = layer.reads, layer.writes, layer.reach
        self.forgets = layer.reach == 0 and groups == 1 and layer.reads == layer.writes
        self.weight = weight[order].permute(2, 1, 0).flatten(0, 1).contiguous()
        assert layer.conv.bias is not None
        self.by_class = (layer.of_class(condition) + layer.conv.bias).detach()[:, order]
        if layer.of_above is not None:
            self.of_above = layer.of_above.weight.detach()[order, :, 0, 0].T.contiguous()
        places_in, places_out = -(-width // layer.reads), -(-width // layer.writes)
        self.base = self.by_class.expand(max(places_in, places_out), -1, -1)
        self.row = weight.new_zeros(len(condition), places_in + layer.reach, weight.shape[1])
        spread = places_in if layer.reads > layer.writes else 0
        self.spread: Tensor = weight.new_zeros(spread, *self.by_class.shape)
        self.out: Tensor = self.by_class

    def tell(self, v: Tensor) -> None:
        """Add what comes of ``(B, told, 1, W)`` to the outputs in this row."""
        self.base = v[:, :, 0].permute(2, 0, 1) @ self.of_above + self.by_class

    def put(self, column: int, group: int, x: Tensor) -> None:
        """Keep the channel's share of the inputs of a place."""
        self.row[:, self.reach + column, self.inputs[group]] = x

    def outputs_at(self, column: int, group: int) -> Tensor:
        """The channel's share of the outputs ``(B, share)`` at a column of the image."""
        share, first = self.outputs[group], column // self.reads
        heard = self.row[:, first : first + self.reach + 1].flatten(1)
        return torch.addmm(self.base[column // self.writes][:, share], heard, self.weight[:, share])


def shares(orders: Tensor, groups: int) -> list[slice]:
    """Where the features of each order are, of orders in which each is in one piece."""
    found = []
    for group in range(groups):
        places = (orders == group).nonzero()[:, 0].tolist()
        found.append(slice(places[0], places[-1] + 1))
    return found
