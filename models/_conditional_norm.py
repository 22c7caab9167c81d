"""Batch normalisation whose scale and shift follow from a condition, and residual blocks with it.

Modulating early visual processing by language (arXiv:1707.00683): the scale is 1 + delta, both linear in the condition,
so that features live at the start, when delta is about zero. In training a row is normalised with the statistics of
its batch; afterwards with running means of them, so that it does not depend on its batch mates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._nets import FiLM

MOMENTUM, EPSILON = 0.1, 1e-5

Norm = Callable[[int, int], nn.Module]  # of channels and the length of the condition that it hears


class ConditionalBatchNorm(nn.Module):
    """Features ``(B, channels, ...)`` normalised over the batch, then scaled by 1 + delta and shifted.

    Where gradients are not recorded the running statistics stay: rows that are drawn for somebody else's loss must
    not move them.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.film = FiLM(condition, channels)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape."""
        shape = (1, -1, *[1] * (h.dim() - 2))
        if self.training:
            places = [0, *range(2, h.dim())]
            mean, variance = h.float().mean(places), h.float().var(places, unbiased=False)
            if torch.is_grad_enabled():
                self.mean.lerp_(mean.detach(), MOMENTUM)
                self.variance.lerp_(variance.detach(), MOMENTUM)
        else:
            mean, variance = self.mean, self.variance
        normal = (h - mean.reshape(shape)) * torch.rsqrt(variance.reshape(shape) + EPSILON)
        out: Tensor = self.film(normal, condition)
        return out


class NormedVectorBlock(nn.Module):
    """A residual block of two linear layers, each after a norm that hears the condition."""

    def __init__(self, width: int, condition: int, dropout: float, norm: Norm = ConditionalBatchNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(width, condition) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Hidden units ``(B, width)``."""
        return h + _through(self, h, condition)


class NormedGridBlock(nn.Module):
    """A residual block of two 3x3 convolutions, each after a norm that hears the condition."""

    def __init__(self, channels: int, condition: int, dropout: float, norm: Norm = ConditionalBatchNorm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(channels, condition) for _ in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Feature maps ``(B, channels, height, width)``."""
        return h + _through(self, h, condition)


def _through(block: NormedVectorBlock | NormedGridBlock, h: Tensor, condition: Tensor) -> Tensor:
    inner = block.layers[0](functional.relu(block.norms[0](h, condition)))
    inner = functional.relu(block.norms[1](inner, condition))
    out: Tensor = block.layers[1](block.dropout(inner))
    return out
