"""Critics: nets that score how real a row of a class looks. They never mix the rows of a batch.

The score is b + <w, f(x)> + <v_y, f(x)> with features f that know no label (cGANs with Projection Discriminator,
arXiv:1802.05637). Without normalisation inside, the gradient by the input is what penalties take it for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._generators import NetName
from models._minibatch import MinibatchFeatures
from models._nets import LabelEmbedding, NetSize, grid_stages
from models._penalties import squared_gradients
from models._semi_supervised import real_score
from models._spectral import normalised
from models._techniques import Techniques

SLOPE = 0.2
NO_TECHNIQUES = Techniques()


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


class ProjectionHead(nn.Module):
    """Scores of features ``(B, width)`` given labels ``(B,)``: b + <w, f> + <v_y, f>."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(width, 1)
        self.label = LabelEmbedding(num_classes, width)
        nn.init.normal_(self.label.table.weight, std=1 / math.sqrt(width))

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """Scores ``(B,)``."""
        score: Tensor = self.last(features)[:, 0] + (self.label(y) * features).sum(1)
        return score


class ClassHead(nn.Module):
    """Scores of features by the logits of their classes, see :mod:`models._semi_supervised`; no label is read."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """Scores ``(B,)``, whatever the labels are."""
        return real_score(self.logits(features))


class Critic(nn.Module):
    """Scores of rows given their labels: ``net`` gives features, a row of ``net.width`` numbers, ``head`` scores them.

    With ``minibatch`` the head reads beside them how alike the rows of the batch are, in the mean over the others; then
    a batch must hold rows of one source.
    """

    def __init__(
        self,
        net: VectorFeatures | GridFeatures,
        head: Callable[[int, int], ProjectionHead | ClassHead],
        num_classes: int,
        minibatch: MinibatchFeatures | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.minibatch = minibatch
        self.head = head(net.width + (minibatch.kernels if minibatch else 0), num_classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores ``(B,)`` of rows ``(B, *shape)`` of classes ``(B,)``."""
        return self.scored(x, y).score

    def scored(self, x: Tensor, y: Tensor) -> Scored:
        """The scores and their features."""
        features: Tensor = self.net(x)
        return Scored(self.head(self._read(features), y), features)

    def class_logits(self, features: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of features; of a critic with a :class:`ClassHead` alone."""
        assert isinstance(self.head, ClassHead)
        logits: Tensor = self.head.logits(self._read(features))
        return logits

    def _read(self, features: Tensor) -> Tensor:
        if self.minibatch is None:
            return features
        return torch.cat([features, self.minibatch(features) / max(1, len(features) - 1)], dim=1)


def make_critic(
    spec: TensorSpec,
    size: NetSize,
    net: NetName,
    *,
    spectral: bool = False,
    techniques: Techniques = NO_TECHNIQUES,
) -> Critic:
    """A critic for rows of ``spec``; ``spectral``: every layer of it, labels included, with spectral normalisation.

    A ``resnet`` is of grids alone.
    """
    features = (GridFeatures if net == "resnet" else VectorFeatures)(spec, size)
    minibatch = None
    if techniques.minibatch_kernels:
        minibatch = MinibatchFeatures(features.width, techniques.minibatch_kernels, techniques.minibatch_numbers)
    critic = Critic(features, ClassHead if techniques.classify else ProjectionHead, spec.num_classes, minibatch)
    if spectral:
        for module in list(critic.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                normalised(module)
    return critic


def scored_kinds(critic: Critic, kinds: Sequence[Tensor], y: Tensor) -> Scored:
    """Scores ``(kinds, B)`` and features ``(kinds, B, width)`` of several kinds of rows with the same labels.

    In one pass, where that may be: a critic that compares the rows of a batch reads one kind at a time.
    """
    if critic.minibatch is not None:
        score, features = (torch.cat(parts) for parts in zip(*(critic.scored(x, y) for x in kinds), strict=True))
    else:
        score, features = critic.scored(torch.cat([*kinds]), y.repeat(len(kinds)))
    shape = (len(kinds), len(y))
    return Scored(score.float().reshape(shape), features.float().reshape(*shape, -1))


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a gradient of a gradient is not compiled
def scored_with_gradients(critic: Critic, kinds: Sequence[Tensor], y: Tensor) -> tuple[Scored, Tensor]:
    """What :func:`scored_kinds` gives, and :func:`models._penalties.squared_gradients` of it, from one pass in 32 bits.

    Two thirds of the time that the scores and their gradients take by passes of their own.
    """
    with torch.autocast(y.device.type, enabled=False), torch.enable_grad():
        leaves = [x.detach().float().requires_grad_() for x in kinds]
        scored = scored_kinds(critic, leaves, y)
        return scored, squared_gradients(scored.score, leaves)
