"""The model of every net that gives each value of a grid a probability, given all that come before it in raster order.

ln p(x|y) is the sum over values of the logarithm of a probability, exact and with no bound; a row is drawn value by
value, by what the net has kept of those before. What differs between families is the net.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from models._bayes import SeenClasses, class_log_joint, refuse_other_rows
from models._contract import Batch, GenerativeModel, Objective, OptimiserConfig, TensorSpec
from models._grey_levels import GreyGrid, uniform_noise
from models._levels import refuse_other_temperatures
from models._raster import Places, draw_in_raster_order, places_known

VALUES_AT_ONCE = 2**25  # logits, or features of a layer, that are in memory at a time when a likelihood is computed
MOST_WEIGHTS = 200_000_000  # of all kernels, each of which has a mask beside it: 1.6 GB
NO_TABLES = "the values of a table's row have no places in a raster, and no grey levels"
ORDER = "row by row from the top, within a row from left to right, within a place channel by channel"


class RasterNet(nn.Module, ABC):
    """A net that hears of a grid's values only those before the one that it speaks of.

    It must not normalise over a grid or a batch: a place would then hear later ones. ``where`` are planes that say
    nothing of the row, and may be heard by all.
    """

    where: Tensor

    def __init__(self, grid: GreyGrid) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("where", where_in(grid), persistent=False)

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)`` in [-1, 1] and labels ``(B,)``."""

    def inputs(self, x: Tensor) -> Tensor:
        """Rows ``(B, C, H, W)`` with the planes beside them, ``(B, C + 3, H, W)``."""
        inputs = torch.cat([x, self.where.to(x.dtype).expand(len(x), -1, -1, -1)], dim=1)
        # features of a place side by side: stacks of convolutions then take four fifths of the time on a CPU
        return inputs.contiguous(memory_format=torch.channels_last)

    def where_in_row(self, row: Tensor) -> Tensor:
        """The planes in the row of the grid whose number is the integer ``row`` ``()``, ``(W, 3)``."""
        return self.where.index_select(1, row.reshape(1))[:, 0].T

    @abstractmethod
    def places(self, y: Tensor) -> Places:
        """The same logits, one value after the other, for rows of the classes ``y`` ``(B,)``."""

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """ln p(x|y) in nats ``(B,)``.

        Raises:
            ValueError: a value lies between two levels.
        """
        return self.grid.log_likelihood(self(x, y), self.grid.index(x))


class RasterModel(GenerativeModel):
    """p(x|y) as a product over values, each given all that come before it in raster order.

    A row is drawn value by value, by caches of what the layers have heard; the temperature divides the logits. What
    class a row is of follows by Bayes' rule from p(x|y) and how often each class was in the batches.
    """

    def __init__(self, spec: TensorSpec, net: RasterNet, optimiser: OptimiserConfig) -> None:
        super().__init__()
        self.spec = spec
        self.net = net
        self.classes = SeenClasses(spec.num_classes)
        self.grid = net.grid
        self.optimiser = optimiser

    def objectives(self) -> Sequence[Objective]:
        """One: -ln p(x|y) in nats."""
        return [Objective("likelihood", tuple(self.parameters()), self._loss, self.optimiser)]

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        self.classes.count(batch.y)
        nats = -self.net.log_likelihood(batch.x, batch.y).mean()
        return {"loss": nats, "bits_per_dim": nats.detach() / (self.spec.size * math.log(2))}

    @torch.no_grad()
    def log_likelihood(self, batch: Batch) -> Tensor:
        """ln p(x|y) in nats, shape ``(B,)``.

        Raises:
            ValueError: a value lies between two levels; rows have another shape, or not a label of the classes each.
        """
        refuse_other_rows(self.spec, batch.y, batch.x)
        widest = max(max(weights.shape[:2]) for weights in self.net.parameters() if weights.dim() > 1)
        of_a_place = max(self.grid.channels * self.grid.levels, widest)
        at_once = max(1, VALUES_AT_ONCE // (self.grid.height * self.grid.width * of_a_place))
        parts = zip(torch.split(batch.x, at_once), torch.split(batch.y, at_once), strict=True)
        return torch.cat([self.net.log_likelihood(x, y) for x, y in parts])

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Rows ``(B, *shape)``, drawn value by value.

        Raises:
            ValueError: a label is none of the classes; the temperature is negative, infinite, or not a number.
        """
        refuse_other_rows(self.spec, labels)
        refuse_other_temperatures(temperature)
        noise = uniform_noise(self.grid, len(labels), generator, self.net.where)
        levels = draw_in_raster_order(self.net.places(labels), self.grid, noise, temperature)
        return self._values(levels)

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Rows ``(B, C, H, W)`` with the values of ``x`` where ``known`` ``(H, W)`` is true, the others drawn.

        Raises:
            ValueError: an unknown place comes before a known one in raster order; a known value lies between levels;
                rows have another shape, or not a label of the classes each; the temperature is negative, infinite, or
                not a number.
        """
        refuse_other_rows(self.spec, labels, x)
        refuse_other_temperatures(temperature)
        count = places_known(known, self.grid)
        given = self.grid.index(torch.where(known, x, -1.0))
        noise = uniform_noise(self.grid, len(labels), generator, self.net.where)
        levels = draw_in_raster_order(self.net.places(labels), self.grid, noise, temperature, given, count)
        return torch.where(known, x, self._values(levels).to(x.dtype))

    def _values(self, levels: Tensor) -> Tensor:
        """In 32 bits at least: 16 do not tell 256 levels apart."""
        return self.grid.values(levels, torch.promote_types(self.net.where.dtype, torch.float32))

    @torch.no_grad()
    def class_logits(self, x: Tensor) -> Tensor:
        """ln p(x, y) in nats of rows ``(B, *shape)`` and every class, ``(B, num_classes)``; its softmax is p(y|x)."""
        return class_log_joint(self, x, self.classes.log_prior())


def where_in(grid: GreyGrid) -> Tensor:
    """One in every place, its row, and its column, both in [-1, 1]: ``(3, H, W)``.

    The one tells a place from the zeros around the image, since zero is a grey level too. None says anything of the
    row, so they may be heard by all.
    """
    down, across = (torch.linspace(-1, 1, side) for side in (grid.height, grid.width))
    shape = (grid.height, grid.width)
    return torch.stack([torch.ones(shape), down[:, None].expand(shape), across.expand(shape)])


def refuse_few_features(channels: int, *features: int) -> None:
    """Nothing, if layers of so many features each have one for every channel.

    Raises:
        ValueError: one has not.
    """
    if min(features) < channels:
        raise ValueError(f"each of {channels} channels needs a feature; raise width and head_width")


def refuse_large_net(weights: int) -> None:
    """Nothing, if so many weights of kernels fit into memory.

    Raises:
        ValueError: they do not.
    """
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"these settings make {weights:,} weights, of {MOST_WEIGHTS:,} at most; lower width, depth or kernel"
        )


def _has_a_centre(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"a masked kernel has a centre, so its side is odd, not {size}")
    return size


OddKernel = Annotated[int, Field(ge=3, le=31), AfterValidator(_has_a_centre)]
