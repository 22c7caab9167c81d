"""Mixtures whose every mode is known: 8 Gaussians on a ring, 25 on a grid, and 1,000 stacks of three digits.

The last two are common in the literature on lost modes (PacGAN, arXiv:1712.04086, section 4). There the 25 Gaussians
lie 2 apart with deviation 0.05, one row covers a mode, and stacks are of MNIST's digits at 28x28. Here the deviation is
0.1, which tells models of a minute's training apart; a mode needs a quarter of its share, more than rows spread evenly
over the plane would give it; and the digits are scikit-learn's at 8x8.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models._contract import Batch, Span, TensorSpec

SIDE = 5
SPACING, DEVIATION = 2.0, 0.1
SCALE = float(np.sqrt(2 * SPACING**2 + DEVIATION**2))  # of a coordinate over the grid, so that rows are z-scored
LEAST_OF_MODE = 0.25  # of the rows that a mode should have

RING, RING_DEVIATION = 8, 0.1
_ANGLES = torch.arange(RING) * 2 * torch.pi / RING
RING_CENTRES = 2**0.5 * torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1)  # so that a coordinate's deviation is about 1

STACK = TensorSpec((3, 8, 8), (Span("continuous", 192, 17),), 1)
LEVELS = 16


class Covered(NamedTuple):
    """How well rows cover a mixture: modes that are covered, of how many, and the share of rows that are of a mode."""

    modes: int
    of: int
    share: float


def plane_spec(classes: int) -> TensorSpec:
    """The spec of the 25 Gaussians, of one class or of five, one a column of the grid."""
    return TensorSpec((2,), (Span("continuous", 2),), classes)


def plane_rows(labels: Tensor, classes: int, seed: int) -> Batch:
    """A row of the 25 Gaussians for each label: of all of them with one class, else of the label's five."""
    draw = torch.Generator().manual_seed(seed)
    column = torch.randint(SIDE, (len(labels),), generator=draw) if classes == 1 else labels
    row = torch.randint(SIDE, (len(labels),), generator=draw)
    centres = SPACING * (torch.stack([column, row], 1) - SIDE // 2)
    noise = DEVIATION * torch.randn(len(labels), 2, generator=draw)
    return Batch((centres + noise) / SCALE, labels)


def plane_covered(x: Tensor, labels: Tensor, classes: int) -> Covered:
    """How rows cover the Gaussians; a row counts within 3 deviations of a mode of its own class."""
    scaled = x.double() * SCALE / SPACING + SIDE // 2
    cells = scaled.round().clamp(0, SIDE - 1).long()
    near = (scaled - cells).norm(dim=1) <= 3 * DEVIATION / SPACING
    if classes > 1:
        near &= cells[:, 0] == labels
    counts = torch.bincount((cells[:, 0] * SIDE + cells[:, 1])[near], minlength=SIDE**2)
    least = max(1.0, LEAST_OF_MODE * len(x) / SIDE**2)
    return Covered(int((counts >= least).sum()), SIDE**2, float(near.double().mean()))


def ring_rows(count: int, seed: int) -> Batch:
    """``count`` rows of 8 Gaussians on a ring, of one class, each mode's in turn."""
    noise = RING_DEVIATION * torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(RING_CENTRES[torch.arange(count) % RING] + noise, torch.zeros(count, dtype=torch.int64))


def ring_covered(x: Tensor) -> Covered:
    """How rows cover the ring; a row counts within 3 deviations of a mode."""
    distance, mode = torch.cdist(x, RING_CENTRES).min(1)
    near = distance <= 3 * RING_DEVIATION
    counts = torch.bincount(mode[near], minlength=RING)
    return Covered(int((counts >= LEAST_OF_MODE * len(x) / RING).sum()), RING, float(near.double().mean()))


class Digits(NamedTuple):
    """Scikit-learn's digits as rows of 64 values in [-1, 1], and the digit of each."""

    pixels: Tensor
    digit: Tensor


def load_digits() -> Digits:
    """All 1,797 of them."""
    from sklearn import datasets

    pixels, digit = datasets.load_digits(return_X_y=True)
    return Digits(torch.tensor(pixels, dtype=torch.float32) * 2 / LEVELS - 1, torch.tensor(digit, dtype=torch.int64))


def stacked_rows(digits: Digits, count: int, seed: int) -> Batch:
    """Stacks of three digits drawn with equal chance of each of the 1,000 numbers, ``(count, 3, 8, 8)``, one class."""
    draw = np.random.default_rng(seed)
    wanted = draw.integers(10, size=(count, 3))
    chosen = np.empty_like(wanted)
    for digit in range(10):
        members = np.flatnonzero(digits.digit.numpy() == digit)
        chosen[wanted == digit] = draw.choice(members, int((wanted == digit).sum()))
    return Batch(digits.pixels[chosen].reshape(count, 3, 8, 8), torch.zeros(count, dtype=torch.int64))


class StackJudge:
    """Reads the number of a stack channel by channel, by a classifier that was trained on real digits."""

    def __init__(self, digits: Digits) -> None:
        from sklearn.svm import SVC

        self._classifier: Any = SVC(C=10).fit(digits.pixels.numpy(), digits.digit.numpy())

    def numbers(self, x: Tensor) -> Tensor:
        """The number from 0 to 999 that each stack shows, ``(B,)``."""
        read = self._classifier.predict(x.reshape(-1, 64).numpy()).reshape(-1, 3)
        return torch.tensor(read @ np.array([100, 10, 1]))

    def covered(self, x: Tensor) -> int:
        """How many of the 1,000 numbers at least one row shows."""
        return len(self.numbers(x).unique())

    def divergence(self, x: Tensor) -> float:
        """KL(shown numbers || uniform) in nats; of n real rows it is about 999 / 2n, because they are not more."""
        shares = torch.bincount(self.numbers(x), minlength=1000).double() / len(x)
        return float(torch.special.entr(1000 * shares).mean().neg())
