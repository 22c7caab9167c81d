"""Encoders and decoders for a :class:`TensorSpec`: residual layers for vectors, residual convolutions for grids.

This is the one place that looks at the form of a spec. Nothing here mixes the rows of a batch: normalisation is by
group within a row, so that a row's output never depends on its batch mates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._contract import TensorSpec
from models._heads import Heads

LARGEST_WORKING_SIDE = 16  # full-resolution convolutions cost four times as much a halving and change samples little
SMALLEST_SIDE = 4
LARGEST_FLAT_SIDE = 64  # one vector of latents draws coherent rows after a fraction of the steps that maps of them need


class NetSize(NamedTuple):
    """Width (hidden units, or channels of the first stage), residual blocks (per stage), label embedding, dropout.

    ``side`` is the longest side in pixels that a grid's convolutions work on; larger grids are cut into patches.
    """

    width: int
    depth: int
    embedding: int
    dropout: float
    side: int = LARGEST_WORKING_SIDE


Block = Callable[[int, int, float], nn.Module]  # of a width, the length of the condition that it hears, and a dropout


class LabelEmbedding(nn.Module):
    """One vector per class, and one more for rows without a label (``y = -1``)."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes + 1, width)

    def forward(self, y: Tensor) -> Tensor:
        """Vectors ``(B, width)`` for labels ``(B,)``."""
        vectors: Tensor = self.table(torch.where(y < 0, self.num_classes, y))
        return vectors


class FiLM(nn.Module):
    """Features scaled by ``1 + delta`` and shifted, both linear in a condition (FiLM, arXiv:1709.07871).

    The one keeps the features alive at the start, when delta is about zero.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Modulated features of the same shape ``(B, channels, ...)``."""
        delta, shift = self.linear(condition).chunk(2, dim=1)
        flat = (-1, features.shape[1]) + (1,) * (features.dim() - 2)
        modulated: Tensor = features * (1 + delta.reshape(flat)) + shift.reshape(flat)
        return modulated


class VectorBlock(nn.Module):
    """A residual block of two linear layers, with the condition applied between them."""

    def __init__(self, width: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.film = FiLM(condition, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Hidden units ``(B, width)``."""
        inner = functional.silu(self.film(self.first(self.norm(h)), condition))
        out: Tensor = h + self.second(self.dropout(inner))
        return out


class GridBlock(nn.Module):
    """A residual block of two 3x3 convolutions, with the condition applied between them."""

    def __init__(self, channels: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, channels), channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = FiLM(condition, channels)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Feature maps ``(B, channels, height, width)``."""
        inner = self.first(functional.silu(self.norm(h)))
        inner = functional.silu(self.film(inner, condition))
        out: Tensor = h + self.second(self.dropout(inner))
        return out


class Stages(NamedTuple):
    """How a grid is halved: pixels per patch, then the side lengths and the channels of each stage, finest first."""

    patch: int
    sides: tuple[tuple[int, int], ...]
    channels: tuple[int, ...]


def grid_stages(height: int, width: int, channels: int, side: int = LARGEST_WORKING_SIDE) -> Stages:
    """Stages from at most ``side`` to at most 4 pixels a side; the channels double twice at most."""
    patch = 1
    while max(height, width) > side * patch:
        patch *= 2
    sides = [(math.ceil(height / patch), math.ceil(width / patch))]
    while max(sides[-1]) > SMALLEST_SIDE:
        sides.append((math.ceil(sides[-1][0] / 2), math.ceil(sides[-1][1] / 2)))
    return Stages(patch, tuple(sides), tuple(channels * 2 ** min(i, 2) for i in range(len(sides))))


class VectorEncoder(nn.Module):
    """``outputs`` numbers for a row, read as a vector, and its label."""

    def __init__(self, spec: TensorSpec, outputs: int, size: NetSize) -> None:
        super().__init__()
        self.label = LabelEmbedding(spec.num_classes, size.embedding)
        self.first = nn.Linear(spec.size, size.width)
        self.blocks = nn.ModuleList(VectorBlock(size.width, size.embedding, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.last = nn.Linear(size.width, outputs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(B, outputs)`` for rows ``(B, *shape)`` and labels ``(B,)``."""
        condition = self.label(y)
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, condition)
        out: Tensor = self.last(functional.silu(self.norm(h)))
        return out


class VectorDecoder(nn.Module):
    """``outputs`` numbers for a latent vector and a label."""

    def __init__(self, spec: TensorSpec, inputs: int, size: NetSize, outputs: int, block: Block = VectorBlock) -> None:
        super().__init__()
        condition = size.embedding + inputs
        self.label = LabelEmbedding(spec.num_classes, size.embedding)
        self.first = nn.Linear(condition, size.width)
        self.blocks = nn.ModuleList(block(size.width, condition, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.last = nn.Linear(size.width, outputs)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """``(B, outputs)`` for latents ``(B, inputs)`` and labels ``(B,)``."""
        condition = torch.cat([self.label(y), z], dim=1)
        h = self.first(condition)
        for block in self.blocks:
            h = block(h, condition)
        out: Tensor = self.last(functional.silu(self.norm(h)))
        return out


class GridEncoder(nn.Module):
    """``outputs`` numbers for a grid and its label: patches, then stages that halve the side."""

    def __init__(self, spec: TensorSpec, outputs: int, size: NetSize) -> None:
        super().__init__()
        pixels, height, width = spec.shape
        self.stages = grid_stages(height, width, size.width, size.side)
        patch, sides, channels = self.stages
        self.padding = (0, sides[0][1] * patch - width, 0, sides[0][0] * patch - height)
        self.label = LabelEmbedding(spec.num_classes, size.embedding)
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.first = nn.Conv2d(pixels * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.blocks = stage_blocks(channels, size.embedding, size)
        self.norm = nn.GroupNorm(math.gcd(8, channels[-1]), channels[-1])
        self.last = nn.Linear(channels[-1] * math.prod(sides[-1]), outputs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(B, outputs)`` for rows ``(B, C, H, W)`` and labels ``(B,)``."""
        condition = self.label(y)
        h = self.first(self.unshuffle(functional.pad(x, self.padding)))
        for i, stage in enumerate(self.blocks):
            h = self.down[i - 1](h) if i else h
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList's items are typed as Module
                h = block(h, condition)
        out: Tensor = self.last(functional.silu(self.norm(h)).flatten(1))
        return out


class GridDecoder(nn.Module):
    """``outputs`` numbers, as many for each value, for a latent vector and a label: the encoder's stages, backwards."""

    def __init__(self, spec: TensorSpec, inputs: int, size: NetSize, outputs: int, block: Block = GridBlock) -> None:
        super().__init__()
        if len(spec.spans) != 1:
            raise ValueError(f"a grid is read as one span, this one has {len(spec.spans)}")
        _, self.height, self.width = spec.shape
        self.stages = grid_stages(self.height, self.width, size.width, size.side)
        patch, sides, channels = self.stages
        condition = size.embedding + inputs
        self.label = LabelEmbedding(spec.num_classes, size.embedding)
        self.first = nn.Linear(condition, channels[-1] * math.prod(sides[-1]))
        self.up = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in pairwise(channels))
        self.blocks = stage_blocks(channels, condition, size, block)
        self.norm = nn.GroupNorm(math.gcd(8, channels[0]), channels[0])
        self.shuffle = nn.PixelShuffle(patch)
        self.last = nn.Conv2d(channels[0], outputs // (self.height * self.width) * patch**2, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """``(B, outputs)`` for latents ``(B, inputs)`` and labels ``(B,)``."""
        condition = torch.cat([self.label(y), z], dim=1)
        h = self.first(condition).reshape(len(z), -1, *self.stages.sides[-1])
        for i in reversed(range(len(self.blocks))):
            for block in self.blocks[i]:  # type: ignore[attr-defined]
                h = block(h, condition)
            if i:
                h = functional.interpolate(self.up[i - 1](h), size=self.stages.sides[i - 1], mode="nearest")
        raw = self.shuffle(self.last(functional.silu(self.norm(h))))
        out: Tensor = raw[:, :, : self.height, : self.width].flatten(1)
        return out


def stage_blocks(channels: Sequence[int], condition: int, size: NetSize, block: Block = GridBlock) -> nn.ModuleList:
    """The residual blocks of each stage of a grid, which hear a condition of that many numbers."""
    return nn.ModuleList(
        nn.ModuleList(block(width, condition, size.dropout) for _ in range(size.depth)) for width in channels
    )


@contextmanager
def first_weights(generator: torch.Generator) -> Iterator[None]:
    """A block in which layers draw their first weights from one number of ``generator``; torch's own state is kept."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def make_encoder(spec: TensorSpec, outputs: int, size: NetSize) -> nn.Module:
    """A net ``(x, y) -> (B, outputs)`` for rows of ``spec``."""
    return (GridEncoder if spec.form == "grid" else VectorEncoder)(spec, outputs, size)


def make_decoder(spec: TensorSpec, inputs: int, size: NetSize, outputs: int | None = None) -> nn.Module:
    """A net ``(z, y) -> (B, outputs)`` for latents ``(B, inputs)``; by default what ``Heads(spec)`` reads.

    Raises:
        ValueError: a grid of more than one span.
    """
    outputs = Heads(spec).raw_size if outputs is None else outputs
    return (GridDecoder if spec.form == "grid" else VectorDecoder)(spec, inputs, size, outputs)


def make_velocity(spec: TensorSpec, size: NetSize, *, exemplars: bool) -> nn.Module:
    """A net ``(x, t, y, exemplars) -> (B, *shape)`` for rows of ``spec``, times ``(B,)`` in [0, 1] and labels ``(B,)``.

    ``exemplars`` says whether it reads rows beside x (:class:`models._unet.Exemplars`); else they must be None.
    """
    from models._unet import GridVelocity, VectorVelocity  # those are made of the blocks above

    return (GridVelocity if spec.form == "grid" else VectorVelocity)(spec, size, exemplars=exemplars)


def velocity_size(
    spec: TensorSpec, width: int | None, depth: int | None, embedding: int, dropout: float | None, side: int
) -> NetSize:
    """The size of the net of :func:`make_velocity`; what is null is what suits the form of a row."""
    hidden, blocks = (128, 2) if spec.form == "vector" else (32, 1)
    left_out = defaults_for(spec).dropout if dropout is None else dropout
    return NetSize(width or hidden, depth or blocks, embedding, left_out, side)


def suits_ladder(spec: TensorSpec, asked: Literal["auto", "flat", "ladder"]) -> bool:
    """Whether latents are maps in a ladder rather than one vector: where asked for, else for grids above 64 pixels.

    Of 32x32 pixels in colour, after 150 CPU seconds each, the ladder had the better bound (13,000 nats, flat 14,200)
    and the worse rows: a Fréchet distance of 17.6 (flat 7.1), and .27 of its labels recognised (flat .59).

    Raises:
        ValueError: a ladder is asked for rows that are vectors.
    """
    if asked == "ladder" and spec.form == "vector":
        raise ValueError("a ladder needs rows that are grids; set architecture to flat or auto")
    return asked == "ladder" or (asked == "auto" and spec.form == "grid" and max(spec.shape[1:]) > LARGEST_FLAT_SIDE)


class Defaults(NamedTuple):
    """What suits the form of a row: the net's width and dropout, and the spread of the latents drawn.

    Without dropout a table of a hundred rows is learned by heart within a run. A narrower spread would squeeze a
    table's columns and keep small pictures alike; a large picture is torn by latents that are all far from the mean.
    """

    width: int
    dropout: float
    spread: float


def defaults_for(spec: TensorSpec) -> Defaults:
    """The width is hidden units for a vector; channels of the first stage for a grid, fewer where it has few pixels."""
    if spec.form == "vector":
        return Defaults(width=128, dropout=0.5, spread=1.0)
    if max(spec.shape[1:]) <= LARGEST_WORKING_SIDE // 2:
        return Defaults(width=16, dropout=0.1, spread=1.0)
    return Defaults(width=24, dropout=0.0, spread=0.6)
