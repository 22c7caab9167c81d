"""Real beside synthetic images in one small PNG file: each row a class, real ones on the left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from augment._images import encode_png
from models._contract import Batch

ACROSS = 8
WANTED_SIDE = 28  # smaller images are enlarged by whole pixels
GAP = 2
MIDDLE = 10


def write_picture_grid(path: Path, real: Batch, synthetic: Batch) -> None:
    """The first eight images of each class on both sides; ``x`` is ``(N, C, H, W)`` in [-1, 1]."""
    rows = []
    for y in torch.unique(real.y[real.y >= 0]).tolist():
        left, right = (_strip(side.x[side.y == y][:ACROSS]) for side in (real, synthetic))
        rows.append(np.concatenate([left, _white(left.shape[0], MIDDLE), right], axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.concatenate(rows, axis=0)
    path.write_bytes(encode_png(grid[:, :, 0] if (grid == grid[:, :, :1]).all() else grid))


def _strip(x: torch.Tensor) -> np.ndarray:
    """Images side by side as uint8 ``(H, W, 3)``, filled up with white to eight."""
    pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    factor = max(1, WANTED_SIDE // max(pixels.shape[1:3]))
    large = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = large.shape[1:3]
    strip = _white(height + GAP, ACROSS * (width + GAP))
    for place, image in enumerate(large):
        strip[:height, place * (width + GAP) : place * (width + GAP) + width] = image
    return strip


def _white(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)
