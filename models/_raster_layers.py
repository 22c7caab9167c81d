"""Masked convolutions that hear the class, and what they cost a place at a time.

A net of them is written once, for whole grids and for one place of one channel after the other (:class:`Whole` and
:class:`Cached`): what is drawn then follows from the same layers as what is learned.

Sampling place by place by whole passes costs a pass for every value. Here a layer keeps the inputs that it will hear
again, those of the rows that its kernel reaches up to, and computes for a place what is new there: all places together
cost about one pass (Fast Generation for Convolutional Autoregressive Models, arXiv:1704.06001).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._masked import MaskedConv2d, raster_mask


def features_of(channel: int, channels: int, features: int) -> slice:
    """The hidden features of the order ``channel``, as :func:`models._masked.spread_orders` shares them out."""
    first, end = (-(-order * features // channels) for order in (channel, channel + 1))
    return slice(first, end)


class RasterConv(nn.Module):
    """A convolution of mask A (``strict``) or B whose outputs are moved by the class.

    ``inputs`` and ``outputs`` are the orders of the features: their channel, or -1 for what says nothing of the row and
    may be heard by all (Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3.4). The class reaches every
    feature, since it is no pixel (Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328, section 2.3).
    """

    def __init__(self, inputs: Tensor, outputs: Tensor, size: int, condition: int, *, strict: bool = False) -> None:
        super().__init__()
        self.conv = MaskedConv2d(raster_mask(inputs, outputs, size, strict=strict))
        self.of_class = nn.Linear(condition, len(outputs), bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)`` and the vectors of the classes ``(B, condition)``."""
        out: Tensor = self.conv(x)
        return out.add_(self.of_class(condition)[:, :, None, None])  # in place: a sum apart costs a tenth of a step


class Applied(Protocol):
    """How the layers of a net are applied: to a whole grid, or at one place of one channel."""

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the layer, which hears the class, makes of features ``x``."""
        ...


class Whole:
    """Layers applied to whole grids of rows whose classes have the vectors ``condition`` ``(B, condition)``."""

    def __init__(self, condition: Tensor) -> None:
        self.condition = condition

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """``(B, outputs, H, W)`` for ``(B, inputs, H, W)``."""
        out: Tensor = layer(x, self.condition)
        return out


class Cached:
    """Layers applied at one place after the other, in raster order, and there to one channel after the other.

    ``at`` says where; what a layer is given and gives is then that channel's share of its features, ``(B, share)``.
    """

    def __init__(self, layers: list[RasterConv], condition: Tensor, channels: int, width: int) -> None:
        self.caches = {id(layer): LayerCache(layer, condition, channels, width) for layer in layers}
        self.column = self.channel = 0

    def begin_row(self) -> None:
        """Go to the next row of the grid."""
        for cache in self.caches.values():
            cache.begin_row()

    def at(self, column: int, channel: int) -> None:
        """Go to a channel of a place of the row."""
        self.column, self.channel = column, channel

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The channel's share of the outputs ``(B, share)``, for its share of the inputs."""
        cache = self.caches[id(layer)]
        if cache.forgets:
            return torch.addmm(cache.base, x, cache.beside)
        cache.put(self.column, cache.inputs[self.channel], x)
        return cache.outputs_at(self.column, self.channel)


class LayerCache:
    """What one layer has heard and will hear again: the rows that its kernel reaches up to, in a ring, and this one.

    What comes from the rows above is computed for a whole row at once, when it begins. ``inputs`` and ``outputs`` are
    the shares of each channel; ``forgets`` says that nothing of the inputs is heard again.
    """

    def __init__(self, layer: RasterConv, condition: Tensor, channels: int, width: int) -> None:
        weight = (layer.conv.weight * layer.conv.mask).detach()
        outputs, inputs, size, _ = weight.shape
        self.outputs = [features_of(channel, channels, outputs) for channel in range(channels)]
        self.inputs = [features_of(channel, channels, inputs) for channel in range(channels)]
        self.width, self.reach = width, size // 2
        self.forgets = self.reach == 0 and channels == 1
        self.above = weight[:, :, : self.reach].contiguous()
        # of this row the places to the left and the place itself, one after the other, all inputs of each
        beside = weight[:, :, self.reach, : self.reach + 1].permute(2, 1, 0)
        self.beside = beside.reshape((self.reach + 1) * inputs, outputs).contiguous()
        assert layer.conv.bias is not None
        self.base = (layer.of_class(condition) + layer.conv.bias).detach()
        # both are empty at first, as what lies above the image is
        self.ring = weight.new_zeros(self.reach, len(condition), width + 2 * self.reach, inputs)
        self.row = weight.new_zeros(len(condition), width + self.reach, inputs)
        self.from_above = self.base.expand(width, *self.base.shape)

    def begin_row(self) -> None:
        """Put the row that is done into the ring after the others, and hear those above the next."""
        if not self.reach:
            return
        self.ring[:-1] = self.ring[1:].clone()
        self.ring[-1, :, : self.width + self.reach] = self.row
        rows_above = self.ring.permute(1, 3, 0, 2)  # (B, inputs, reach, width + 2 reach)
        heard = functional.conv2d(rows_above, self.above)[:, :, 0]
        self.from_above = (heard.permute(2, 0, 1) + self.base).contiguous()  # (width, B, outputs)

    def put(self, column: int, features: slice, x: Tensor) -> None:
        """Keep inputs ``(B, features)`` of a place."""
        self.row[:, self.reach + column, features] = x

    def outputs_at(self, column: int, channel: int) -> Tensor:
        """A channel's share of the outputs at a place, ``(B, share)``, of the inputs that were put."""
        share = self.outputs[channel]
        heard = self.row[:, column : column + self.reach + 1].flatten(1)
        return torch.addmm(self.from_above[column][:, share], heard, self.beside[:, share])
