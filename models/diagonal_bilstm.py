"""A class-conditional Diagonal BiLSTM: the exact probability of an image from memories that sweep it along diagonals.

Pixel Recurrent Neural Networks, arXiv:1601.06759, sections 3.2 to 3.5. A memory at a place hears the one to its left
and the one above it; a second, mirrored, hears the one to its right and the one above, and is read one row further
down, since to the right lies what comes later. As published the last value of the row above stays unheard by places on
the left: no feature of that row has it. A column of zeros behind the image, whose features have it, closes the gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._contract import Form, ModelConfig, OptimiserConfig, TensorSpec, TrainingDefaults
from models._grey_levels import grey_grid
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
from models._searched import Range, Searched
from models._settings import Embedding
from models._skew import Skew


class DiagonalStates(nn.Module):
    """The states of a pass from the left plus, one row further down, those of a pass from the right.

    ``beside`` and ``above`` are state to state: the weights of the place before in the pass and of the one above, of
    both passes. Places outside the image have a state that is learned for each class.
    """

    def __init__(self, inputs: Tensor, units: Tensor, condition: int, skew: Skew) -> None:
        super().__init__()
        width = len(units)
        self.skew = skew
        self.from_left = Gates(inputs, units, 1, condition)
        self.from_right = Gates(inputs, units, 1, condition)
        bound = width**-0.5
        self.beside = nn.Parameter(torch.empty(2, width, GATES * width).uniform_(-bound, bound))
        self.above = nn.Parameter(torch.empty(2, width, GATES * width).uniform_(-bound, bound))
        self.outside = nn.Linear(condition, 2 * 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, units, H, W)`` for ``(B, inputs, H, W)`` and the vectors of the classes ``(B, condition)``."""
        left, right = self.passes(x, condition)
        out: Tensor = left + functional.pad(right, (0, 0, 1, -1))  # one row down
        return out

    def passes(self, x: Tensor, condition: Tensor) -> Tensor:
        """The states of both passes at their own places, ``(2, B, units, H, W)``."""
        rows, _, height, width = x.shape
        cells = self.skew(x.permute(2, 3, 0, 1).flatten(0, 1))  # (2, H W, B, inputs)
        z = torch.unflatten(torch.bmm(cells.flatten(1, 2), self.weight), 1, (height * width, rows))
        z = z + self.base(condition)[:, None]
        with torch.autocast(x.device.type, enabled=False):
            states = self._swept(at_least_single(z), *(at_least_single(part) for part in self.start(condition)))
        return torch.unflatten(self.skew.undone(states), 1, (height, width)).permute(0, 3, 4, 1, 2)

    @property
    def weight(self) -> Tensor:
        """Input to state, ``(2, inputs, 4 units)``, masked."""
        return torch.stack([self.from_left.weight, self.from_right.weight])

    def base(self, condition: Tensor) -> Tensor:
        """What the gates hear whatever the features, ``(2, B, 4 units)``."""
        return torch.stack([self.from_left.base(condition), self.from_right.base(condition)])

    def start(self, condition: Tensor) -> Tensor:
        """The states and the cells outside the image, ``(2, 2, B, units)``: states or cells, and of which pass."""
        parts: Tensor = self.outside(condition)
        return torch.unflatten(parts, 1, (2, 2, -1)).permute(1, 2, 0, 3)

    def _swept(self, z: Tensor, start: Tensor, start_cells: Tensor) -> Tensor:
        """The states ``(2, H W, B, units)``, one diagonal after the other, of what the gates hear of features."""
        weight = torch.cat([self.beside, self.above], dim=1).to(z.dtype)
        ends, end_cells = start[:, None], start_cells[:, None]
        h = c = ends[:, :0]
        swept, top_before = [], 0
        lengths, tops = self.skew.lengths, self.skew.tops
        for of_features, top, length in zip(torch.split(z, lengths, 1), tops, lengths, strict=True):
            # the diagonal before, from the place above the first of this one to the place beside the last
            cut = slice(top - top_before, top - top_before + length + 1)
            around = torch.cat([ends, h, ends], dim=1)[:, cut]
            cells = torch.cat([end_cells, c, end_cells], dim=1)[:, cut]
            heard = torch.cat([around[:, 1:], around[:, :-1]], dim=-1)  # beside, above
            gates = torch.baddbmm(of_features.flatten(1, 2), heard.flatten(1, 2), weight)
            h, c = states_after(gates.reshape(of_features.shape), cells[:, 1:])
            swept.append(h)
            top_before = top
        return torch.cat(swept, dim=1)


class DiagonalMemory:
    """The states of all layers while rows are drawn.

    The pass from the left goes on by a place at a time. That from the right is read a row further down, so it is made
    for a whole row when that is complete, in all layers at once.
    """

    def __init__(self, layers: list[DiagonalStates], condition: Tensor, channels: int, width: int) -> None:
        inputs, units = layers[0].weight.shape[1], layers[0].above.shape[1]
        self.number = {id(layer): number for number, layer in enumerate(layers)}
        self.shares = Shares(inputs, units, channels, condition.device)
        self.inputs = inputs
        # of each (layers, 2, ...), of the pass from the left and of that from the right
        of_features, beside = stacked(layer.weight for layer in layers), stacked(layer.beside for layer in layers)
        self.above = stacked(layer.above for layer in layers)
        self.base = stacked(layer.base(condition) for layer in layers)
        self.features_right, self.beside_right = of_features[:, 1], beside[:, 1]
        both = torch.cat([of_features[:, 0], beside[:, 0]], dim=1)
        self.left = [[layer[:, gates].contiguous() for gates in self.shares.gates] for layer in both]
        self.start, self.start_cells = stacked(layer.start(condition) for layer in layers).unbind(1)
        # a place's features, then the states of the place to its left; the first place has none but the start
        rows = len(condition)
        self.row = condition.new_zeros(len(layers), rows, width + 1, inputs + units)
        self.row[:, :, :, inputs:] = self.start[:, 0, :, None]
        self.cells = self.start_cells[:, 0, :, None].repeat(1, 1, width + 1, 1)
        self.right = self.start[:, 1, :, None].repeat(1, 1, width, 1)
        self.read = torch.zeros_like(self.right)  # what is read of the pass from the right
        self.from_above = condition.new_zeros(len(layers), width, rows, GATES, units)

    def begin_row(self, row: Tensor) -> None:
        """Complete the pass from the right in the row above, and hear the states above in all columns."""
        above = self.row[:, :, 1:, self.inputs :]
        heard = (
            torch.unflatten(above.flatten(1, 2).bmm(self.above[:, 0]), 1, above.shape[1:3]) + self.base[:, 0, :, None]
        )
        self.from_above = heard.transpose(1, 2).reshape(self.from_above.shape)
        right = self._pass_from_the_right()
        self.read = torch.where(row > 0, right, torch.zeros_like(right))  # above the first row there is no pass
        self.right.copy_(torch.where(row > 0, right, self.right))

    def _pass_from_the_right(self) -> Tensor:
        """The states of the row that is done, ``(layers, B, width, units)``."""
        features = self.row[:, :, :-1, : self.inputs]
        z = features.flatten(1, 2).bmm(self.features_right) + self.right.flatten(1, 2).bmm(self.above[:, 1])
        z = torch.unflatten(z, 1, features.shape[1:3]) + self.base[:, 1, :, None]
        h, c = self.start[:, 1], self.start_cells[:, 1]
        states = []
        for of_place in reversed(z.unbind(2)):
            h, c = states_after(torch.baddbmm(of_place, h, self.beside_right), c)
            states.append(h)
        return torch.stack(states[::-1], dim=2)

    def heard(self, layer: nn.Module, column: int, channel: int, x: Tensor) -> Tensor:
        """A channel's share of the layer's states at a place, for its share of the features there."""
        number, own = self.number[id(layer)], self.shares.units[channel]
        row, cells = self.row[number], self.cells[number]
        row[:, column, self.shares.inputs[channel]] = x
        from_above = self.from_above[number, column, :, :, own].flatten(1)
        z = torch.addmm(from_above, row[:, column], self.left[number][channel])
        h, c = states_after(z, cells[:, column, own])
        row[:, column + 1, self.inputs :][:, own] = h
        cells[:, column + 1, own] = c
        return h + self.read[number, :, column, own]


def stacked(parts: Iterable[Tensor]) -> Tensor:
    """Tensors of all layers in one, as they are now."""
    return torch.stack(list(parts)).detach()


class DiagonalBiLstmConfig(ModelConfig):
    """Settings of a Diagonal BiLSTM. It accepts grids only: the values of a vector have neither places nor levels."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = NO_TABLES
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"
    objective_names: ClassVar[tuple[str, ...]] = ("likelihood",)
    evaluations_per_sample: ClassVar[int] = 1  # a place at a time: states are kept
    paper: ClassVar[str] = "Pixel Recurrent Neural Networks, arXiv:1601.06759"
    training: ClassVar[TrainingDefaults] = TRAINING
    searched: ClassVar[Mapping[str, Searched]] = {**SEARCHED, "width": Range(16, 128, log=True, whole=True)}

    kind: Literal["diagonal_bilstm"] = "diagonal_bilstm"
    width: Width = 64
    depth: Layers = 2
    first_kernel: OddKernel = Field(7, description="Side of the first layer's kernel, odd.")
    skip: Skip = True
    head_width: Head = 64
    embedding: Embedding = 32
    dropout: Dropout = 0.5
    paper_exact: bool = Field(
        False, description="As published, where places on the left do not hear the last value of the row above."
    )
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
        margin = 0 if self.paper_exact else 1
        sizes = LstmSizes(
            self.width, self.depth, self.first_kernel, self.head_width, self.embedding, self.dropout, self.skip, margin
        )
        refuse_large_lstm(grid, sizes, 2 * GATES * self.width * 4 * self.width)
        skew = Skew(grid.height, grid.width + margin)

        def states(inputs: Tensor, units: Tensor) -> DiagonalStates:
            return DiagonalStates(inputs, units, self.embedding, skew)

        with first_weights(generator):
            net = LstmNet(grid, sizes, spec.num_classes, states, DiagonalMemory)
        return RasterModel(spec, net, self.optimiser)
