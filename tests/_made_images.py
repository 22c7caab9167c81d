"""Specs of images and small sets of them that a net can learn in a second."""

from __future__ import annotations

import numpy as np
import torch

from augment.worth._images import ImageLearner, probabilities
from models._contract import Batch, Span, TensorSpec


def spec_of(*shape: int, classes: int = 2, levels: int = 256) -> TensorSpec:
    size = int(np.prod(shape))
    return TensorSpec(shape, (Span("continuous", size, levels),), classes)


SMALL = spec_of(1, 8, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bars(count: int, seed: int = 0) -> Batch:
    """Noisy images of upright bars (class 0) and of level ones (class 1), in any place."""
    y = torch.arange(count) % 2
    x = 0.3 * torch.randn(count, 1, 8, 8, generator=seeded(seed)) - 0.7
    for row, place in enumerate(torch.randint(1, 7, (count,), generator=seeded(seed + 1)).tolist()):
        image = x[row, 0] if y[row] else x[row, 0].T
        image[place] += 1.4
    return Batch(x.clamp(-1, 1), y)


def share_right(net: ImageLearner, rows: Batch) -> float:
    return float((probabilities(net, rows.x).argmax(axis=1) == rows.y.numpy()).mean())
