"""A class-conditional Row LSTM: the exact probability of an image from a memory that goes down row by row.

Pixel Recurrent Neural Networks, arXiv:1601.06759, sections 3.1 and 3.3 to 3.5. All states of a row follow at once from
those of the row above, in a kernel around the place, and from the features of the row up to the place. A place does not
hear a wedge to its upper right, which opens by half a kernel a row: the wider the kernel, the narrower the wedge. One
of 2 W + 1 places has none, with a column of zeros behind the image, whose features have the last value of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._contract import Form, ModelConfig, OptimiserConfig, TensorSpec, TrainingDefaults
from models._grey_levels import GreyGrid, grey_grid
from models._nets import first_weights
from models._raster_lstm import (
    GATES,
    SEARCHED,
    TRAINING,
    Dropout,
    Gates,
    Head,
    Layers,
    LstmNet,
    LstmSizes,
    Shares,
    Skip,
    Width,
    at_least_single,
    refuse_large_lstm,
    states_after,
)
from models._raster_model import NO_TABLES, ORDER, OddKernel, RasterModel
from models._searched import Searched
from models._settings import Embedding

WIDEST, USUAL = 17, 9  # kernels, unless another is asked for: of images of up to 8 columns, and of wider ones
PUBLISHED = 3  # the smallest of those that the paper allows


class RowStates(nn.Module):
    """The states of each row, by those of the row above it.

    ``above`` is state to state: the weights of the places of a kernel in the row above, from left to right; it needs no
    mask, since that row is complete. The row above the first has a state that is learned for each class.
    """

    def __init__(self, inputs: Tensor, units: Tensor, kernel: int, condition: int) -> None:
        super().__init__()
        width = len(units)
        self.reach = kernel // 2
        self.gates = Gates(inputs, units, self.reach + 1, condition)
        bound = (width * kernel) ** -0.5
        self.above = nn.Parameter(torch.empty(kernel * width, GATES * width).uniform_(-bound, bound))
        self.outside = nn.Linear(condition, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, units, H, W)`` for ``(B, inputs, H, W)`` and the vectors of the classes ``(B, condition)``."""
        rows = x.permute(2, 3, 0, 1)  # (H, W, B, inputs)
        z = windows(rows, self.reach, 0) @ self.gates.weight + self.base(condition)
        with torch.autocast(x.device.type, enabled=False):
            start, start_cells = (at_least_single(part) for part in self.start(condition))
            states = self._swept(at_least_single(z), start, start_cells)
        return states.permute(2, 3, 0, 1)

    def base(self, condition: Tensor) -> Tensor:
        """What the gates hear whatever the features, ``(B, 4 units)``."""
        return self.gates.base(condition)

    def start(self, condition: Tensor) -> Tensor:
        """The states and the cells of the row above the first, ``(2, B, units)``."""
        parts: Tensor = self.outside(condition)
        return torch.unflatten(parts, 1, (2, -1)).transpose(0, 1)

    def _swept(self, z: Tensor, start: Tensor, start_cells: Tensor) -> Tensor:
        """The states ``(H, W, B, units)``, one row after the other, of what the gates hear of features."""
        weight = self.above.to(z.dtype)
        h, c = (part.expand(z.shape[1], -1, -1) for part in (start, start_cells))
        swept = []
        for of_features in z:
            heard = windows(h, self.reach, self.reach)
            gates = torch.addmm(of_features.flatten(0, 1), heard.flatten(0, 1), weight)
            h, c = states_after(gates.reshape(of_features.shape), c)
            swept.append(h)
        return torch.stack(swept)


def windows(x: Tensor, left: int, right: int) -> Tensor:
    """Beside each place the values of its neighbours, zero outside: ``(..., W, B, n)`` as ``(..., W, B, taps n)``."""
    width = x.shape[-3]
    padded = functional.pad(x, (0, 0, 0, 0, left, right))
    return torch.cat([padded.narrow(-3, tap, width) for tap in range(left + 1 + right)], dim=-1)


class RowMemory:
    """The states of all layers while rows are drawn: what comes from the row above is heard when a row begins."""

    def __init__(self, layers: list[RowStates], condition: Tensor, channels: int, width: int) -> None:
        self.memories = {id(layer): LayerMemory(layer, condition, channels, width) for layer in layers}

    def begin_row(self, row: Tensor) -> None:
        """Hear the states of the row above, in all columns."""
        for memory in self.memories.values():
            memory.begin_row()

    def heard(self, layer: nn.Module, column: int, channel: int, x: Tensor) -> Tensor:
        """A channel's share of the layer's states at a place, for its share of the features there."""
        return self.memories[id(layer)].heard(column, channel, x)


class LayerMemory:
    """The features and states of one layer in a row, which begin as those above the image."""

    def __init__(self, layer: RowStates, condition: Tensor, channels: int, width: int) -> None:
        units, self.reach = layer.outside.out_features // 2, layer.reach
        weight, base = layer.gates.weight.detach(), layer.base(condition).detach()
        inputs = len(weight) // (self.reach + 1)
        self.shares = Shares(inputs, units, channels, condition.device)
        self.of_features = [weight[:, gates].contiguous() for gates in self.shares.gates]
        self.above, self.base = layer.above.detach(), base
        start = layer.start(condition).detach()
        self.states, self.cells = (part.repeat(width, 1, 1) for part in start)  # (width, B, units)
        self.row = condition.new_zeros(len(condition), self.reach + width, inputs)
        self.from_above = condition.new_zeros(width, len(condition), GATES, units)
        self.cells_above = self.cells

    def begin_row(self) -> None:
        """Hear the states of the row above, in all columns."""
        heard = windows(self.states, self.reach, self.reach) @ self.above + self.base
        self.from_above = heard.reshape(self.from_above.shape)
        self.cells_above = self.cells.clone()

    def heard(self, column: int, channel: int, x: Tensor) -> Tensor:
        """A channel's share of the states at a place, for its share of the features there."""
        own = self.shares.units[channel]
        self.row[:, self.reach + column, self.shares.inputs[channel]] = x
        features = self.row[:, column : column + self.reach + 1].flatten(1)
        from_above = self.from_above[column, :, :, own].flatten(1)
        z = torch.addmm(from_above, features, self.of_features[channel])
        h, c = states_after(z, self.cells_above[column, :, own])
        self.states[column, :, own] = h
        self.cells[column, :, own] = c
        return h


def suitable_kernel(grid: GreyGrid) -> int:
    """One that leaves no value unheard, where that takes no more than :data:`WIDEST`; else :data:`USUAL`.

    The first place of a row hears the last value of the row above from the column behind the image.
    """
    whole = 2 * grid.width + 1
    return whole if whole <= WIDEST else USUAL


class RowLstmConfig(ModelConfig):
    """Settings of a Row LSTM. It accepts grids only: the values of a vector have neither places nor levels."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = NO_TABLES
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"
    objective_names: ClassVar[tuple[str, ...]] = ("likelihood",)
    evaluations_per_sample: ClassVar[int] = 1  # a place at a time: states are kept
    paper: ClassVar[str] = "Pixel Recurrent Neural Networks, arXiv:1601.06759"
    training: ClassVar[TrainingDefaults] = TRAINING
    searched: ClassVar[Mapping[str, Searched]] = SEARCHED

    kind: Literal["row_lstm"] = "row_lstm"
    width: Width = 24
    depth: Layers = 2
    first_kernel: OddKernel = Field(7, description="Side of the first layer's kernel, odd.")
    kernel: OddKernel | None = Field(
        None,
        description="Places of the row above that a state hears, odd; null: all, in images of up to 8 columns, else 9; "
        "as published, 3.",
    )
    paper_exact: bool = Field(
        False, description="As published, without the column behind the image from which the next row hears its end."
    )
    skip: Skip = True
    head_width: Head = 64
    embedding: Embedding = 32
    dropout: Dropout = 0.3
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=6e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    def drawing_order(self) -> str:
        """The raster's."""
        return ORDER

    def build(self, spec: TensorSpec, generator: torch.Generator) -> RasterModel:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: rows are no grids of one span of grey levels, or too large to be drawn value by value; a layer
                has fewer features than there are channels; the net is too large.
        """
        grid = grey_grid(spec, self.kind)
        kernel = self.kernel or (PUBLISHED if self.paper_exact else suitable_kernel(grid))
        margin = 0 if self.paper_exact else 1
        sizes = LstmSizes(
            self.width, self.depth, self.first_kernel, self.head_width, self.embedding, self.dropout, self.skip, margin
        )
        refuse_large_lstm(grid, sizes, GATES * self.width**2 * (2 * (kernel // 2 + 1) + kernel))

        def states(inputs: Tensor, units: Tensor) -> RowStates:
            return RowStates(inputs, units, kernel, self.embedding)

        with first_weights(generator):
            net = LstmNet(grid, sizes, spec.num_classes, states, RowMemory)
        return RasterModel(spec, net, self.optimiser)
