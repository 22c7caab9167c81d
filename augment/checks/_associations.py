"""How strongly each two columns hang together in a weighted set of rows, the label among them.

Every column becomes standardised *lanes* u of mean 0: a number its grade, the mid-rank as a share of the weight, over
the grades' deviation; a category its membership, (z - p) / sqrt(p). With weights w_i of sum 1 and the moments
M = sum_i w_i u_i u_i' the association of two columns a and b is

    sqrt(|M_ab|^2 / min(d_a, d_b))       d: the number of categories less one, and 1 of numbers

over the block M_ab of their lanes: Spearman's correlation of two numbers (with its sign), Cramer's V of two categorical
columns, the correlation ratio of the grades of one with the categories of the other. A column of two categories is a
number. With C classes of equal weight and mean lanes mu_c, the moments inside the classes are M - sum_c mu_c mu_c' / C,
where the lanes of numbers are divided by their deviation inside the classes. A column that does not vary hangs together
with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augment.checks._discrepancies import Floats
from augment.checks._sides import Column, Places

STILL = 1e-9  # a variance of grades below it is rounding


class Associations:
    """The associations of the columns of given rows, whose numbers are ``(N, F)`` and whose classes stand together.

    The rows are those of all sets that are compared, so that a category which one of them lacks changes no scale.
    """

    def __init__(self, numbers: Floats, classes: Places, columns: Sequence[Column]) -> None:
        single = [column for column in columns if _is_number(column)]
        several = [column for column in columns if not _is_number(column)]
        self._values = np.concatenate([np.empty((len(numbers), 0)), *(numbers[:, c.lanes] for c in single)], axis=1)
        self._present = np.isfinite(self._values)
        self._order = np.argsort(self._values, axis=0, kind="stable")
        self._first, self._last = _ends_of_equals(np.take_along_axis(self._values, self._order, axis=0))
        self._members = [_with_others(numbers[:, column.lanes]) for column in several]
        degrees = [1] * len(single) + [max(1, int(m.any(axis=0).sum()) - 1) for m in self._members]
        self._degrees = np.minimum.outer(np.array(degrees), np.array(degrees))
        widths = [1] * len(single) + [members.shape[1] for members in self._members]
        self._starts = (np.cumsum(widths) - widths).astype(np.int64)
        self._numbers = len(single)
        self._class_starts = np.flatnonzero(np.diff(classes, prepend=-1))

    def of(self, weights: Floats) -> Floats:
        """The associations under ``weights`` ``(N,)``, ``(P,)``: of all pairs, each with the label, all inside classes.

        Where there is one class there is nothing but the first of these.
        """
        lanes = self._lanes(weights)
        moments = lanes.T @ (weights[:, None] * lanes)
        pairs = np.triu_indices(len(self._starts), 1)
        together = self._of_blocks(moments)[pairs]
        classes = len(self._class_starts)
        if classes < 2:
            return together
        means = classes * np.add.reduceat(weights[:, None] * lanes, self._class_starts, axis=0)  # (C, lanes)
        inside = moments - means.T @ means / classes
        variances = np.diag(inside)[: self._numbers]
        scale = np.ones(len(inside))
        scale[: self._numbers] = np.where(variances > STILL, np.maximum(variances, STILL) ** -0.5, 0.0)
        apart = self._of_blocks(inside * scale * scale[:, None])[pairs]
        return np.concatenate([together, self._with_label(means), apart])

    def _lanes(self, weights: Floats) -> Floats:
        """The lanes of all columns ``(N, L)``, numbers first; zeros where a number is missing or does not vary."""
        sorted_weights = np.take_along_axis(weights[:, None] * self._present, self._order, axis=0)
        below = np.cumsum(sorted_weights, axis=0)
        up_to = np.take_along_axis(below, self._last, axis=0)
        under = np.take_along_axis(below - sorted_weights, self._first, axis=0)
        grades = np.empty_like(self._values)
        np.put_along_axis(grades, self._order, (under + up_to) / 2, axis=0)
        lanes = [_standardised(grades, weights[:, None] * self._present)]
        for members in self._members:
            shares = weights @ members
            lanes.append((members - shares) * np.where(shares > STILL, np.maximum(shares, STILL) ** -0.5, 0.0))
        return np.concatenate(lanes, axis=1)

    def _of_blocks(self, moments: Floats) -> Floats:
        """The association of each two columns, from the moments of their lanes."""
        squares = np.add.reduceat(np.add.reduceat(moments**2, self._starts, axis=0), self._starts, axis=1)
        found: Floats = np.sqrt(squares / self._degrees)
        found[: self._numbers, : self._numbers] = moments[: self._numbers, : self._numbers]
        return found

    def _with_label(self, means: Floats) -> Floats:
        """The association of each column with the label, from the means ``(C, L)`` of the classes."""
        classes = len(means)
        squares = np.add.reduceat((means**2).mean(axis=0), self._starts)
        found: Floats = np.sqrt(squares / np.minimum(np.diag(self._degrees), classes - 1))
        if classes == 2:  # two classes are a number as two categories are
            found[: self._numbers] = (means[1] - means[0])[: self._numbers] / 2
        return found


def numbers_first(columns: Sequence[Column]) -> list[Column]:
    """The columns in the order in which :class:`Associations` has them: those of one lane, then the others."""
    return sorted(columns, key=lambda column: not _is_number(column))


def _is_number(column: Column) -> bool:
    return bool(column.lanes.stop - column.lanes.start == 1)


def _with_others(members: Floats) -> Floats:
    """Memberships with one lane more, for the rows that are in none of the categories."""
    return np.column_stack([members, 1 - members.sum(axis=1)])


def _standardised(grades: Floats, weights: Floats) -> Floats:
    """Grades ``(N, F)`` as deviations from their mean over their deviation under ``weights`` ``(N, F)``."""
    total = np.maximum(weights.sum(axis=0), STILL)
    centred = np.where(weights > 0, grades - (weights * grades).sum(axis=0) / total, 0.0)
    variances = (weights * centred**2).sum(axis=0)  # a missing number counts as the mean one
    lanes: Floats = centred * np.where(variances > STILL, np.maximum(variances, STILL) ** -0.5, 0.0)
    return lanes


def _ends_of_equals(in_order: Floats) -> tuple[Places, Places]:
    """The places of the first and of the last of the equals of each value, in columns that are in order."""
    rows = len(in_order)
    places = np.broadcast_to(np.arange(rows)[:, None], in_order.shape)
    differs = in_order[1:] != in_order[:-1]
    edge = np.ones((min(1, rows), in_order.shape[1]), dtype=bool)
    first = np.maximum.accumulate(np.where(np.concatenate([edge, differs]), places, 0), axis=0)
    last_of = np.where(np.concatenate([differs, edge]), places, rows - 1)
    last = np.minimum.accumulate(last_of[::-1], axis=0)[::-1]
    return first, last
