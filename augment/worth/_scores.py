"""How good predicted probabilities are on labelled rows: scores in which no class counts more for having more rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Weights = NDArray[np.float32] | NDArray[np.float64]

CALIBRATION_BINS = 15  # of equal width, as in "On Calibration of Modern Neural Networks", arXiv:1706.04599
SURE = float(np.finfo(np.float64).eps)  # probabilities below it cost as much as it does


@dataclass(frozen=True)
class Scores:
    """The scores of one classifier on held-out rows; classes without a held-out row are in none of them.

    ``calibration_error`` is the expected difference between the probability of the predicted class and how often it is
    right; ``log_loss`` is in nats a row. Of these two less is better, of all others more.
    """

    balanced_accuracy: float
    macro_f1: float
    worst_recall: float
    worst_class: int
    average_precision: float | None
    calibration_error: float
    log_loss: float
    recalls: Mapping[int, float]  # by y


def score(probabilities: Floats, y: Labels, of_class: int | None = None) -> Scores:
    """The scores of ``probabilities`` ``(N, K)`` for rows of the classes ``y`` ``(N,)``.

    ``of_class`` is the class whose average precision is asked for: of two, the one that is rarer in the training rows,
    which the held-out rows cannot tell. It is None without it, and where no held-out row or every one is of it.

    Raises:
        ValueError: there are no rows, or the shapes do not belong together.
    """
    check_shapes(probabilities, y)
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (y, predicted), 1)
    present = np.flatnonzero(confusion.sum(axis=1))
    recalls = recalls_of(confusion, present)
    worst = int(recalls.argmin())
    precision = None
    if of_class is not None and 0 < (y == of_class).sum() < len(y):
        precision = float(average_precisions(probabilities[:, of_class], y == of_class, np.ones((1, len(y))))[0])
    certain = probabilities[np.arange(len(y)), y]
    return Scores(
        balanced_accuracy=float(recalls.mean()),
        macro_f1=float(f1s_of(confusion, present).mean()),
        worst_recall=float(recalls[worst]),
        worst_class=int(present[worst]),
        average_precision=precision,
        calibration_error=_calibration_error(probabilities.max(axis=1), predicted == y),
        log_loss=float(-np.log(np.clip(certain, SURE, 1)).mean()),
        recalls={int(label): float(recall) for label, recall in zip(present, recalls, strict=True)},
    )


def check_shapes(probabilities: Floats, y: Labels) -> None:
    """Refuse probabilities ``(..., N, K)`` that are not of the rows of ``y`` ``(N,)``.

    Raises:
        ValueError: there are no rows, or the shapes or the labels do not fit.
    """
    if not len(y):
        raise ValueError("scores need held-out rows")
    if probabilities.shape[-2] != len(y):
        raise ValueError(f"probabilities of {probabilities.shape[-2]} rows do not fit {len(y)} labels")
    if y.min() < 0 or y.max() >= probabilities.shape[-1]:
        raise ValueError(f"labels must lie between 0 and {probabilities.shape[-1] - 1}, the last class")


def recalls_of(confusion: Floats, present: Labels) -> Floats:
    """The recall ``(..., P)`` of each class in ``present``, from counts ``(..., K, K)`` by label and prediction."""
    right = confusion[..., present, present]
    found: Floats = right / confusion[..., present, :].sum(axis=-1)
    return found


def f1s_of(confusion: Floats, present: Labels) -> Floats:
    """The F1 ``(..., P)`` of each class in ``present``: 2 right / (rows of the class + rows predicted to be of it)."""
    right = confusion[..., present, present]
    of_class, predicted = confusion[..., present, :].sum(axis=-1), confusion[..., :, present].sum(axis=-2)
    found: Floats = 2 * right / (of_class + predicted)
    return found


def average_precisions(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    """The average precision ``(D,)`` of ranking rows by ``scores`` ``(N,)``, for each of D ``weights`` ``(D, N)``.

    sum_i (R_i - R_{i-1}) P_i over the distinct scores from the largest on, without interpolation; rows of one score
    are found together.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each group of equal scores
    places = np.flatnonzero(positive[order])
    ends = last[np.searchsorted(last, places)]  # of the group that each positive row is in
    weights = weights[:, order]
    found = weights.cumsum(axis=1)[:, ends]
    true = weights[:, places].cumsum(axis=1)
    in_group = true[:, np.searchsorted(places, ends, side="right") - 1]
    precision = np.divide(in_group, found, out=np.zeros_like(found), where=found > 0)
    averages: Floats = (weights[:, places] * precision).sum(axis=1) / true[:, -1]
    return averages


def _calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(right))
