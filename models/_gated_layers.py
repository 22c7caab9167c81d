"""The layers of two stacks, one of all rows above a place and one of the places to its left, whole and by caches.

The vertical stack hears only rows above, all of them and all their channels, so that a whole row of it is computed when
the row begins. The horizontal stack hears what is to the left in the row, channel by channel, and is told what the
vertical one found. Together they have no blind spot (Conditional Image Generation with PixelCNN Decoders,
arXiv:1606.05328, section 2.2).

A layer lives on a scale: with the ``period`` p it has features for every p-th place of every p-th row. ``reads`` is the
period of its inputs and ``writes`` that of its outputs: twice as large where it halves the sides, half where it gives
the features of the four places that a coarse one stands for.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._masked import MaskedConv2d, order_mask


class Above(nn.Module):
    """A convolution over the rows above a place, to both sides of it, and unless ``strict`` over its own row too.

    Only the first layer reads the image and is strict. The later ones read features that have heard rows above alone,
    so that their own row is nothing new: the shift down is made once.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        condition: int,
        *,
        reads: int = 1,
        writes: int = 1,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.reads, self.writes, self.strict = reads, writes, strict
        self.reach = size // 2
        rows = self.reach if strict else self.reach + 1
        self.conv = nn.Conv2d(inputs, outputs, (rows, size), stride=max(1, writes // reads))
        self.of_class = nn.Linear(condition, outputs, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)``; half the sides, rounded up, where it halves them."""
        below = -1 if self.strict else 0  # the last row is above none
        padded = functional.pad(x, (self.reach, self.reach, self.reach, below))
        out: Tensor = self.conv(padded).add_(self.of_class(condition)[:, :, None, None])
        return out


class Beside(nn.Module):
    """A convolution over a place and those to its left, whose outputs hear earlier channels of the place.

    ``inputs`` and ``outputs`` are the orders of the features: their channel, or -1 for what may be heard by all;
    ``strict`` as in :mod:`models._masked`. With ``told`` it is told so many vertical features of each place, and every
    output hears them all.
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        reach: int,
        condition: int,
        *,
        reads: int = 1,
        writes: int = 1,
        strict: bool = False,
        told: int = 0,
    ) -> None:
        super().__init__()
        self.reads, self.writes = reads, writes
        self.reach = reach
        self.inputs, self.outputs = inputs, outputs
        mask = torch.ones(len(outputs), len(inputs), 1, reach + 1)
        mask[:, :, 0, -1] = order_mask(inputs, outputs, strict=strict)
        self.conv = MaskedConv2d(mask, stride=max(1, writes // reads), padding=0)
        self.of_class = nn.Linear(condition, len(outputs), bias=False)
        self.of_above = nn.Conv2d(told, len(outputs), 1, bias=False) if told else None

    def forward(self, x: Tensor, condition: Tensor, v: Tensor | None = None) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)``; half the sides, rounded up, where it halves them.

        ``v`` is what it is told, ``(B, told, H, W)``.
        """
        out: Tensor = self.conv(functional.pad(x, (self.reach, 0))).add_(self.of_class(condition)[:, :, None, None])
        return out if v is None or self.of_above is None else out + self.of_above(v)


def gated(x: Tensor) -> Tensor:
    """tanh of the first half of the features times the logistic function of the second, at whatever places."""
    f, g = x.chunk(2, 1)
    return f.tanh() * g.sigmoid()


class Applied(Protocol):
    """How layers are applied: to whole grids, or to a row above and then place by place.

    ``v`` and ``h`` hold the features that the steps of a net came to, vertical and horizontal.
    """

    v: dict[int, Tensor]
    h: dict[int, Tensor]

    def row_due(self, period: int) -> bool:
        """Whether a scale has features for this row."""
        ...

    def place_due(self, period: int) -> bool:
        """Whether a scale has features for this place."""
        ...

    def above(self, layer: Above, x: Tensor) -> Tensor:
        """What a layer makes of vertical features of the row, or of the last row of the image that is done."""
        ...

    def tell(self, layer: Beside, v: Tensor) -> None:
        """Let the layer hear vertical features of the row when it comes to its places."""
        ...

    def beside(self, layer: Beside, x: Tensor) -> Tensor:
        """What a layer makes of horizontal features, and of what it was told."""
        ...

    def spread_above(self, layer: Above, x: Tensor) -> Tensor:
        """The vertical features of the finer row, of four for each coarse place."""
        ...

    def spread_beside(self, layer: Beside, x: Tensor) -> Tensor:
        """The horizontal features of the finer place, of four for each coarse one."""
        ...


class Whole:
    """Layers applied to whole grids of rows whose classes have the vectors ``condition`` ``(B, condition)``."""

    def __init__(self, condition: Tensor, height: int, width: int) -> None:
        self.condition = condition
        self.height, self.width = height, width
        self.v: dict[int, Tensor] = {}
        self.h: dict[int, Tensor] = {}
        self.told: dict[int, Tensor] = {}

    def row_due(self, period: int) -> bool:
        """Always: the scale's rows are computed together."""
        return True

    def place_due(self, period: int) -> bool:
        """Always."""
        return True

    def above(self, layer: Above, x: Tensor) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)``."""
        out: Tensor = layer(x, self.condition)
        return out

    def tell(self, layer: Beside, v: Tensor) -> None:
        """Keep ``(B, told, H, W)`` for the layer."""
        self.told[id(layer)] = v

    def beside(self, layer: Beside, x: Tensor) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)``."""
        out: Tensor = layer(x, self.condition, self.told.get(id(layer)))
        return out

    def spread_above(self, layer: Above, x: Tensor) -> Tensor:
        """``(B, outputs / 4, H, W)`` for the coarse ``(B, inputs, H / 2, W / 2)``, these rounded up."""
        return self._spread(layer(x, self.condition), layer.writes)

    def spread_beside(self, layer: Beside, x: Tensor) -> Tensor:
        """``(B, outputs / 4, H, W)`` for the coarse ``(B, inputs, H / 2, W / 2)``, these rounded up."""
        return self._spread(layer(x, self.condition), layer.writes)

    def _spread(self, fours: Tensor, period: int) -> Tensor:
        height, width = -(-self.height // period), -(-self.width // period)
        return functional.pixel_shuffle(fours, 2)[:, :, :height, :width]
