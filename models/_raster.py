"""Rows drawn value by value in raster order, and rows of which the first values are given.

What computes the logits of the next value is given as :class:`Places`; the loop is the same for every model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from models._grey_levels import GreyGrid


class Places(Protocol):
    """What is known of rows whose values become known one after the other.

    All that changes is in tensors that are written in place or made anew in every row of the grid, so that what is done
    in a row can be captured once and played again. After ``period`` rows the same operations come again.
    """

    period: int

    def begin_row(self, phase: int, row: Tensor) -> None:
        """Go to the first place of a row of the grid, whose number is the integer ``row`` ``()``, and of the period."""
        ...

    def logits(self, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value."""
        ...

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        ...


class Row:
    """One row of the grid, of all rows of a batch: the noise, what is given, and the levels that come of them."""

    def __init__(self, places: Places, grid: GreyGrid, noise: Tensor, temperature: float) -> None:
        self.places, self.grid, self.temperature = places, grid, temperature
        self.noise = torch.empty_like(noise[:, :, 0])
        self.levels = torch.zeros(self.noise.shape, dtype=torch.int64, device=noise.device)
        self.known = torch.zeros(grid.width, dtype=torch.bool, device=noise.device)
        self.number = torch.zeros((), dtype=torch.int64, device=noise.device)

    def take(self, number: int, noise: Tensor, given: Tensor, known: Tensor) -> None:
        """Uniform noise and levels ``(B, C, W)``, of which those of the places ``known`` ``(W,)`` are kept."""
        self.number.fill_(number)
        self.noise.copy_(noise)
        self.levels.copy_(given)
        self.known.copy_(known)

    def draw(self, phase: int) -> None:
        """Draw the levels of the places that are not known, from left to right."""
        self.places.begin_row(phase, self.number)
        for column in range(self.grid.width):
            for channel in range(self.grid.channels):
                logits = self.places.logits(column, channel)
                drawn = self.grid.draw(logits, self.noise[:, channel, column], self.temperature)
                levels = torch.where(self.known[column], self.levels[:, channel, column], drawn)
                self.levels[:, channel, column] = levels
                self.places.put(column, channel, self.grid.values(levels, self.noise.dtype))


def draw_in_raster_order(
    places: Places,
    grid: GreyGrid,
    noise: Tensor,
    temperature: float = 1.0,
    given: Tensor | None = None,
    places_given: int = 0,
) -> Tensor:
    """Levels ``(B, C, H, W)``, int64, that uniform ``noise`` of that shape names.

    Those of the first ``places_given`` places are taken from ``given``, levels of the same shape. On a GPU the
    operations of a row are captured as CUDA graphs, one for each row of the period, and played for the rows below: they
    are many and small, and giving them out one by one would take longer than computing them.
    """
    levels = torch.zeros(noise.shape, dtype=torch.int64, device=noise.device) if given is None else given.clone()
    known = (torch.arange(grid.height * grid.width, device=noise.device) < places_given).reshape(grid.height, -1)
    row = Row(places, grid, noise, temperature)
    graphs: list[torch.cuda.CUDAGraph] = []
    for number in range(grid.height):
        row.take(number, noise[:, :, number], levels[:, :, number], known[number])
        phase = number % places.period
        if noise.is_cuda and number >= places.period:  # the first rows have made ready what cannot be captured
            if phase == len(graphs):
                graphs.append(captured(row, phase))
            graphs[phase].replay()
        else:
            row.draw(phase)
        levels[:, :, number] = row.levels
    return levels


def captured(row: Row, phase: int) -> torch.cuda.CUDAGraph:
    """What is done in a row of the grid, not yet done."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row.draw(phase)
    return graph


class WholePasses:
    """The plain way: for every value a pass over the whole grid, as far as it is known. Nobody should draw like this.

    It is what faster ways are held against. ``logits_of`` gives ``(B, C, levels, H, W)`` for rows ``(B, C, H, W)``.
    """

    period = sys.maxsize  # a row reads its number, so that no row's operations come again

    def __init__(self, logits_of: Callable[[Tensor], Tensor], rows: Tensor) -> None:
        self.logits_of = logits_of
        self.rows = rows
        self.row = 0

    def begin_row(self, phase: int, row: Tensor) -> None:
        """Go to a row; nothing is kept of earlier ones."""
        self.row = int(row)

    def logits(self, column: int, channel: int) -> Tensor:
        """The logits ``(B, levels)`` of the next value, out of those of all values."""
        return self.logits_of(self.rows)[:, channel, :, self.row, column]

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Take the next value ``(B,)``, in [-1, 1]."""
        self.rows[:, channel, self.row, column] = values


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
