"""Images moved and bent at random: where each pixel of a changed image is read from.

Images are ``(B, C, H, W)`` in [-1, 1]. Outside of an image lies its background: the median of its border, channel by
channel. Whatever the shade of a plain background, that is it, and an object that touches the border is not drawn out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_SHIFT = 0.07  # of the side, rounded to whole pixels, one at least: 1 of 8, 2 of 28 or 32, 4 of 64
BEND = 0.05  # standard deviation of the displacements of an elastic change at its knots, in sides of the image
KNOTS = 4  # a side


@dataclass(frozen=True)
class Ranges:
    """How far an affine change goes to either side; each image draws uniformly from within.

    Degrees of rotation and shear, shares of the size, and shares of the side by which it is shifted.
    """

    rotation: float
    scale: float
    shear: float
    shift: float


def spread(x: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers uniform in [-1, 1), of ``shape``, where ``x`` is."""
    drawn = 2 * torch.rand(shape, generator=generator, device=generator.device) - 1
    return drawn.to(x.device)


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images shifted by whole pixels, which blurs nothing; every shift within the bound is as likely as another."""
    drawn = spread(x, generator, len(x), 2)
    rows, columns = (_read_from(drawn[:, i], x.shape[2 + i]) for i in (0, 1))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    # advanced indices around a slice come first: (B, H, W, C)
    moved = x[image, :, rows.place[:, :, None], columns.place[:, None, :]].permute(0, 3, 1, 2)
    inside = rows.inside[:, None, :, None] & columns.inside[:, None, None, :]
    return torch.where(inside, moved, background(x))


class _Read(NamedTuple):
    """The row or column ``(B, side)`` that each one is read from, and whether it is there."""

    place: Tensor
    inside: Tensor


def _read_from(drawn: Tensor, side: int) -> _Read:
    largest = max(1, round(LARGEST_SHIFT * side))
    pixels = ((largest + 0.5) * drawn).round().clamp(-largest, largest).long()
    place = torch.arange(side, device=drawn.device) - pixels[:, None]
    return _Read(place.clamp(0, side - 1), (place >= 0) & (place < side))


def background(x: Tensor) -> Tensor:
    """The median of the outermost pixels, ``(B, C, 1, 1)``."""
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    return border.median(dim=2).values[:, :, None, None]


def affine(x: Tensor, generator: torch.Generator, ranges: Ranges) -> Tensor:
    """Images rotated, scaled, sheared and shifted."""
    drawn = spread(x, generator, len(x), 5)
    turn, shear = math.radians(ranges.rotation) * drawn[:, 0], torch.tan(math.radians(ranges.shear) * drawn[:, 1])
    cos, sin = torch.cos(turn), torch.sin(turn)
    linear = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).reshape(-1, 2, 2)
    return resampled(x, linear / (1 + ranges.scale * drawn[:, 2, None, None]), ranges.shift * drawn[:, 3:5])


def resampled(x: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Images whose pixel at p, in pixels (x, y) from the centre, is read from ``linear`` p less ``shift`` sides.

    ``linear`` is ``(B, 2, 2)``, ``shift`` ``(B, 2)``.
    """
    height, width = x.shape[2:]
    aspect = torch.tensor([[1, height / width], [width / height, 1]], device=x.device)  # torch counts in half sides
    places = torch.cat([linear * aspect, -2 * shift[:, :, None]], 2)
    return _sampled(x, functional.affine_grid(places, list(x.shape), align_corners=False))


def bent(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images distorted by a smooth random field, after Simard et al. (Best Practices for CNNs, ICDAR 2003).

    Its displacements are normal at 4 x 4 knots, with a bicubic surface between them.
    """
    knots = torch.randn((len(x), 2, KNOTS, KNOTS), generator=generator, device=generator.device).to(x.device)
    field = functional.interpolate(2 * BEND * knots, x.shape[2:], mode="bicubic", align_corners=True)
    unmoved = torch.eye(2, 3, device=x.device).expand(len(x), 2, 3)
    grid = functional.affine_grid(unmoved, list(x.shape), align_corners=False)
    return _sampled(x, grid + field.permute(0, 2, 3, 1))


def _sampled(x: Tensor, grid: Tensor) -> Tensor:
    outside = background(x)
    sampled = functional.grid_sample(x - outside, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (sampled + outside).clamp(-1, 1)
