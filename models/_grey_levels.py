"""Grids of grey levels as an autoregressive model reads them: which level each value is, and levels drawn by logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models._contract import TensorSpec
from models._levels import COLDEST, at_quantile, exact_level_index, level_value, tempered_shares

LARGEST_ROW = 64 * 64 * 3  # values, each of which waits for the one before it; a batch of so many takes minutes
LARGEST_PALETTE = 256  # levels, each of which is an output for every value


@dataclass(frozen=True)
class GreyGrid:
    """Grids ``(channels, height, width)`` whose values are one of so many levels, evenly spaced in [-1, 1].

    The order is the raster's, and within a place that of the channels (R, G, B).
    """

    channels: int
    height: int
    width: int
    levels: int

    @property
    def size(self) -> int:
        """Values in one row."""
        return self.channels * self.height * self.width

    def index(self, x: Tensor) -> Tensor:
        """The level of each value of rows ``(B, C, H, W)``, int64.

        Raises:
            ValueError: a value lies between two levels, or beyond the outermost.
        """
        return exact_level_index(x, self.levels, "grey levels")

    def values(self, index: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The values in [-1, 1] of levels, of the same shape; NaN for those that :meth:`draw` could not draw."""
        values = level_value(index, self.levels, dtype or torch.get_default_dtype())
        return torch.where(index < 0, torch.nan, values)

    def log_likelihood(self, logits: Tensor, index: Tensor) -> Tensor:
        """The sum of the logarithms of the probabilities of the levels ``(B, C, H, W)``, in nats ``(B,)``.

        ``logits`` are ``(B, C, levels, H, W)``.
        """
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        beside = exact.movedim((1, 2), (3, 4))
        if beside.is_contiguous():  # levels side by side: then a softmax of many takes half the time
            return beside.log_softmax(4).gather(4, index.movedim(1, 3)[..., None]).sum((1, 2, 3, 4))
        return exact.log_softmax(2).gather(2, index[:, :, None]).sum((1, 2, 3, 4))

    def draw(self, logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """The levels ``(B,)`` at the quantiles ``uniform`` of softmax(logits / temperature); at 0 the likeliest.

        ``logits`` are ``(B, levels)``; a row of them that is not finite has the level -1.
        """
        if temperature < COLDEST:
            index = logits.argmax(1)
        else:
            index = at_quantile(tempered_shares(logits, temperature).cumsum(1), uniform)
        return torch.where(logits.isfinite().all(1), index, -1)


def grey_grid(spec: TensorSpec, kind: str) -> GreyGrid:
    """The grids of ``spec``, for the model called ``kind``.

    Raises:
        ValueError: rows are no grids of one span of levels, or too large to be drawn value by value.
    """
    if spec.form != "grid":
        raise ValueError(f"a {kind} needs rows that are grids, and these have the shape {spec.shape}")
    if len(spec.spans) != 1:
        raise ValueError(f"a grid is read as one span, this one has {len(spec.spans)}")
    levels = spec.spans[0].levels
    if levels is None or spec.spans[0].kind != "continuous":
        raise ValueError(f"a {kind} gives a probability to each grey level, and these values have none")
    if levels < 2:
        raise ValueError(f"a {kind} tells grey levels apart, and these values have {levels}")
    if levels > LARGEST_PALETTE:
        raise ValueError(f"a {kind} has an output for each of {LARGEST_PALETTE} levels at most, these have {levels}")
    channels, height, width = spec.shape
    if spec.size > LARGEST_ROW:
        raise ValueError(
            f"a {kind} draws the {spec.size:,} values of such a row one after the other; scale the images down until "
            f"there are {LARGEST_ROW:,} at most, or take a model that draws a row at once"
        )
    return GreyGrid(channels, height, width, levels)


def uniform_noise(grid: GreyGrid, rows: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform noise for every value, ``(rows, C, H, W)``, of the type and on the device of ``like``."""
    shape = (rows, grid.channels, grid.height, grid.width)
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
