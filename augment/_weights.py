"""Sampling weights under which looking generated tells nothing about the label.

Where synthetic rows are found only in some classes, a classifier learns "looks generated, so it is of those classes"
and real rows of them are lost. Within each class that has both, real and synthetic rows therefore get half of the
class's mass each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


def class_weights(real: Sequence[int], synthetic: Sequence[int], equal_mass: bool) -> tuple[Weights, Weights]:
    """The weight of a real and of a synthetic row, each of shape (classes,), from the rows of each class.

    The mass of a class, which is the sum of its rows' weights, is the same for all classes that have rows with
    ``equal_mass``, else its number of rows. All weights sum to the number of rows, so that their mean is 1.
    """
    counts = np.array([real, synthetic], dtype=np.float64).reshape(2, -1)
    rows = counts.sum(axis=0)
    present = rows > 0
    mass = np.where(present, rows.sum() / max(int(present.sum()), 1), 0.0) if equal_mass else rows
    shares = np.where(counts.min(axis=0) > 0, 0.5, 1.0)
    weights = np.divide(shares * mass, counts, out=np.zeros_like(counts), where=counts > 0)
    return weights[0], weights[1]


def row_weights(indices: npt.NDArray[np.int64], weights: Weights) -> Weights:
    """The weight of each row from the position of its class; rows without a label weigh nothing."""
    return np.append(weights, 0.0)[indices]
