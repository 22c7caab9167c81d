"""Linear maps and convolutions whose outputs hear only what comes before them in an order.

Every feature has an order, a whole number. The first layer is strict: an output hears the inputs of lower orders. The
later layers are not: an output hears those of its own order too. The whole net is then strictly triangular (MADE,
arXiv:1502.03509). On a grid the place in raster order counts first and the order of the channel second (Pixel
Recurrent Neural Networks, arXiv:1601.06759, masks A and B).

Weights are masked in the forward pass and never in place, so that a mask holds whatever an optimiser or an average of
weights does to them. Masks follow from the settings, so they are not saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedLinear(nn.Linear):
    """A linear map without the weights that ``mask`` ``(outputs, inputs)`` leaves out."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., outputs)`` for ``(..., inputs)``."""
        return functional.linear(x, self.weight * self.mask, self.bias)


class MaskedConv2d(nn.Conv2d):
    """A convolution without the weights that ``mask`` ``(outputs, inputs, height, width)`` leaves out.

    It keeps the sides, unless ``padding`` or ``stride`` is given.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, *, stride: int = 1, padding: int | None = None) -> None:
        outputs, inputs, *sides = mask.shape
        around = [side // 2 for side in sides] if padding is None else [padding, padding]
        super().__init__(inputs, outputs, (sides[0], sides[1]), stride, (around[0], around[1]))
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, outputs, height, width)`` for ``(B, inputs, height, width)``, both sides as the padding has them."""
        return functional.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding)


def spread_orders(features: int, orders: int) -> Tensor:
    """The orders of so many hidden features, ``(features,)``: 0 to ``orders - 1``, spread evenly and rising.

    After a strict layer features of order 0 hear nothing but a context, and the first output hears no others.
    """
    return torch.arange(features) * orders // features


def order_mask(inputs: Tensor, outputs: Tensor, *, strict: bool) -> Tensor:
    """Which input each output hears, bool ``(outputs, inputs)``, for the orders of both."""
    return outputs[:, None] > inputs if strict else outputs[:, None] >= inputs


def raster_mask(inputs: Tensor, outputs: Tensor, size: int, *, strict: bool, reverse: bool = False) -> Tensor:
    """Which input each output hears around its place, bool ``(outputs, inputs, size, size)``.

    All channels of the rows above and of the places to the left are heard, and at the place itself those that
    :func:`order_mask` allows. ``reverse`` reverses the raster, from the last place to the first; the orders of the
    channels are as given.

    Raises:
        ValueError: the size of the kernel is even, so that it has no centre.
    """
    if size % 2 == 0:
        raise ValueError(f"a masked kernel has a centre, so its size is odd, not {size}")
    centre = size // 2
    place = torch.arange(size * size).reshape(size, size)
    before = place < place[centre, centre]
    mask = (before.flip(0, 1) if reverse else before).repeat(len(outputs), len(inputs), 1, 1)
    mask[:, :, centre, centre] = order_mask(inputs, outputs, strict=strict)
    return mask
