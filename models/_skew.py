"""The cells of a grid diagonal by diagonal, as columns of a skewed map hold them.

Pixel Recurrent Neural Networks (arXiv:1601.06759, section 3.2) shifts each row of a map one place further to the right
than the one above it, so that a cell's left and upper neighbours both lie in the column before its own. Here the same
columns are kept without the places beside the map that shifting leaves empty, nearly half of all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Skew(nn.Module):
    """The order of diagonals for a pass from the left and for one from the right, which reads each row mirrored.

    Diagonal ``s`` holds the cells ``(row, column)`` of ``row + column = s``, ``lengths[s]`` in all, from the row
    ``tops[s]`` down.
    """

    orders: Tensor
    places: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        row, column = torch.arange(height)[:, None], torch.arange(width)
        diagonal = (row + column).flatten()
        order = torch.argsort(diagonal * height + row.expand(height, width).flatten())
        mirrored = order + width - 1 - 2 * (order % width)
        orders = torch.stack([order, mirrored])
        self.register_buffer("orders", orders, persistent=False)  # (2, H W): which cell comes when
        self.register_buffer("places", orders.argsort(1), persistent=False)  # (2, H W): when each cell comes
        self.tops = [max(0, s - width + 1) for s in range(height + width - 1)]
        self.lengths = [min(s, height - 1) - top + 1 for s, top in enumerate(self.tops)]

    def forward(self, x: Tensor) -> Tensor:
        """Cells ``(H W, ...)`` in raster order as ``(2, H W, ...)``: diagonal by diagonal, from the left and right."""
        pairs = zip(self.orders, self.places, strict=True)
        return torch.stack([Rearranged.apply(x, order, places) for order, places in pairs])

    def undone(self, x: Tensor) -> Tensor:
        """Cells ``(2, H W, ...)`` of both orders, each back in raster order."""
        parts = zip(x, self.orders, self.places, strict=True)
        return torch.stack([Rearranged.apply(cells, places, order) for cells, order, places in parts])


class Rearranged(torch.autograd.Function):
    """Entries along the first dimension in another order.

    Its gradient is a rearrangement too; torch would add entry by entry, several times slower, since an index might
    name one twice.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        """``x[order]``, where ``inverse`` undoes the order."""
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient, put back."""
        (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0].index_select(0, inverse), None, None
