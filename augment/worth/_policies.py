"""Classical changes of images, drawn anew for each image of each batch: what synthetic images have to beat.

A :class:`Policy` is the names of its parts, in the order in which they are made. Images are ``(B, C, H, W)`` in [-1, 1]
and stay so; every random number comes from the generator that is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from augment.worth._trivial import trivially_changed
from augment.worth._warping import Ranges, affine, bent, shifted, spread

GAIN = 0.4
CONTRAST, OFFSET, GAMMA = 0.4, 0.15, 0.6  # the last in octaves
LARGEST_HOLE = 0.5  # of the side

Part = Callable[[Tensor, torch.Generator], Tensor]


class Changed(NamedTuple):
    """Images ``(B, C, H, W)``, and the share ``(B, K)`` of each that belongs to each class."""

    x: Tensor
    targets: Tensor


def gained(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images as bright as before times 0.6 to 1.4; black stays black."""
    gain = 1 + GAIN * spread(x, generator, len(x), 1, 1, 1)
    return ((x + 1) * gain - 1).clamp(-1, 1)


def lit(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images in another light: contrast about the image's mean, an offset of brightness, and a gamma."""
    drawn = spread(x, generator, 3, len(x), 1, 1, 1)
    b = (x + 1) / 2
    b = torch.lerp(b.mean(dim=(1, 2, 3), keepdim=True), b, 1 + CONTRAST * drawn[0]) + OFFSET * drawn[1]
    return b.clamp(0, 1) ** (2 ** (GAMMA * drawn[2])) * 2 - 1


def flipped(x: Tensor, generator: torch.Generator, dimension: int) -> Tensor:
    """Every second image, by chance, mirrored along ``dimension``."""
    return torch.where(spread(x, generator, len(x), 1, 1, 1) < 0, x.flip(dimension), x)


def erased(x: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of each image, of up to half its sides, in the image's mean (Cutout, arXiv:1708.04552)."""
    drawn = (spread(x, generator, 2, 2, len(x), 1, 1, 1) + 1) / 2
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for dimension, (length, start) in zip((2, 3), drawn, strict=True):
        side = x.shape[dimension]
        place = torch.arange(side, device=x.device).reshape(side, *(1,) * (3 - dimension))
        size = (LARGEST_HOLE * side * length).round()
        first = (start * (side - size + 1)).floor()
        inside = inside & (place >= first) & (place < first + size)
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)


def mixed(changed: Changed, generator: torch.Generator) -> Changed:
    """Each image and its label blended with another's of the batch (mixup, arXiv:1710.09412).

    The share of the first follows Beta(1/2, 1/2), between the paper's values for ImageNet and for CIFAR-10.
    """
    x, targets = changed
    share = torch.sin(math.pi / 4 * (spread(x, generator, len(x)) + 1)) ** 2  # that law's inverse distribution function
    other = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    images = torch.lerp(x[other], x, share[:, None, None, None])
    return Changed(images, torch.lerp(targets[other], targets, share[:, None]))


AFFINE = {
    "mild": Ranges(rotation=8, scale=0.08, shear=5, shift=0.07),
    "medium": Ranges(rotation=15, scale=0.15, shear=10, shift=0.07),
    "wide": Ranges(rotation=25, scale=0.25, shear=20, shift=0.1),
    "extreme": Ranges(rotation=35, scale=0.35, shear=30, shift=0.14),
}
IMAGE_PARTS: Mapping[str, Part] = {
    "shift": shifted,
    **{f"{name} affine": partial(affine, ranges=ranges) for name, ranges in AFFINE.items()},
    "elastic": bent,
    "gain": gained,
    "light": lit,
    "horizontal flip": partial(flipped, dimension=3),
    "vertical flip": partial(flipped, dimension=2),
    "trivial": trivially_changed,
    "erasing": erased,
}
MIXUP = "mixup"
PARTS = (*IMAGE_PARTS, MIXUP)


@dataclass(frozen=True)
class Policy:
    """Named parts, made one after another; none at all leaves images as they are.

    Raises:
        ValueError: a part is not known.
    """

    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise ValueError(f"there is no classical change {unknown[0]!r}; there are {', '.join(PARTS)}")

    @property
    def name(self) -> str:
        """``shift + gain``, or ``none``."""
        return " + ".join(self.parts) or "none"

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Changed:
        """Changed copies of images ``(B, C, H, W)``, and their targets ``(B, K)``, which mixup alone changes."""
        changed = Changed(x, targets)
        for part in self.parts:
            if part == MIXUP:
                changed = mixed(changed, generator)
            else:
                changed = Changed(IMAGE_PARTS[part](changed.x, generator), targets)
        return changed

    def as_json(self) -> list[str]:
        """The parts, read back by :meth:`from_json`."""
        return list(self.parts)

    @classmethod
    def from_json(cls, value: Sequence[str]) -> Policy:
        """The policy that :meth:`as_json` wrote."""
        return cls(tuple(value))
