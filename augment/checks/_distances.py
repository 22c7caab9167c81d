"""How far apart two weighted sets of rows are in one column: of its numbers, and of its categories."""

from __future__ import annotations

import numpy as np

from augment.checks._discrepancies import Floats


def kolmogorov_smirnov(values: Floats, first: Floats, second: Floats) -> Floats:
    """The largest difference of the distribution functions of ``values`` ``(n,)`` under weights ``(B, n)``, ``(B,)``.

    sup_x |F(x) - G(x)|, with F(x) = sum of the weights of the values up to x over that of all values there are; NaN
    where one side has no value. Equal values count at once.
    """
    order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    if not len(order):
        return np.full(len(first), np.nan)
    last_of_equals = np.append(np.diff(values[order]) > 0, True)
    functions = []
    for weights in (first, second):
        below = np.cumsum(weights[:, order], axis=1)
        total = np.where(below[:, -1:] > 0, below[:, -1:], np.nan)
        functions.append(below[:, last_of_equals] / total)
    distance: Floats = np.abs(functions[0] - functions[1]).max(axis=1)
    return distance


def total_variation(members: Floats, first: Floats, second: Floats) -> Floats:
    """Half the sum of the differences of the shares of categories, ``(B,)``; ``members`` ``(n, K)`` are 0 or 1.

    Rows that are in none of the K categories are one more. The weights ``(B, n)`` sum to 1.
    """
    differences = (first - second) @ members
    others = differences.sum(axis=1)
    distance: Floats = (np.abs(differences).sum(axis=1) + np.abs(others)) / 2
    return distance
