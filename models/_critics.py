"""Critics: nets that score how real a row of a class looks. They never mix the rows of a batch.

The score is b + <w, f(x)> + <v_y, f(x)> with features f that know no label (cGANs with Projection Discriminator,
arXiv:1802.05637). Without normalisation inside, the gradient by the input is what penalties take it for.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._generators import NetName
from models._nets import LabelEmbedding, NetSize, grid_stages
from models._spectral import normalised

SLOPE = 0.2


def activated(h: Tensor) -> Tensor:
    """A leaky rectifier that keeps the size of what passes."""
    return functional.leaky_relu(h, SLOPE) * math.sqrt(2 / (1 + SLOPE**2))


class PlainVectorBlock(nn.Module):
    """A residual block of two linear layers, without normalisation."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Hidden units ``(B, width)``."""
        inner = activated(self.first(activated(h)))
        out: Tensor = h + self.second(self.dropout(inner))
        return out


class PlainGridBlock(nn.Module):
    """A residual block of two 3x3 convolutions, without normalisation."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Feature maps ``(B, channels, height, width)``."""
        inner = activated(self.first(activated(h)))
        out: Tensor = h + self.second(self.dropout(inner))
        return out


class VectorFeatures(nn.Module):
    """Features ``(B, width)`` of a row, read as a vector."""

    def __init__(self, spec: TensorSpec, size: NetSize) -> None:
        super().__init__()
        self.first = nn.Linear(spec.size, size.width)
        self.blocks = nn.Sequential(*(PlainVectorBlock(size.width, size.dropout) for _ in range(size.depth)))
        self.width = size.width

    def forward(self, x: Tensor) -> Tensor:
        """Features for rows ``(B, *shape)``."""
        return activated(self.blocks(self.first(x.flatten(1))))


class GridFeatures(nn.Module):
    """Features ``(B, width)`` of a grid: patches, then stages that halve the side."""

    def __init__(self, spec: TensorSpec, size: NetSize) -> None:
        super().__init__()
        pixels, height, width = spec.shape
        patch, sides, channels = grid_stages(height, width, size.width, size.side)
        self.padding = (0, sides[0][1] * patch - width, 0, sides[0][0] * patch - height)
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.first = nn.Conv2d(pixels * patch**2, channels[0], 3, padding=1)
        layers: list[nn.Module] = [PlainGridBlock(channels[0], size.dropout) for _ in range(size.depth)]
        for before, after in pairwise(channels):
            layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            layers += [PlainGridBlock(after, size.dropout) for _ in range(size.depth)]
        self.blocks = nn.Sequential(*layers)
        self.width = size.embedding
        self.last = nn.Linear(channels[-1] * math.prod(sides[-1]), self.width)

    def forward(self, x: Tensor) -> Tensor:
        """Features for rows ``(B, C, H, W)``."""
        h = self.blocks(self.first(self.unshuffle(functional.pad(x, self.padding))))
        return activated(self.last(activated(h).flatten(1)))


class Scored(NamedTuple):
    """Scores ``(B,)`` and the features ``(B, width)`` that they are made of."""

    score: Tensor
    features: Tensor


class Critic(nn.Module):
    """Scores of rows given their labels: ``net`` gives features, a row of ``net.width`` numbers."""

    def __init__(self, net: VectorFeatures | GridFeatures, num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.last = nn.Linear(net.width, 1)
        self.label = LabelEmbedding(num_classes, net.width)
        nn.init.normal_(self.label.table.weight, std=1 / math.sqrt(net.width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores ``(B,)`` of rows ``(B, *shape)`` of classes ``(B,)``."""
        return self.scored(x, y).score

    def scored(self, x: Tensor, y: Tensor) -> Scored:
        """The scores and their features."""
        features: Tensor = self.net(x)
        return Scored(self.last(features)[:, 0] + (self.label(y) * features).sum(1), features)


def make_critic(spec: TensorSpec, size: NetSize, net: NetName, *, spectral: bool = False) -> Critic:
    """A critic for rows of ``spec``; ``spectral``: every layer of it, labels included, with spectral normalisation.

    A ``resnet`` is of grids alone.
    """
    critic = Critic((GridFeatures if net == "resnet" else VectorFeatures)(spec, size), spec.num_classes)
    if spectral:
        for module in list(critic.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                normalised(module)
    return critic


def paired_scores(critic: nn.Module, real: Tensor, synthetic: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``(B,)`` of real rows and of synthetic ones with the same labels, in one pass."""
    scores = critic(torch.cat([real, synthetic]), torch.cat([y, y])).float()
    return scores[: len(y)], scores[len(y) :]
