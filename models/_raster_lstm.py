"""What nets of long short-term memory on a grid share: the gates, the residual layers, and drawing place by place.

Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3. A layer reads the features of a place through a masked map
(input to state) and the states of earlier places (state to state); which these are, and in what order, is the family's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TrainingDefaults
from models._grey_levels import GreyGrid
from models._masked import MaskedLinear, order_mask, spread_orders
from models._nets import LabelEmbedding
from models._raster_layers import Applied, Cached, RasterConv, Whole, features_of
from models._raster_model import RasterNet, refuse_few_features, refuse_large_net
from models._searched import Range, Searched

GATES = 4  # output, forget and input gate, and what may be written
TRAINING = TrainingDefaults(steps=2000, batch_size=32, ema_decay=0.995, sampling="root")
SEARCHED: Mapping[str, Searched] = {
    "optimiser.learning_rate": Range(1e-3, 2e-2, log=True),
    "dropout": Range(0, 0.6),
    "width": Range(8, 64, log=True, whole=True),
}

Width = Annotated[int, Field(ge=4, le=1024, description="Units of a layer; between layers there are twice as many.")]
Layers = Annotated[int, Field(ge=1, le=32, description="Residual layers of memory.")]
Head = Annotated[int, Field(ge=4, le=4096, description="Features of the layer before the softmax.")]
Skip = Annotated[bool, Field(description="Pass the states of every layer to the head too, past the later layers.")]
Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, description="Share of a layer's states left out.")]


class Gates(nn.Module):
    """Input to state: what the gates are given by the features of a place, of mask B, those to its left and the class.

    ``inputs`` and ``units`` are the orders of the features and of the units, which every gate keeps. ``taps`` counts
    the place itself and those to its left. The forget gates begin open, so that a state lasts from the first step on.
    """

    def __init__(self, inputs: Tensor, units: Tensor, taps: int, condition: int) -> None:
        super().__init__()
        heard = torch.cat([torch.full((len(inputs) * (taps - 1),), -1), inputs])
        self.linear = MaskedLinear(order_mask(heard, units.repeat(GATES), strict=False))
        self.of_class = nn.Linear(condition, GATES * len(units), bias=False)
        with torch.no_grad():
            self.linear.bias[len(units) : 2 * len(units)] += 1

    @property
    def weight(self) -> Tensor:
        """``(taps inputs, 4 units)``, masked."""
        return (self.linear.weight * self.linear.mask).T

    def base(self, condition: Tensor) -> Tensor:
        """What does not depend on features, ``(B, 4 units)``."""
        moved: Tensor = self.of_class(condition) + self.linear.bias
        return moved


def states_after(z: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The next states and cells ``(..., units)``, given what the gates hear ``(..., 4 units)`` and the cells before.

    c' = f c + i g and h' = o tanh(c'), where o, f, i = sigmoid and g = tanh of their shares of z.
    """
    units = cells.shape[-1]
    logits, written = torch.split(z, [3 * units, units], dim=-1)
    o, f, i = logits.sigmoid().chunk(3, dim=-1)
    c = torch.addcmul(f * cells, i, written.tanh())
    return o * c.tanh(), c


def at_least_single(x: Tensor) -> Tensor:
    """In 32 bits at least: sums over hundreds of places lose in 16 what a cell should keep."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class LstmSizes(NamedTuple):
    """The sizes of a net; ``margin`` are columns of zeros to the right of the image, whose logits are cut off."""

    width: int
    depth: int
    first_kernel: int
    head: int
    embedding: int
    dropout: float
    skip: bool
    margin: int


class Memory(Protocol):
    """The states of all layers while rows are drawn."""

    def begin_row(self, row: Tensor) -> None:
        """Go to the first place of a row of the grid, whose number is the integer ``row`` ``()``."""
        ...

    def heard(self, layer: nn.Module, column: int, channel: int, x: Tensor) -> Tensor:
        """A channel's share of the layer's states at a place, for its share of the features there."""
        ...


class Block(nn.Module):
    """A residual layer: states of the features, and a masked 1x1 map of them that is added to the features.

    ``to_head`` maps the states for the head as well, past the later layers.
    """

    def __init__(self, states: nn.Module, units: Tensor, wide: Tensor, sizes: LstmSizes) -> None:
        super().__init__()
        self.states = states
        self.up = RasterConv(units, wide, 1, sizes.embedding)
        self.to_head = RasterConv(units, wide, 1, sizes.embedding) if sizes.skip else None
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, h: Tensor, passed: Tensor | None, applied: Applied) -> tuple[Tensor, Tensor | None]:
        """Features of the same shape, and what has been passed to the head so far."""
        states = self.dropout(applied(self.states, h))
        if self.to_head is not None:
            own = applied(self.to_head, states)
            passed = own if passed is None else passed + own
        return h + applied(self.up, states), passed


class LstmNet(RasterNet):
    """The logits of every level of every value, from the values before it and the class.

    ``states`` makes a layer of memory for the orders of its inputs and of its units; ``memory`` what is kept of such
    layers, for classes of the vectors ``condition``, while rows of so many channels and columns are drawn.
    """

    def __init__(
        self,
        grid: GreyGrid,
        sizes: LstmSizes,
        num_classes: int,
        states: Callable[[Tensor, Tensor], nn.Module],
        memory: Callable[[list[Any], Tensor, int, int], Memory],
    ) -> None:
        super().__init__(grid)
        orders = torch.arange(grid.channels)
        wide, units = (spread_orders(n * sizes.width, grid.channels) for n in (2, 1))
        head = spread_orders(sizes.head, grid.channels)
        inputs = torch.cat([orders, torch.full((len(self.where),), -1)])
        self.margin, self.memory = sizes.margin, memory
        self.label = LabelEmbedding(num_classes, sizes.embedding)
        self.first = RasterConv(inputs, wide, sizes.first_kernel, sizes.embedding, strict=True)
        self.blocks = nn.ModuleList(Block(states(wide, units), units, wide, sizes) for _ in range(sizes.depth))
        self.head = RasterConv(wide, head, 1, sizes.embedding)
        self.last = RasterConv(head, orders.repeat_interleave(grid.levels), 1, sizes.embedding)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)`` and labels ``(B,)``."""
        applied = Whole(self.label(y))
        inputs = functional.pad(self.inputs(x), (0, self.margin))
        out = self.after(applied(self.first, inputs), applied)[..., : self.grid.width]
        return out.reshape(len(x), self.grid.channels, self.grid.levels, self.grid.height, self.grid.width)

    def places(self, y: Tensor) -> LstmPlaces:
        """The logits of one value after the other, of rows of the classes ``y`` ``(B,)``."""
        return LstmPlaces(self, y)

    def after(self, h: Tensor, applied: Applied) -> Tensor:
        """What all layers make of the features of the first, at whatever places these are."""
        h = applied(self.head, functional.relu(self.remembered(h, applied)))
        return applied(self.last, functional.relu(h))

    def remembered(self, h: Tensor, applied: Applied) -> Tensor:
        """What the layers of memory make of the features of the first."""
        passed = None
        for block in self.blocks:
            h, passed = block(h, passed, applied)
        return h if passed is None else h + passed


class LstmPlaces:
    """The logits of one value after the other, by caches of what each layer has heard and of its states."""

    period = 1

    def __init__(self, net: LstmNet, y: Tensor) -> None:
        self.net = net
        channels, width, condition = net.grid.channels, net.grid.width + net.margin, net.label(y)
        self.convs = Cached([m for m in net.modules() if isinstance(m, RasterConv)], condition, channels, width)
        self.inputs = self.convs.caches[id(net.first)]  # whose inputs are values, not features
        layers = [block.states for block in net.blocks]
        self.layers = {id(layer) for layer in layers}
        self.memory = net.memory(layers, condition, channels, width)

    def begin_row(self, phase: int, row: Tensor) -> None:
        """Go to the first place of a row of the grid."""
        grid, reach = self.net.grid, self.inputs.reach
        self.memory.begin_row(row)
        self.convs.begin_row()
        self.inputs.row.zero_()
        self.inputs.row[:, reach : reach + grid.width, grid.channels :] = self.net.where_in_row(row)

    def logits(self, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        return self.net.after(self._first(column, channel), self)

    def _first(self, column: int, channel: int) -> Tensor:
        self.convs.at(column, channel)
        return self.inputs.outputs_at(column, channel)

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A channel's share of what the layer makes of its share of the features at the place."""
        if id(layer) in self.layers:
            return self.memory.heard(layer, self.convs.column, self.convs.channel, x)
        return self.convs(layer, x)

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]; after the last of a row go on to the row's end behind the image."""
        grid = self.net.grid
        self.inputs.put(column, slice(channel, channel + 1), values[:, None])
        if (column, channel) == (grid.width - 1, grid.channels - 1):
            for behind in range(grid.width, grid.width + self.net.margin):
                for other in range(grid.channels):
                    self.net.remembered(self._first(behind, other), self)


class Shares:
    """Which features and units are of each channel, and the columns of the four gates of those units."""

    def __init__(self, inputs: int, units: int, channels: int, device: torch.device) -> None:
        self.inputs = [features_of(channel, channels, inputs) for channel in range(channels)]
        self.units = [features_of(channel, channels, units) for channel in range(channels)]
        gates = torch.arange(GATES * units, device=device).reshape(GATES, units)
        self.gates = [gates[:, own].flatten() for own in self.units]


def refuse_large_lstm(grid: GreyGrid, sizes: LstmSizes, layer: int) -> None:
    """Nothing, if each channel has a feature and all weights fit into memory, ``layer`` of them in a layer's gates.

    Raises:
        ValueError: it has none, or they do not.
    """
    refuse_few_features(grid.channels, sizes.width, sizes.head)
    wide = 2 * sizes.width
    first = (grid.channels + 3) * wide * sizes.first_kernel**2
    up = wide * sizes.width * (2 if sizes.skip else 1)
    last = sizes.head * (wide + grid.channels * grid.levels)
    refuse_large_net(first + sizes.depth * (layer + up) + last)
