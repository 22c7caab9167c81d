"""Minibatch discrimination: what a critic sees of how alike the rows of a batch are.

Improved Techniques for Training GANs, arXiv:1606.03498, section 3.2. A generator that has collapsed gives rows that
look real one by one and are too near one another: a critic that compares them tells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

AT_ONCE = 2**24  # numbers of the pairwise distances held at a time: their memory grows with the square of the batch


class MinibatchFeatures(nn.Module):
    """Closeness ``(B, kernels)`` of each row's features to those of the other rows of its batch.

    o_b(i) = sum over j != i of exp(-||M_ib - M_jb||_1), with M_i = T f(x_i) read as ``kernels`` rows of ``numbers``.
    A batch must hold rows of one source alone: real and synthetic ones are never compared with each other.
    """

    def __init__(self, width: int, kernels: int, numbers: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.project = nn.Linear(width, kernels * numbers, bias=False)
        nn.init.normal_(self.project.weight, std=1 / math.sqrt(width * numbers))

    def forward(self, features: Tensor) -> Tensor:
        """Closenesses ``(B, kernels)`` for features ``(B, width)``; 0 for a row alone, B - 1 where all are the same."""
        projected = self.project(features).float().unflatten(1, (self.kernels, -1))
        rows = max(1, AT_ONCE // projected.numel())
        # not torch.cdist: penalties on the critic's gradient differentiate this twice
        distances = [(part[:, None] - projected).abs().sum(3) for part in torch.split(projected, rows)]
        return torch.exp(-torch.cat(distances)).sum(1) - 1  # each row's distance to itself is 0
