"""Rows drawn value by value in raster order, and rows of which the first values are given.

What computes the logits of the next value is given as :class:`Places`; the loop is the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from models._grey_levels import GreyGrid


class Places(Protocol):
    """What is known of rows whose values become known one after the other."""

    def begin_row(self, row: int) -> None:
        """Go to the first place of a row of the grid."""
        ...

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        ...

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        ...


def draw_in_raster_order(
    places: Places,
    grid: GreyGrid,
    noise: Tensor,
    temperature: float = 1.0,
    given: Tensor | None = None,
    places_given: int = 0,
) -> Tensor:
    """Levels ``(B, C, H, W)``, int64, that uniform ``noise`` of that shape names.

    Those of the first ``places_given`` places are taken from ``given``, levels of the same shape.
    """
    drawn = torch.zeros(noise.shape, dtype=torch.int64, device=noise.device)
    for row in range(grid.height):
        places.begin_row(row)
        for column in range(grid.width):
            for channel in range(grid.channels):
                logits = places.logits(row, column, channel)
                if given is not None and row * grid.width + column < places_given:
                    levels = given[:, channel, row, column]
                else:
                    levels = grid.draw(logits, noise[:, channel, row, column], temperature)
                drawn[:, channel, row, column] = levels
                places.put(row, column, channel, grid.values(levels).to(noise.dtype))
    return drawn


class WholePasses:
    """The plain way: for every value a pass over the whole grid, as far as it is known. Nobody should draw like this.

    It is what faster ways are held against. ``logits_of`` gives ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)``.
    """

    def __init__(self, logits_of: Callable[[Tensor], Tensor], rows: Tensor) -> None:
        self.logits_of = logits_of
        self.rows = rows

    def begin_row(self, row: int) -> None:
        """Nothing is kept of earlier rows."""

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value, out of those of all values."""
        return self.logits_of(self.rows)[:, channel, :, row, column]

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        self.rows[:, channel, row, column] = values


def places_known(known: Tensor, grid: GreyGrid) -> int:
    """How many places are known, of a mask ``(H, W)`` of booleans that is true for the first of them in raster order.

    Raises:
        ValueError: the mask has another shape, or an unknown place comes before a known one.
    """
    if known.shape != (grid.height, grid.width) or known.dtype != torch.bool:
        raise ValueError(
            f"the mask of known places has a boolean for each of {grid.height} x {grid.width} places, not "
            f"{tuple(known.shape)} of {known.dtype}"
        )
    flat = known.flatten()
    count = int(flat.sum())
    if not bool(flat[:count].all()):
        first = int((~flat).nonzero()[0])
        raise ValueError(
            f"what is known comes before what is drawn, row by row and from left to right, and place "
            f"({first // grid.width}, {first % grid.width}) is unknown but comes before a known one; cut the mask there"
        )
    return count
