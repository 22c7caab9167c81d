"""A class-conditional Gated PixelCNN: gates, and two stacks of layers that have no blind spot.

Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328. What PixelCNN++, arXiv:1701.05517, adds are
settings: a mixture of logistics in the place of the softmax over levels, short cuts between scales, and dropout. As
there nothing is normalised over a grid or a batch, since a place would then hear later ones. The features go to the
logits from the residual stream, which is the sum of all blocks, and not from each block by a layer of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models._contract import Form, ModelConfig, OptimiserConfig, TensorSpec, TrainingDefaults
from models._gated_caches import Cached
from models._gated_layers import Above, Applied, Beside, Whole
from models._gated_steps import Step, make_steps
from models._grey_levels import GreyGrid, grey_grid
from models._level_heads import LevelHead, Softmax
from models._logistic_mixture import LogisticMixture
from models._masked import spread_orders
from models._nets import LabelEmbedding, first_weights
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

DEEPEST = 15  # blocks on the finest scale unless more are asked for
COMPONENTS = 10  # of a mixture, as published


class GatedNet(RasterNet):
    """The logits of every level of every value, from the values before it and the class.

    Beside the values it hears that a place is in the image, since the zeros around it are a grey level too, and where
    in the image it is. Neither says anything of the row.
    """

    def __init__(self, grid: GreyGrid, settings: GatedPixelCnnConfig, num_classes: int) -> None:
        super().__init__(grid)
        width, embedding, first = settings.width, settings.embedding, settings.first_kernel
        self.head = settings.level_head(grid)
        groups = self.head.groups
        orders, wide = (spread_orders(features, groups) for features in (width, settings.head_width))
        values = torch.arange(grid.channels).clamp(max=groups - 1)
        inputs = torch.cat([values, torch.full((len(self.where),), -1)])
        self.label = LabelEmbedding(num_classes, embedding)
        self.first_above = Above(len(inputs), width, first, embedding, strict=True)
        self.first_beside = Beside(inputs, orders, first // 2, embedding, strict=True)
        depth = settings.depth or suitable_depth(grid, settings)
        self.steps = nn.ModuleList(
            make_steps(orders, settings.kernel, embedding, settings.dropout, depth, settings.scales)
        )
        self.wide = Beside(orders, wide, 0, embedding)
        self.last = Beside(wide, self.head.orders(), 0, embedding)
        self.period = 2 ** (settings.scales - 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)`` and labels ``(B,)``."""
        return self.head.logits(self.outputs(x, y), x)

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """ln p(x|y) in nats ``(B,)``.

        Raises:
            ValueError: a value lies between two levels.
        """
        return self.head.log_likelihood(self.outputs(x, y), self.grid.index(x))

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        """What the head reads of every place, ``(B, outputs, H, W)``."""
        applied = Whole(self.label(y), self.grid.height, self.grid.width)
        inputs = self.inputs(x)
        self.hear_above(inputs, applied)
        return self.hear_beside(applied.beside(self.first_beside, inputs), applied)

    def places(self, y: Tensor) -> CachedPlaces:
        """The logits of one value after the other, of rows of the classes ``y`` ``(B,)``."""
        return CachedPlaces(self, y)

    def hear_above(self, x: Tensor, applied: Applied) -> None:
        """Let the vertical stack hear the rows above, and tell the horizontal one."""
        v = applied.v
        v[0] = applied.above(self.first_above, x)
        for number, step in enumerate(self._steps()):
            if applied.row_due(step.period):
                v[number + 1] = step.above(heard_by(step, number, v), applied)

    def hear_beside(self, first: Tensor, applied: Applied) -> Tensor:
        """What the head reads, of the first features of the horizontal stack, at whatever places these are."""
        h = applied.h
        h[0] = first
        for number, step in enumerate(self._steps()):
            if applied.place_due(step.period):
                h[number + 1] = step.beside(heard_by(step, number, h), applied)
        wide = applied.beside(self.wide, functional.relu(h[len(self.steps)]))
        return applied.beside(self.last, functional.relu(wide))

    def _steps(self) -> list[Step]:
        return list(self.steps)  # type: ignore[arg-type]


def heard_by(step: Step, number: int, features: dict[int, Tensor]) -> Tensor:
    """What the step of that number hears: the features before it, and those that are passed to it."""
    before = features[number]
    return before if step.passed is None else before + features[step.passed]


class CachedPlaces:
    """The logits of one value after the other, by caches of what each layer has heard."""

    def __init__(self, net: GatedNet, y: Tensor) -> None:
        self.net = net
        self.period = net.period
        self.applied = Cached(net, net.label(y), net.head.groups, net.grid.width)
        self.inputs = self.applied.places[id(net.first_beside)]  # whose inputs are values, not features
        self.outputs = self.inputs.out

    def begin_row(self, phase: int, row: Tensor) -> None:
        """Go to the first place of a row of the grid, and hear the rows above it."""
        self.applied.begin_row(phase)
        done = self.inputs.row[:, self.inputs.reach :].transpose(1, 2)[:, :, None]  # (B, inputs, 1, W)
        self.net.hear_above(done, self.applied)
        self.inputs.row.zero_()
        self.inputs.row[:, self.inputs.reach :, self.net.grid.channels :] = self.net.where_in_row(row)

    def logits(self, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        if channel < self.net.head.groups:
            self.applied.at(column, channel)
            self.outputs = self.net.hear_beside(self.inputs.outputs_at(column, channel), self.applied)
        earlier = self.inputs.row[:, self.inputs.reach + column, :channel]
        return self.net.head.logits_of(self.outputs, earlier, channel)

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        self.inputs.row[:, self.inputs.reach + column, channel] = values


def suitable_depth(grid: GreyGrid, settings: GatedPixelCnnConfig) -> int:
    """As many blocks as let the last place hear the first on the finest scale alone, 15 at most.

    Coarse places hear nothing of the rows that they stand for, so that it is the fine ones that leave out nothing.
    """
    missing = max(grid.height, grid.width) - 1 - settings.first_kernel // 2
    ways = 1 if settings.scales == 1 else 2
    return min(DEEPEST, max(1, math.ceil(missing / (ways * (settings.kernel // 2)))))


class GatedPixelCnnConfig(ModelConfig):
    """Settings of a Gated PixelCNN. It accepts grids only: the values of a vector have neither places nor levels."""

    accepts: ClassVar[frozenset[Form]] = frozenset({"grid"})
    refuses: ClassVar[str] = NO_TABLES
    likelihood: ClassVar[Literal["exact", "bound", "none"]] = "exact"
    objective_names: ClassVar[tuple[str, ...]] = ("likelihood",)
    evaluations_per_sample: ClassVar[int] = 1  # a place at a time: what layers have heard is kept
    paper: ClassVar[str] = "Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328"
    training: ClassVar[TrainingDefaults] = TrainingDefaults(steps=3000, batch_size=32, ema_decay=0.995, sampling="root")
    searched: ClassVar[Mapping[str, Searched]] = {
        "optimiser.learning_rate": Range(5e-4, 5e-3, log=True),
        "dropout": Range(0, 0.7),
        "width": Range(16, 128, log=True, whole=True),
    }

    kind: Literal["gated_pixelcnn"] = "gated_pixelcnn"
    width: int = Field(32, ge=4, le=1024, description="Features of each stack; the gates read twice as many.")
    depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Blocks of each scale and way; null: until the last place hears the first, 15 at most.",
    )
    first_kernel: OddKernel = Field(7, description="Side of the first layer's kernel, odd.")
    kernel: OddKernel = Field(3, description="Side of the kernel of a block, odd.")
    scales: int = Field(
        1, ge=1, le=3, description="Scales, each of half the sides; features go down, up again, and across (++)."
    )
    head: Literal["softmax", "logistics"] = Field(
        "softmax",
        description="What gives levels a probability: a softmax, or a mixture of logistics for whole places (++).",
    )
    components: int | None = Field(
        None, ge=1, le=100, description="Logistics in the mixture of the head 'logistics'; null: 10."
    )
    head_width: int = Field(64, ge=4, le=4096, description="Features of the layer before the last.")
    embedding: Embedding = 32
    dropout: float = Field(
        0.4, ge=0, lt=1, allow_inf_nan=False, description="Share of the features behind each gate left out."
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(learning_rate=2e-3, betas=(0.9, 0.99)), description="The step of the one objective."
    )

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> Self:
        if self.components is not None and self.head != "logistics":
            raise ValueError("components are of a mixture; set head to 'logistics', or leave components out")
        return self

    def level_head(self, grid: GreyGrid) -> LevelHead:
        """How the net's outputs become probabilities of levels."""
        return Softmax(grid) if self.head == "softmax" else LogisticMixture(grid, self.components or COMPONENTS)

    def _kernel_weights(self, grid: GreyGrid) -> int:
        rows, first_rows = self.kernel // 2 + 1, self.first_kernel // 2
        inputs, stack = grid.channels + 3, self.width**2
        first = inputs * self.width * (first_rows * self.first_kernel + first_rows + 1)
        block = stack * (2 * rows * (self.kernel + 1) + 5)
        between = stack * (rows * (self.kernel + 1) + 8)
        blocks = (self.depth or suitable_depth(grid, self)) * (2 * self.scales - 1)
        last = self.head_width * (self.width + len(self.level_head(grid).orders()))
        return first + blocks * block + (self.scales - 1) * between + last

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
        refuse_few_features(self.level_head(grid).groups, self.width, self.head_width)
        refuse_large_net(self._kernel_weights(grid))
        with first_weights(generator):
            net = GatedNet(grid, self, spec.num_classes)
        return RasterModel(spec, net, self.optimiser)
