"""Which rows of each class are looked at, so that time and memory do not grow with the data."""

from __future__ import annotations

import torch
from torch import Tensor

from augment._seeding import torch_generator
from models._contract import Batch

LARGEST_CLASS = 2_000  # rows of a class
ALL_ROWS = 40_000  # and of all classes, if each may have 50 at least


def rows_by_class(rows: Batch, seed: int, part: str) -> dict[int, Tensor]:
    """The flat rows ``(N, size)`` of each class in order of ``y``: those of :func:`places_by_class`."""
    return {y: rows.x[places].flatten(1).float() for y, places in places_by_class(rows.y, seed, part).items()}


def most_of_a_class(num_classes: int) -> int:
    """How many rows of a class are looked at: 2,000, or with many classes as many as keep all below 40,000."""
    return min(LARGEST_CLASS, max(50, ALL_ROWS // max(1, num_classes)))


def places_by_class(y: Tensor, seed: int, part: str) -> dict[int, Tensor]:
    """Which rows of each class are looked at, in a random order that the seed decides."""
    generator = torch_generator(seed, "fidelity", part)
    order = torch.randperm(len(y), generator=generator).to(y.device)
    shuffled = y[order]
    classes = sorted(int(label) for label in torch.unique(y) if label >= 0)
    most = most_of_a_class(len(classes))
    return {label: order[shuffled == label][:most] for label in classes}
