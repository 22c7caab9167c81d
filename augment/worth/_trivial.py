"""TrivialAugment (arXiv:2103.10158): one change of each image, drawn from a list, at a strength that is drawn too.

The list and the ranges are those that the paper calls RA, made for the whole batch at once. Its wide ones turn images
by up to 135 degrees and shift them out of sight: too far where classes differ by how they lie, as digits do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from augment.worth._warping import resampled, spread

TURN = 30.0  # degrees
SHEAR = 0.3
MOVE = 10 / 32  # of the side
BLEND = 0.9  # how far a factor of brightness, contrast, sharpness or colour is from 1
BITS = 4  # that posterisation takes away at most, of 8
LEVELS = 256

Tone = Callable[[Tensor, Tensor], Tensor]


def trivially_changed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(B, C, H, W)`` in [-1, 1], each changed in one way; colour is one of the ways where there are three
    channels."""
    ways = len(MOVES) + len(TONES) + (x.shape[1] == 3)
    drawn = spread(x, generator, len(x), 2)
    way = ((drawn[:, 0] + 1) / 2 * ways).long().clamp(max=ways - 1)
    changed = _moved(x, way, drawn[:, 1])
    for number, tone in enumerate((*TONES, _coloured)[: ways - len(MOVES)], len(MOVES)):
        rows = torch.nonzero(way == number)[:, 0]
        if len(rows):
            b = (x[rows] + 1) / 2
            changed[rows] = tone(b, drawn[rows, 1, None, None, None]).clamp(0, 1) * 2 - 1
    return changed


MOVES = ("identity", "rotation", "shear x", "shear y", "move x", "move y")


def _moved(x: Tensor, way: Tensor, strength: Tensor) -> Tensor:
    """A copy of the images in which those are moved whose way is a move."""
    changed = x.clone()
    rows = torch.nonzero((way > 0) & (way < len(MOVES)))[:, 0]
    if not len(rows):
        return changed
    at = torch.zeros(len(rows), len(MOVES), device=x.device)
    at[torch.arange(len(rows), device=x.device), way[rows]] = strength[rows]
    turn = math.radians(TURN) * at[:, 1]
    cos, sin = torch.cos(turn), torch.sin(turn)
    linear = torch.stack([cos, SHEAR * at[:, 2] - sin, SHEAR * at[:, 3] + sin, cos], 1).reshape(-1, 2, 2)
    changed[rows] = resampled(x[rows], linear, MOVE * at[:, 4:6])
    return changed


# Changes of tone of images b (B, C, H, W) in [0, 1], at strengths s (B, 1, 1, 1) in [-1, 1).


def _brightened(b: Tensor, s: Tensor) -> Tensor:
    return b * (1 + BLEND * s)


def _contrasted(b: Tensor, s: Tensor) -> Tensor:
    return torch.lerp(b.mean(dim=(1, 2, 3), keepdim=True), b, 1 + BLEND * s)


def _sharpened(b: Tensor, s: Tensor) -> Tensor:
    """Away from a copy smoothed by the kernel of Pillow, or towards it."""
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=b.device) / 13
    padded = functional.pad(b, (1, 1, 1, 1), mode="replicate")
    smooth = functional.conv2d(padded, kernel.expand(b.shape[1], 1, 3, 3), groups=b.shape[1])
    return torch.lerp(smooth, b, 1 + BLEND * s)


def _posterised(b: Tensor, s: Tensor) -> Tensor:
    step = 2 ** (BITS * s.abs()).round()
    return (((LEVELS - 1) * b).round() / step).floor() * step / (LEVELS - 1)


def _solarised(b: Tensor, s: Tensor) -> Tensor:
    return torch.where(b > 1 - s.abs(), 1 - b, b)


def _stretched(b: Tensor, _s: Tensor) -> Tensor:
    """Autocontrast: the darkest value of a channel at 0, its lightest at 1."""
    low, high = b.amin(dim=(2, 3), keepdim=True), b.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (b - low) / (high - low).clamp(min=1 / LEVELS), b)


def _equalised(b: Tensor, _s: Tensor) -> Tensor:
    """Every value at the share of a channel's pixels that are darker, the darkest left out."""
    level = ((LEVELS - 1) * b).round().long().flatten(2)  # (B, C, pixels)
    counts = torch.zeros(*level.shape[:2], LEVELS, device=b.device)
    counts.scatter_add_(2, level, torch.ones_like(level, dtype=counts.dtype))
    upto = counts.cumsum(2).gather(2, level)
    darkest = upto.amin(2, keepdim=True)
    rest = level.shape[2] - darkest
    return torch.where(rest > 0, (upto - darkest) / rest.clamp(min=1), b.flatten(2)).reshape(b.shape)


def _coloured(b: Tensor, s: Tensor) -> Tensor:
    """Towards the grey image or away from it, by the weights of ITU-R 601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=b.device)[:, None, None]
    return torch.lerp((weights * b).sum(dim=1, keepdim=True), b, 1 + BLEND * s)


TONES: tuple[Tone, ...] = (
    _brightened,
    _contrasted,
    _sharpened,
    _posterised,
    _solarised,
    _stretched,
    _equalised,
)
