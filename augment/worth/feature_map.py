"""Real and synthetic rows as an encoder sees them, in two dimensions: what a report draws, and no gate judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from augment._devices import cpu_threads
from augment.worth._chosen_rows import rows_by_class
from augment.worth.fidelity import RealSide
from models._contract import Batch

POINTS = 600  # of all classes and sides together
SIDES = 3
DECIMALS = 3  # of coordinates between -1 and 1


def feature_map(side: RealSide, synthetic: Batch, names: Sequence[str]) -> dict[str, Any] | None:
    """A few rows of each class and side in the first two principal components of features; null for want of rows.

    The components are those of training rows that the encoder has not seen, classes weighted equally; they are scaled
    so that all coordinates are within -1 and 1. ``explained`` are the shares of the variance of these rows. Of very
    many classes the first have points.
    """
    fold = side.folds[0]
    shown = [y for y in sorted(fold.train) if len(fold.train[y])][: POINTS // SIDES]
    if sum(len(fold.train[y]) for y in shown) < SIDES:
        return None
    each = max(1, POINTS // SIDES // len(shown))
    with cpu_threads(1):
        drawn = rows_by_class(synthetic, side.seed, "synthetic")
        features = {
            y: fold.encoder.features(drawn[y][:each].reshape(-1, *side.spec.shape)) for y in shown if y in drawn
        }
        centre, axes, explained = _components([fold.train[y] for y in shown])
        sides: dict[str, Mapping[int, Tensor]] = {
            "train": fold.train, "held_out": fold.held_out, "synthetic": features,
        }  # fmt: skip
        placed = {
            part: {y: (found[y][:each].double() - centre) @ axes for y in shown if y in found}
            for part, found in sides.items()
        }
    largest = max((float(x.abs().max()) for found in placed.values() for x in found.values() if len(x)), default=0.0)
    return {
        "explained": [round(share, DECIMALS) for share in explained],
        "classes": {names[y]: {part: _rounded(found.get(y), largest) for part, found in placed.items()} for y in shown},
    }


def _components(classes: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[float]]:
    """The mean ``(D,)``, the first two axes ``(D, 2)`` and their shares of the variance, of features by class."""
    rows = torch.cat([*classes]).double()
    weights = torch.cat([torch.full((len(x),), 1 / (len(x) * len(classes)), dtype=torch.float64) for x in classes])
    centre = weights @ rows
    centred = rows - centre
    variances, axes = torch.linalg.eigh(centred.T @ (weights[:, None] * centred))
    axes = axes[:, [-1, -2]]
    signs = torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))  # an axis may point either way
    total = max(float(variances.clamp(min=0).sum()), 1e-12)
    return centre, axes * signs, [float(variances[place].clamp(min=0)) / total for place in (-1, -2)]


def _rounded(points: Tensor | None, largest: float) -> list[list[float]]:
    if points is None:
        return []
    return [[round(value, DECIMALS) for value in point] for point in (points / max(largest, 1e-12)).tolist()]
