"""Scores of several classifiers on the same held-out rows, as they are and with the rows drawn again many times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from augment.worth._scores import Floats, Labels, Weights, average_precisions, f1s_of, recalls_of

# All in [0, 1] and better when larger; the last two are of one class.
Metric = Literal["balanced_accuracy", "macro_f1", "worst_recall", "recall", "average_precision"]
OF_ONE_CLASS = ("recall", "average_precision")
WEIGHTS_AT_ONCE = 1 << 22  # weights of rows held in memory at once
RANKED_DRAWS = 400  # of average precision, whose every draw goes through all rows in order


def check_metric(metric: Metric, of_class: int | None, y: Labels) -> None:
    """Refuse a metric that cannot be taken on rows of the classes ``y``.

    Raises:
        ValueError: it is not known, or its class is not given, or no row, or every one, is of it.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"the metric '{metric}' is not one of {', '.join(get_args(Metric))}")
    if metric not in OF_ONE_CLASS:
        return
    if of_class is None:
        raise ValueError(f"{metric} is of one class: give of_class")
    rows = int((y == of_class).sum())
    if not rows or (metric == "average_precision" and rows == len(y)):
        raise ValueError(f"{metric} of class {of_class} needs held-out rows of it and of others")


def scores_of(probabilities: Floats, y: Labels, metric: Metric, of_class: int | None) -> Floats:
    """The score ``(M,)`` of each of M classifiers with ``probabilities`` ``(M, N, K)`` on rows of the classes ``y``."""
    found: Floats = _scored(probabilities, y, np.ones((1, len(y))), metric, of_class)[0]
    return found


def resampled_scores(
    probabilities: Floats, y: Labels, metric: Metric, of_class: int | None, draws: int, generator: np.random.Generator
) -> Floats:
    """Such scores ``(D, M)`` on D draws of the held-out rows, each the same for all M classifiers.

    Every class keeps its number of rows. Average precision takes no more than 400 draws.
    """
    if metric == "average_precision":
        draws = min(draws, RANKED_DRAWS)
    classifiers, _, classes = probabilities.shape
    drawn = _row_counts(y, draws, classifiers * classes**2, generator)
    parts = [_scored(probabilities, y, counts, metric, of_class) for counts in drawn]
    return np.concatenate(parts)


def _row_counts(y: Labels, draws: int, size: int, generator: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """How often each row is drawn, in parts ``(d, N)`` of a size that leaves room for ``size`` numbers a draw.

    Of the n rows of a class n - 1 are drawn, to be weighted n / (n - 1) times: drawing n would make the variance of
    small classes (n - 1) / n of what it is (Rao and Wu 1988). A class of one row keeps it.
    """
    places = [np.flatnonzero(y == label) for label in np.unique(y)]
    step = max(1, WEIGHTS_AT_ONCE // max(len(y), size))
    for start in range(0, draws, step):
        here = min(step, draws - start)
        counts = np.ones((here, len(y)), np.float32)
        for rows in places:
            n = len(rows)
            if n > 1:
                drawn = generator.integers(0, n, (here, n - 1)) + n * np.arange(here)[:, None]
                counts[:, rows] = np.bincount(drawn.ravel(), minlength=here * n).reshape(here, n)
        yield counts


def _scored(probabilities: Floats, y: Labels, counts: Weights, metric: Metric, of_class: int | None) -> Floats:
    """The scores ``(d, M)`` where rows are drawn ``counts`` ``(d, N)`` times."""
    if metric == "average_precision":
        weights = _row_weights(counts, y)
        scores = [average_precisions(ranked, y == of_class, weights) for ranked in probabilities[:, :, of_class]]
        return np.stack(scores, axis=1).astype(np.float64)
    confusion, present = _confusion(probabilities, y, counts), np.unique(y)
    found: Floats
    if metric == "macro_f1":
        found = f1s_of(confusion, present).mean(axis=-1)
    elif metric == "balanced_accuracy":
        found = recalls_of(confusion, present).mean(axis=-1)
    elif metric == "worst_recall":
        found = recalls_of(confusion, present).min(axis=-1)
    else:
        found = recalls_of(confusion, present[present == of_class])[..., 0]
    return found


def _row_weights(counts: Weights, y: Labels) -> Weights:
    """The weights ``(d, N)`` of rows drawn so often: each class weighs as many as it has rows."""
    weights = counts.copy()
    for label in np.unique(y):
        weights[:, y == label] *= _class_weights(counts[:, y == label])[:, None]
    return weights


def _class_weights(counts: Weights) -> Floats:
    """What a drawn row of a class weighs ``(d,)``, for the counts ``(d, n)`` of its n rows."""
    found: Floats = counts.shape[1] / counts.sum(axis=1, dtype=np.float64)
    return found


def _confusion(probabilities: Floats, y: Labels, counts: Weights) -> Floats:
    """Weighted counts ``(d, M, K, K)`` by label and prediction; a matrix product for each label.

    The product is of whole numbers, which single precision adds up exactly in whatever order: classifiers that predict
    the same have the same scores on every processor.
    """
    models, rows, classes = probabilities.shape
    predicted = np.zeros((rows, models, classes), np.float32)
    np.put_along_axis(predicted, probabilities.argmax(axis=2).T[:, :, None], 1, axis=2)
    confusion = np.zeros((len(counts), models, classes, classes))
    for label in np.unique(y):
        here = y == label
        whole = counts[:, here] @ predicted[here].reshape(-1, models * classes)
        weighted = whole.astype(np.float64) * _class_weights(counts[:, here])[:, None]
        confusion[:, :, label] = weighted.reshape(-1, models, classes)
    return confusion
