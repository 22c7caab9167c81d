"""Velocity fields v(x, t, y) of a flow: a U-Net for grids and a residual net for vectors.

U-Net: arXiv:1505.04597, with the residual blocks and the time embedding of arXiv:2006.11239. Both nets may be given an
exemplar beside x: another row, whose values stand beside those of x as channels or features.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._nets import LabelEmbedding, NetSize, VectorBlock, grid_stages, stage_blocks

TIME_FREQUENCIES = 16
HIGHEST_FREQUENCY = 100.0  # radians over the whole path: features that change faster tell nothing that v follows


class Exemplars(NamedTuple):
    """Rows ``(B, *shape)`` beside x, and for each of them whether it is there ``(B,)``; where not it is not read."""

    x: Tensor
    given: Tensor


class Condition(nn.Module):
    """One vector ``(B, width)`` for the time, the label and whether there is an exemplar: their embeddings' sum."""

    frequencies: Tensor

    def __init__(self, num_classes: int, width: int, *, exemplars: bool) -> None:
        super().__init__()
        exponents = torch.arange(TIME_FREQUENCIES) / (TIME_FREQUENCIES - 1)
        self.register_buffer("frequencies", HIGHEST_FREQUENCY**exponents, persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = LabelEmbedding(num_classes, width)
        self.exemplar = nn.Embedding(2, width) if exemplars else None

    def forward(self, t: Tensor, y: Tensor, exemplars: Exemplars | None) -> Tensor:
        """The vectors for times ``(B,)`` in [0, 1] and labels ``(B,)``."""
        angles = t[:, None] * self.frequencies
        sum_ = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(y)
        if self.exemplar is not None and exemplars is not None:
            sum_ = sum_ + self.exemplar(exemplars.given.long())
        out: Tensor = functional.silu(sum_)
        return out


def beside(x: Tensor, exemplars: Exemplars | None) -> Tensor:
    """``x`` with its exemplars, zero where there is none, as further channels or features."""
    if exemplars is None:
        return x
    given = exemplars.given.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
    return torch.cat([x, exemplars.x * given], dim=1)


class VectorVelocity(nn.Module):
    """v(x, t, y) for vectors: residual blocks that each hear the time and the label."""

    def __init__(self, spec: TensorSpec, size: NetSize, *, exemplars: bool) -> None:
        super().__init__()
        self.condition = Condition(spec.num_classes, size.embedding, exemplars=exemplars)
        self.first = nn.Linear((2 if exemplars else 1) * spec.size, size.width)
        self.blocks = nn.ModuleList(VectorBlock(size.width, size.embedding, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.last = nn.Linear(size.width, spec.size)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        """The velocity ``(B, D)`` at ``x`` ``(B, D)`` and the times ``t`` ``(B,)``."""
        condition = self.condition(t, y, exemplars)
        h = self.first(beside(x, exemplars))
        for block in self.blocks:
            h = block(h, condition)
        out: Tensor = self.last(functional.silu(self.norm(h)))
        return out


class GridVelocity(nn.Module):
    """v(x, t, y) for grids: a U-Net whose every block hears the time and the label."""

    def __init__(self, spec: TensorSpec, size: NetSize, *, exemplars: bool) -> None:
        super().__init__()
        pixels, self.height, self.width = spec.shape
        self.stages = grid_stages(self.height, self.width, size.width, size.side)
        patch, sides, channels = self.stages
        self.padding = (0, sides[0][1] * patch - self.width, 0, sides[0][0] * patch - self.height)
        self.condition = Condition(spec.num_classes, size.embedding, exemplars=exemplars)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.first = nn.Conv2d((2 if exemplars else 1) * pixels * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in pairwise(channels))
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in channels[:-1])
        self.descent = stage_blocks(channels, size.embedding, size)
        self.ascent = stage_blocks(channels, size.embedding, size)
        self.norm = nn.GroupNorm(math.gcd(8, channels[0]), channels[0])
        self.last = nn.Conv2d(channels[0], pixels * patch**2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, exemplars: Exemplars | None = None) -> Tensor:
        """The velocity ``(B, C, H, W)`` at ``x`` and the times ``t`` ``(B,)``."""
        condition = self.condition(t, y, exemplars)
        h = self.first(self.unshuffle(functional.pad(beside(x, exemplars), self.padding)))
        passed: list[Tensor] = []
        for i, stage in enumerate(self.descent):
            h = self.down[i - 1](h) if i else h
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList's items are typed as Module
                h = block(h, condition)
            passed.append(h)
        for i in reversed(range(len(self.ascent))):
            if i < len(self.join):
                h = functional.interpolate(self.up[i](h), size=self.stages.sides[i], mode="nearest")
                h = self.join[i](torch.cat([h, passed[i]], dim=1))
            for block in self.ascent[i]:  # type: ignore[attr-defined]
                h = block(h, condition)
        v = self.shuffle(self.last(functional.silu(self.norm(h))))
        out: Tensor = v[:, :, : self.height, : self.width]
        return out
