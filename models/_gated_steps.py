"""What the two stacks of a gated PixelCNN are made of: gated blocks, and the ways to a coarser scale and back.

Each step is written once, for whole grids and for caches (:class:`models._gated_layers.Applied`). ``period`` is the
scale on which it gives features, a way to a coarser scale excepted, which hears every place of its own. ``passed`` says
whose features of the same scale are added to what the step hears.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models._gated_layers import Above, Applied, Beside, gated


class GatedBlock(nn.Module):
    """One gated layer of both stacks, tanh(W_f * x + V_f y) times sigmoid(W_g * x + V_g y), residual in the horizontal.

    The horizontal stack is told the vertical features before their gate, as published. Its features go to the gates in
    an order that keeps each channel's to itself: a half of the features for tanh, a half for the sigmoid.
    """

    def __init__(
        self, orders: Tensor, kernel: int, condition: int, dropout: float, period: int, passed: int | None
    ) -> None:
        super().__init__()
        self.period, self.passed = period, passed
        width, both = len(orders), torch.cat([orders, orders])
        self.down = Above(width, 2 * width, kernel, condition, reads=period, writes=period)
        self.right = Beside(orders, both, kernel // 2, condition, reads=period, writes=period, told=2 * width)
        self.out = Beside(orders, orders, 0, condition, reads=period, writes=period)
        self.dropout = nn.Dropout(dropout)

    def above(self, v: Tensor, applied: Applied) -> Tensor:
        """Vertical features of the same shape."""
        found = applied.above(self.down, v)
        applied.tell(self.right, found)
        out: Tensor = self.dropout(gated(found))
        return out

    def beside(self, h: Tensor, applied: Applied) -> Tensor:
        """Horizontal features of the same shape."""
        return h + applied.beside(self.out, self.dropout(gated(applied.beside(self.right, h))))


class Shrink(nn.Module):
    """Features of every other place of every other row, from those of the places before them (arXiv:1701.05517).

    A coarse place has heard what comes before the first of the four places that it stands for, so that it may be heard
    by all four.
    """

    passed = None

    def __init__(self, orders: Tensor, kernel: int, condition: int, period: int) -> None:
        super().__init__()
        self.period = period
        width, coarse = len(orders), 2 * period
        self.down = Above(width, width, kernel, condition, reads=period, writes=coarse)
        self.right = Beside(orders, orders, kernel // 2, condition, reads=period, writes=coarse)

    def above(self, v: Tensor, applied: Applied) -> Tensor:
        """Vertical features of half the sides, rounded up."""
        return applied.above(self.down, v)

    def beside(self, h: Tensor, applied: Applied) -> Tensor:
        """Horizontal features of half the sides, rounded up."""
        return applied.beside(self.right, h)


class Grow(nn.Module):
    """Features of the four places that each coarse place stands for (arXiv:1701.05517), on the scale ``period``."""

    passed = None

    def __init__(self, orders: Tensor, condition: int, period: int) -> None:
        super().__init__()
        self.period = period
        width, coarse = len(orders), 2 * period
        self.down = Above(width, 4 * width, 1, condition, reads=coarse, writes=period)
        self.right = Beside(orders, orders.repeat_interleave(4), 0, condition, reads=coarse, writes=period)

    def above(self, v: Tensor, applied: Applied) -> Tensor:
        """Vertical features of twice the sides, or one less where these are odd."""
        return applied.spread_above(self.down, v)

    def beside(self, h: Tensor, applied: Applied) -> Tensor:
        """Horizontal features of twice the sides, or one less where these are odd."""
        return applied.spread_beside(self.right, h)


Step = GatedBlock | Shrink | Grow


def make_steps(orders: Tensor, kernel: int, condition: int, dropout: float, depth: int, scales: int) -> list[Step]:
    """Down to the coarsest scale and up again, with ``depth`` blocks on each scale and way.

    A block on the way up hears too what the block of its scale on the way down gave, the last of them first. The
    features that a step gives have the number of the step plus one, those of the first layer zero.
    """
    steps: list[Step] = []
    given: list[list[int]] = []
    for scale in range(scales):
        period = 2**scale
        if scale:
            steps.append(Shrink(orders, kernel, condition, period // 2))
        steps += [GatedBlock(orders, kernel, condition, dropout, period, None) for _ in range(depth)]
        given.append(list(range(len(steps) - depth + 1, len(steps) + 1)))
    for scale in reversed(range(scales - 1)):
        steps.append(Grow(orders, condition, 2**scale))
        steps += [GatedBlock(orders, kernel, condition, dropout, 2**scale, passed) for passed in reversed(given[scale])]
    return steps
