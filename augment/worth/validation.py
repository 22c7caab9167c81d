"""Lift on validation rows alone, by which generators may be chosen; test rows are left to the one that was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from augment.store import ArtifactRef, Store
from augment.worth._arms import Arm
from augment.worth._concluding import Measured, best_arm
from augment.worth._resampling import scores_of
from augment.worth._rows_at_hand import labelled_classes
from augment.worth._scores import score
from augment.worth.record import Metric

DIGITS = 6


class ValidationLift(BaseModel):
    """What the best arm with synthetic rows scores on validation rows beyond the best without, over seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric
    best_with: str
    best_without: str
    score_with: float
    score_without: float
    by_seed: list[float]
    mean: float
    standard_error: float | None  # over seeds; null of one
    log_loss: float  # of the best arm with synthetic rows, which decides between equal lifts


def lift_on_validation(
    real: ArtifactRef, measured: Sequence[ArtifactRef], metric: Metric, store: Store
) -> ValidationLift:
    """The lift on validation rows of what :func:`augment.worth.lift.measure_arms` left, an artifact a seed.

    Neither the test rows nor what was predicted for them is read.
    """
    found = _measured_on_validation(store.path(real), [store.path(ref) for ref in measured])
    arms = {role: best_arm(found, role, metric) for role in ("with", "without")}
    predicted = {role: found.validation[found.arms.index(arm)] for role, arm in arms.items()}
    scores = {role: scores_of(p, found.validation_y, metric, found.of_class(metric)) for role, p in predicted.items()}
    lifts = scores["with"] - scores["without"]
    error = float(lifts.std(ddof=1)) / math.sqrt(len(lifts)) if len(lifts) > 1 else None
    losses = [score(of_seed, found.validation_y).log_loss for of_seed in predicted["with"]]
    return ValidationLift(
        metric=metric,
        best_with=arms["with"].name,
        best_without=arms["without"].name,
        score_with=round(float(scores["with"].mean()), DIGITS),
        score_without=round(float(scores["without"].mean()), DIGITS),
        by_seed=[round(float(lift), DIGITS) for lift in lifts],
        mean=round(float(lifts.mean()), DIGITS),
        standard_error=None if error is None else round(error, DIGITS),
        log_loss=round(float(np.mean(losses)), DIGITS),
    )


def _measured_on_validation(real: Path, folders: Sequence[Path]) -> Measured:
    """The predictions for validation rows of all seeds, stacked; nothing stands where those for test rows would be."""
    from safetensors import safe_open

    arms = [Arm.model_validate(value) for value in json.loads((folders[0] / "arms.json").read_text())]
    by_seed = []
    for folder in folders:
        with safe_open(folder / "predictions.safetensors", "np") as file:
            by_seed.append([file.get_tensor(f"validation.{place}") for place in range(len(arms))])
    stacked = [np.stack(of_arm).astype(np.float64) for of_arm in zip(*by_seed, strict=True)]
    rarest = int(np.bincount(labelled_classes(real, "train")).argmin())
    return Measured(arms, stacked, [], labelled_classes(real, "validation"), np.empty(0, np.int64), rarest)
