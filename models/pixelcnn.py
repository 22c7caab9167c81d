"""A class-conditional PixelCNN: the exact probability of an image, grey level by grey level, in raster order.

Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3.5; the class as in Conditional Image Generation with
PixelCNN Decoders, arXiv:1606.05328, section 2.3. ln p(x|y) is the sum over all places, and within a place over the
channels R, G and B, of the logarithm of a softmax over levels. As published, stacks of masked kernels have a blind
spot: a place does not hear a wedge to its upper right. Nothing is normalised over a grid or a batch, since a place
would then hear later ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from models._contract import (
    Batch,
    Form,
    GenerativeModel,
    ModelConfig,
    Objective,
    OptimiserConfig,
    TensorSpec,
    TrainingDefaults,
)
from models._grey_levels import GreyGrid, grey_grid, uniform_noise
from models._masked import spread_orders
from models._nets import LabelEmbedding, first_weights
from models._raster import draw_in_raster_order, places_known
from models._raster_layers import Applied, Cached, RasterConv, Whole
from models._searched import Range, Searched
from models._settings import Embedding

DEEPEST = 15  # blocks unless more are asked for, as published
MOST_WEIGHTS = 200_000_000  # of all kernels, each of which has a mask beside it: 1.6 GB
VALUES_AT_ONCE = 2**25  # logits that are in memory at a time when a likelihood is computed


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
        inner = applied(self.across, functional.relu(inner))
        out: Tensor = h + applied(self.up, self.dropout(functional.relu(inner)))
        return out


class PixelNet(nn.Module):
    """The logits of every level of every value, from the values before it and the class.

    Beside the values it hears that a place is in the image, since the zeros around it are a grey level too, and where
    in the image it is. Neither says anything of the row.
    """

    where: Tensor

    def __init__(self, grid: GreyGrid, settings: PixelCnnConfig, num_classes: int) -> None:
        super().__init__()
        width, embedding = settings.width, settings.embedding
        orders = torch.arange(grid.channels)
        wide, head = spread_orders(2 * width, grid.channels), spread_orders(settings.head, grid.channels)
        self.register_buffer("where", _where(grid), persistent=False)
        self.label = LabelEmbedding(num_classes, embedding)
        inputs = torch.cat([orders, torch.full((len(self.where),), -1)])
        self.first = RasterConv(inputs, wide, settings.first_kernel, embedding, strict=True)
        self.blocks = nn.ModuleList(
            Block(width, grid.channels, settings.kernel, embedding, settings.dropout)
            for _ in range(settings.depth or suitable_depth(grid, settings))
        )
        self.head = RasterConv(wide, head, 1, embedding)
        self.last = RasterConv(head, orders.repeat_interleave(grid.levels), 1, embedding)
        self.grid = grid

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)`` and labels ``(B,)``."""
        applied = Whole(self.label(y))
        where = self.where.to(x.dtype).expand(len(x), -1, -1, -1)
        out = self.after(applied(self.first, torch.cat([x, where], dim=1)), applied)
        return out.reshape(len(x), self.grid.channels, self.grid.levels, self.grid.height, self.grid.width)

    def after(self, h: Tensor, applied: Applied) -> Tensor:
        """What all layers make of the features of the first, at whatever places these are."""
        for block in self.blocks:
            h = block(h, applied)
        h = applied(self.head, functional.relu(h))
        return applied(self.last, functional.relu(h))


class CachedPlaces:
    """The logits of one value after the other, by caches of what each layer has heard."""

    def __init__(self, net: PixelNet, y: Tensor) -> None:
        self.net = net
        layers = [module for module in net.modules() if isinstance(module, RasterConv)]
        self.applied = Cached(layers, net.label(y), net.grid.channels, net.grid.width)
        self.inputs = self.applied.caches[id(net.first)]  # whose inputs are values, not features

    def begin_row(self, row: int) -> None:
        """Go to the first place of a row of the grid."""
        self.applied.begin_row()
        channels, reach = self.net.grid.channels, self.inputs.reach
        self.inputs.row.zero_()
        self.inputs.row[:, reach:, channels:] = self.net.where[:, row].T

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        self.applied.at(column, channel)
        return self.net.after(self.inputs.outputs_at(column, channel), self.applied)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        self.inputs.put(column, slice(channel, channel + 1), values[:, None])


class PixelCnn(GenerativeModel):
    """p(x|y) as a product over values, each given all that come before it in raster order.

    A row is drawn value by value, by caches of what the layers have heard; the temperature divides the logits.
    """

    def __init__(self, spec: TensorSpec, net: PixelNet, settings: PixelCnnConfig) -> None:
        super().__init__()
        self.spec = spec
        self.net = net
        self.grid = net.grid
        self.settings = settings

    def objectives(self) -> Sequence[Objective]:
        """One: -ln p(x|y) in nats."""
        return [Objective("likelihood", tuple(self.parameters()), self._loss, self.settings.optimiser)]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        nats = -self._log_likelihood(batch).mean()
        return {"loss": nats, "bits_per_dim": nats.detach() / (self.spec.size * math.log(2))}

    def _log_likelihood(self, batch: Batch) -> Tensor:
        return self.grid.log_likelihood(self.net(batch.x, batch.y), self.grid.index(batch.x))

    @torch.no_grad()
    def log_likelihood(self, batch: Batch) -> Tensor:
        """ln p(x|y) in nats, shape ``(B,)``.

        Raises:
            ValueError: a value lies between two levels.
        """
        at_once = max(1, VALUES_AT_ONCE // (self.spec.size * self.grid.levels))
        parts = zip(torch.split(batch.x, at_once), torch.split(batch.y, at_once), strict=True)
        return torch.cat([self._log_likelihood(Batch(x, y)) for x, y in parts])

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)``, drawn value by value."""
        noise = uniform_noise(self.grid, len(labels), generator, self.net.where)
        levels = draw_in_raster_order(CachedPlaces(self.net, labels), self.grid, noise, temperature)
        return self.grid.values(levels)

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, C, H, W)`` with the values of ``x`` where ``known`` ``(H, W)`` is true, the others drawn.

        Raises:
            ValueError: an unknown place comes before a known one in raster order; a known value lies between levels;
                there are not as many labels as rows.
        """
        if len(labels) != len(x):
            raise ValueError(f"{len(x)} rows to complete have a label each, not {len(labels)}")
        count = places_known(known, self.grid)
        given = self.grid.index(torch.where(known, x, -1.0))
        noise = uniform_noise(self.grid, len(labels), generator, self.net.where)
        places = CachedPlaces(self.net, labels)
        levels = draw_in_raster_order(places, self.grid, noise, temperature, given, count)
        return torch.where(known, x, self.grid.values(levels))


def _where(grid: GreyGrid) -> Tensor:
    """One in every place, its row, and its column, both in [-1, 1]: ``(3, H, W)``."""
    down, across = (torch.linspace(-1, 1, side) for side in (grid.height, grid.width))
    shape = (grid.height, grid.width)
    return torch.stack([torch.ones(shape), down[:, None].expand(shape), across.expand(shape)])


def suitable_depth(grid: GreyGrid, settings: PixelCnnConfig) -> int:
    """As many blocks as let the last place hear the first, 15 at most."""
    missing = max(grid.height, grid.width) - settings.first_kernel // 2
    return min(DEEPEST, max(1, math.ceil(missing / (settings.kernel // 2))))


class PixelCnnConfig(ModelConfig):
    """Settings of :class:`PixelCnn`. It accepts grids only: the values of a vector have neither places nor levels."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = "the values of a table's row have no places in a raster, and no grey levels"
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
    first_kernel: int = Field(7, ge=3, le=31, description="Side of the first layer's kernel, odd.")
    kernel: int = Field(3, ge=3, le=31, description="Side of the kernel of a block, odd.")
    head: int = Field(64, ge=4, le=4096, description="Features of the layer before the softmax.")
    embedding: Embedding = 32
    dropout: float = Field(0.3, ge=0, lt=1, allow_inf_nan=False, description="Share of a block's features left out.")
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    @field_validator("first_kernel", "kernel")
    @classmethod
    def _has_a_centre(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"a masked kernel has a centre, so its side is odd, not {size}")
        return size

    def _kernel_weights(self, grid: GreyGrid) -> int:
        wide = 2 * self.width
        block = 2 * wide * self.width + (self.width * self.kernel) ** 2
        first = (grid.channels + 3) * wide * self.first_kernel**2
        last = self.head * (wide + grid.channels * grid.levels)
        return first + (self.depth or suitable_depth(grid, self)) * block + last

    def build(self, spec: TensorSpec, generator: torch.Generator) -> PixelCnn:
        """A model for ``spec`` whose first weights follow from ``generator`` alone.

        Raises:
            ValueError: rows are no grids of one span of grey levels, or too large to be drawn value by value; a layer
                has fewer features than there are channels; the net is too large.
        """
        grid = grey_grid(spec, self.kind)
        if min(self.width, self.head) < grid.channels:
            raise ValueError(f"each of {grid.channels} channels needs a feature; raise width and head")
        weights = self._kernel_weights(grid)
        if weights > MOST_WEIGHTS:
            raise ValueError(
                f"these settings make {weights:,} weights, of {MOST_WEIGHTS:,} at most; lower width, depth or kernel"
            )
        with first_weights(generator):
            net = PixelNet(grid, self, spec.num_classes)
        return PixelCnn(spec, net, self)
