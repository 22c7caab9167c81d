"""Layers whose largest singular value is held at one (Spectral Normalization for GANs, arXiv:1802.05957).

The singular vectors are moved by :func:`iterate` alone, never by a forward pass: who may change a critic is decided
by the objective that calls it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

FIRST_ITERATIONS = 10
SMALLEST = 1e-12


class Spectral(nn.Module):
    """A weight divided by the size of its largest singular value, read as a matrix of one row an output."""

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("left", normalize(torch.randn(matrix.shape[0]), dim=0, eps=SMALLEST))
        self.register_buffer("right", normalize(torch.randn(matrix.shape[1]), dim=0, eps=SMALLEST))
        self.iterate(weight, FIRST_ITERATIONS)

    @torch.no_grad()
    def iterate(self, weight: Tensor, times: int) -> None:
        """Move the singular vectors by so many steps of the power method."""
        matrix = weight.flatten(1).float()
        for _ in range(times):
            self.left.copy_(normalize(matrix @ self.right, dim=0, eps=SMALLEST))
            self.right.copy_(normalize(matrix.T @ self.left, dim=0, eps=SMALLEST))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over u' W v; u and v take no gradient, and have length 1 as averages over steps too."""
        left, right = (normalize(vector.clone(), dim=0, eps=SMALLEST) for vector in (self.left, self.right))
        sigma = torch.dot(left, torch.mv(weight.flatten(1), right))
        return weight / sigma.clamp(min=SMALLEST)


def normalised(layer: nn.Module) -> nn.Module:
    """The same layer with its weight normalised from now on."""
    assert isinstance(layer.weight, Tensor)
    return parametrize.register_parametrization(layer, "weight", Spectral(layer.weight))


def iterate(net: nn.Module, times: int = 1) -> None:
    """Move the singular vectors of every normalised layer in ``net``."""
    for module in net.modules():
        if isinstance(module, parametrize.ParametrizationList):
            for part in module:
                if isinstance(part, Spectral):
                    part.iterate(module.original, times)
