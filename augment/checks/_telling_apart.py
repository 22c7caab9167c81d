"""How well a classifier tells synthetic from real rows, classes weighted equally."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment._seeding import numpy_generator
from augment.checks._discrepancies import Floats
from augment.checks._sides import Places, Sides, short

FOLDS = 5
TREES = 60
STEPS = 64


@dataclass(frozen=True)
class ToldApart:
    """The area under the ROC curve on rows that the classifier has not seen, and the largest that is not warned of."""

    auc: float
    limit: float

    @property
    def warned(self) -> bool:
        """Whether the rows are told apart too well."""
        return self.auc > self.limit


def telling_apart(sides: Sides, limit: float, *seed: str) -> ToldApart | None:
    """How boosted trees tell the sides apart, each row by trees that learned from the other four fifths of the rows.

    The class is one of the numbers, and every class weighs the same on both sides. Three standard errors that the area
    has by chance, sqrt((n + m + 1) / (12 n m)), are never beyond the limit. Null of fewer than ten rows a side.
    """
    from sklearn.metrics import roc_auc_score

    m = int(sides.is_synthetic.sum())
    n = len(sides.is_synthetic) - m
    if min(n, m) < 2 * FOLDS:
        return None
    numbers = np.column_stack([_in_steps(sides.numbers), sides.of_class])
    real, synthetic = sides.weights
    weights = (real + synthetic) * (n + m) / 2
    scores = _scores(numbers, sides.is_synthetic, weights, _folds(2 * sides.of_class + sides.is_synthetic, *seed))
    auc = roc_auc_score(sides.is_synthetic, scores, sample_weight=weights)
    return ToldApart(short(auc), short(max(limit, 0.5 + 3 * math.sqrt((n + m + 1) / (12 * n * m)))))


def _scores(numbers: Floats, is_synthetic: NDArray[np.bool_], weights: Floats, folds: Places) -> Floats:
    """The chance that each row is synthetic, by trees that learned from the other folds.

    On one thread: those that wait for a core that others use make it tens of times slower.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    scores = np.empty(len(folds))
    with threadpool_limits(1):
        for fold in range(FOLDS):
            held_out = folds == fold
            trees = HistGradientBoostingClassifier(
                max_iter=TREES, max_depth=4, min_samples_leaf=10, early_stopping=False, random_state=0
            )
            trees.fit(numbers[~held_out], is_synthetic[~held_out], sample_weight=weights[~held_out])
            scores[held_out] = trees.predict_proba(numbers[held_out])[:, 1]
    return scores


def _in_steps(numbers: Floats) -> Floats:
    """Numbers ``(rows, F)`` as the place of their step among 64 of equally many rows; NaN stays.

    scikit-learn finds weighted steps of its own for every fold, which takes ten times as long as the trees do.
    """
    found = np.full_like(numbers, np.nan)
    for lane, values in enumerate(numbers.T):
        there = np.isfinite(values)
        if there.any():
            edges = np.unique(np.quantile(values[there], np.linspace(0, 1, STEPS + 1)[1:-1]))
            found[there, lane] = np.searchsorted(edges, values[there])
    return found


def _folds(groups: Places, *seed: str) -> Places:
    """A fold for each row, a seeded choice that spreads every group evenly."""
    draw = numpy_generator("telling apart", *seed)
    folds = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        rows = draw.permutation(np.flatnonzero(groups == group))
        folds[rows] = (np.arange(len(rows)) + draw.integers(FOLDS)) % FOLDS
    return folds
