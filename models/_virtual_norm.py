"""Virtual batch normalisation: a row is normalised with a fixed reference batch, never with its batch mates.

Improved Techniques for Training GANs, arXiv:1606.03498, section 3.5. The statistics of a row are those of the reference
batch and the row together, each of the B + 1 with the same weight; reference rows have those of the reference alone. A
layer gets both in one batch, the reference first. Scale and shift follow from the condition, as in
:mod:`models._conditional_norm`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._nets import FiLM

EPSILON = 1e-5


class VirtualBatchNorm(nn.Module):
    """Features ``(reference + B, channels, ...)`` normalised with the first ``reference`` of them."""

    def __init__(self, channels: int, condition: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.film = FiLM(condition, channels)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape."""
        places = [*range(2, h.dim())]
        means, squares = (part.mean(places) if places else part for part in (h.float(), h.float().square()))
        mean, second = self._with_reference(means), self._with_reference(squares)
        scale = torch.rsqrt((second - mean.square()).clamp(min=0) + EPSILON)
        shape = (*mean.shape, *[1] * len(places))
        out: Tensor = self.film((h - mean.reshape(shape)) * scale.reshape(shape), condition)
        return out

    def _with_reference(self, own: Tensor) -> Tensor:
        """Statistics of each row ``(reference + B, channels)`` from the rows' own."""
        common = own[: self.reference].mean(0, keepdim=True)
        together = torch.lerp(common, own[self.reference :], 1 / (self.reference + 1))
        return torch.cat([common.expand(self.reference, -1), together])


class VirtualVectorBlock(nn.Module):
    """A residual block of two linear layers, each after virtual batch normalisation."""

    def __init__(self, width: int, condition: int, dropout: float, reference: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(VirtualBatchNorm(width, condition, reference) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Hidden units ``(reference + B, width)``."""
        return h + _through(self, h, condition)


class VirtualGridBlock(nn.Module):
    """A residual block of two 3x3 convolutions, each after virtual batch normalisation."""

    def __init__(self, channels: int, condition: int, dropout: float, reference: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(VirtualBatchNorm(channels, condition, reference) for _ in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Feature maps ``(reference + B, channels, height, width)``."""
        return h + _through(self, h, condition)


def _through(block: VirtualVectorBlock | VirtualGridBlock, h: Tensor, condition: Tensor) -> Tensor:
    inner = block.layers[0](functional.relu(block.norms[0](h, condition)))
    inner = functional.relu(block.norms[1](inner, condition))
    out: Tensor = block.layers[1](block.dropout(inner))
    return out
