"""A class-conditional PixelCNN: the exact probability of an image, grey level by grey level, in raster order.

Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3.5; the class as in Conditional Image Generation with
PixelCNN Decoders, arXiv:1606.05328, section 2.3. ln p(x|y) is the sum over all places, and within a place over the
channels R, G and B, of the logarithm of a softmax over levels. As published, stacks of masked kernels have a blind
spot: a place does not hear a wedge to its upper right. Nothing is normalised over a grid or a batch, since a place
would then hear later ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models._contract import Form, ModelConfig, OptimiserConfig, TensorSpec, TrainingDefaults
from models._grey_levels import GreyGrid, grey_grid
from models._masked import spread_orders
from models._nets import LabelEmbedding, first_weights
from models._raster_layers import Applied, Cached, RasterConv, Whole
from models._raster_model import (
    NO_TABLES,
    ORDER,
    OddKernel,
    RasterModel,
    RasterNet,
    refuse_few_features,
    refuse_large_net,
)
from models._searched import Range, Searched
from models._settings import Embedding

DEEPEST = 15  # blocks unless more are asked for, as published


class Block(nn.Module):
    """A residual block: 1x1 to half the features, 3x3, and 1x1 back, each behind a rectifier and of mask B."""

    def __init__(self, width: int, channels: int, kernel: int, condition: int, dropout: float) -> None:
        super().__init__()
        wide, narrow = spread_orders(2 * width, channels), spread_orders(width, channels)
        self.down = RasterConv(wide, narrow, 1, condition)
        self.across = RasterConv(narrow, narrow, kernel, condition)
        self.up = RasterConv(narrow, wide, 1, condition)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, applied: Applied) -> Tensor:
        """Features of the same shape."""
        inner = applied(self.down, functional.relu(h))
        inner = applied(self.across, inner.relu_())
        out: Tensor = h + applied(self.up, self.dropout(inner.relu_()))
        return out


class PixelNet(RasterNet):
    """The logits of every level of every value, from the values before it and the class.

    Beside the values it hears that a place is in the image, since the zeros around it are a grey level too, and where
    in the image it is. Neither says anything of the row.
    """

    def __init__(self, grid: GreyGrid, settings: PixelCnnConfig, num_classes: int) -> None:
        super().__init__(grid)
        width, embedding = settings.width, settings.embedding
        orders = torch.arange(grid.channels)
        wide, head = spread_orders(2 * width, grid.channels), spread_orders(settings.head_width, grid.channels)
        self.label = LabelEmbedding(num_classes, embedding)
        inputs = torch.cat([orders, torch.full((len(self.where),), -1)])
        self.first = RasterConv(inputs, wide, settings.first_kernel, embedding, strict=True)
        self.blocks = nn.ModuleList(
            Block(width, grid.channels, settings.kernel, embedding, settings.dropout)
            for _ in range(settings.depth or suitable_depth(grid, settings))
        )
        self.head = RasterConv(wide, head, 1, embedding)
        self.last = RasterConv(head, orders.repeat_interleave(grid.levels), 1, embedding)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)`` and labels ``(B,)``."""
        applied = Whole(self.label(y))
        out = self.after(applied(self.first, self.inputs(x)), applied)
        return out.reshape(len(x), self.grid.channels, self.grid.levels, self.grid.height, self.grid.width)

    def places(self, y: Tensor) -> CachedPlaces:
        """The logits of one value after the other, of rows of the classes ``y`` ``(B,)``."""
        return CachedPlaces(self, y)

    def after(self, h: Tensor, applied: Applied) -> Tensor:
        """What all layers make of the features of the first, at whatever places these are."""
        for block in self.blocks:
            h = block(h, applied)
        h = applied(self.head, functional.relu(h))
        return applied(self.last, h.relu_())


class CachedPlaces:
    """The logits of one value after the other, by caches of what each layer has heard."""

    period = 1

    def __init__(self, net: PixelNet, y: Tensor) -> None:
        self.net = net
        layers = [module for module in net.modules() if isinstance(module, RasterConv)]
        self.applied = Cached(layers, net.label(y), net.grid.channels, net.grid.width)
        self.inputs = self.applied.caches[id(net.first)]  # whose inputs are values, not features

    def begin_row(self, phase: int, row: Tensor) -> None:
        """Go to the first place of a row of the grid."""
        self.applied.begin_row()
        channels, reach = self.net.grid.channels, self.inputs.reach
        self.inputs.row.zero_()
        self.inputs.row[:, reach:, channels:] = self.net.where_in_row(row)

    def logits(self, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        self.applied.at(column, channel)
        return self.net.after(self.inputs.outputs_at(column, channel), self.applied)

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        self.inputs.put(column, slice(channel, channel + 1), values[:, None])


def suitable_depth(grid: GreyGrid, settings: PixelCnnConfig) -> int:
    """As many blocks as let the last place hear the first, 15 at most."""
    missing = max(grid.height, grid.width) - settings.first_kernel // 2
    return min(DEEPEST, max(1, math.ceil(missing / (settings.kernel // 2))))


class PixelCnnConfig(ModelConfig):
    """Settings of a PixelCNN. It accepts grids only: the values of a vector have neither places nor levels."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = NO_TABLES
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"
    objective_names: ClassVar[tuple[str, ...]] = ("likelihood",)
    evaluations_per_sample: ClassVar[int] = 1  # a place at a time: what layers have heard is kept
    paper: ClassVar[str] = "Pixel Recurrent Neural Networks, arXiv:1601.06759"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=3000, batch_size=32, ema_decay=0.995, sampling="root")
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(5e-4, 5e-3, log=True),
        "dropout": Range(0, 0.6),
        "width": Range(16, 128, log=True, whole=True),
    }

    kind: Literal["pixelcnn"] = "pixelcnn"
    width: int = Field(
        32, ge=4, le=1024, description="Features inside a block; between blocks there are twice as many."
    )
    depth: int | None = Field(
        None, ge=1, le=64, description="Blocks; null: until the last place hears the first, 15 at most."
    )
    first_kernel: OddKernel = Field(7, description="Side of the first layer's kernel, odd.")
    kernel: OddKernel = Field(3, description="Side of the kernel of a block, odd.")
    head_width: int = Field(64, ge=4, le=4096, description="Features of the layer before the softmax.")
    embedding: Embedding = 32
    dropout: float = Field(0.3, ge=0, lt=1, allow_inf_nan=False, description="Share of a block's features left out.")
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    def drawing_order(self) -> str:
        """The raster's."""
        return ORDER

    def _kernel_weights(self, grid: GreyGrid) -> int:
        wide = 2 * self.width
        block = 2 * wide * self.width + (self.width * self.kernel) ** 2
        first = (grid.channels + 3) * wide * self.first_kernel**2
        last = self.head_width * (wide + grid.channels * grid.levels)
        return first + (self.depth or suitable_depth(grid, self)) * block + last

    def build(self, spec: TensorSpec, generator: torch.Generator) -> RasterModel:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: rows are no grids of one span of grey levels, or too large to be drawn value by value; a layer
                has fewer features than there are channels; the net is too large.
        """
        grid = grey_grid(spec, self.kind)
        refuse_few_features(grid.channels, self.width, self.head_width)
        refuse_large_net(self._kernel_weights(grid))
        with first_weights(generator):
            net = PixelNet(grid, self, spec.num_classes)
        return RasterModel(spec, net, self.optimiser)
