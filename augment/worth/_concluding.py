"""From predictions to a verdict: arms are chosen on validation rows, lifts are measured on test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from augment.worth._arms import Arm
from augment.worth._resampling import Metric as Lifted
from augment.worth._resampling import scores_of
from augment.worth._scores import score
from augment.worth.equivalence import equivalent_rows
from augment.worth.record import ArmRecord, Lift, Metric, WorthRecord
from augment.worth.statistics import PairedLift, compare, holm, verdict

Stacked = NDArray[np.float64]  # (seeds, rows, classes)
OVERALL: tuple[Lifted, ...] = ("balanced_accuracy", "macro_f1", "worst_recall")
SHOWN = ("balanced_accuracy", "macro_f1", "worst_recall", "calibration_error", "log_loss", "average_precision")


class Measured(NamedTuple):
    """The arms, what each predicts for validation and test rows ``(S, N, K)``, and the classes of these ``(N,)``.

    ``rarest`` is the class with the fewest training rows, of which average precision is taken.
    """

    arms: list[Arm]
    validation: list[Stacked]
    test: list[Stacked]
    validation_y: NDArray[np.int64]
    test_y: NDArray[np.int64]
    rarest: int

    def of_class(self, metric: Lifted) -> int | None:
        """The class that a metric is of, null for one of all classes."""
        return self.rarest if metric == "average_precision" else None


def best_arm(measured: Measured, role: str, metric: Metric) -> Arm:
    """The arm of a role with the best mean score on validation rows; of equal ones the smallest log loss."""
    of_class = measured.of_class(metric)

    def key(place: int) -> tuple[float, float]:
        predicted = measured.validation[place]
        found = scores_of(predicted, measured.validation_y, metric, of_class)
        losses = [score(p, measured.validation_y).log_loss for p in predicted]
        return float(found.mean()), -float(np.mean(losses))

    places = [place for place, arm in enumerate(measured.arms) if arm.role == role]
    return measured.arms[max(places, key=key)]


def concluded(
    measured: Measured,
    parts: Measured | None,
    sizes: Sequence[int],
    metric: Metric,
    measurable_at: float,
    names: Sequence[str],
    seed: int,
) -> WorthRecord:
    """The record without what only the stage knows; ``sizes`` are rows of a scarce class, of each part and of all."""
    first, second = (best_arm(measured, role, metric) for role in ("with", "without"))
    of = {arm.name: place for place, arm in enumerate(measured.arms)}
    base = measured.test[of[second.name]]
    binary = measured.rarest if len(names) == 2 else None

    def lift(name: str, by: Lifted = metric) -> PairedLift:
        return compare(measured.test[of[name]], base, measured.test_y, by, seed, of_class=measured.of_class(by))

    lifts = {arm.name: lift(arm.name) for arm in measured.arms if arm.name != second.name}
    adjusted = _adjusted(measured.arms, lifts)
    head = lifts[first.name]
    word = verdict(head, measurable_at)
    others = [by for by in OVERALL if by != metric]
    if binary is not None and metric != "average_precision":
        others.append("average_precision")
    equivalent, curve = _equivalent(measured, parts, of, (first, second), sizes, metric, seed)
    return WorthRecord(
        verdict=word,
        sentence=_sentence(word, head, first, second, metric, measurable_at),
        metric=metric,
        seeds=len(base),
        generators=1,
        arms=[
            _arm_record(measured, place, metric, binary, _short(lifts.get(arm.name), adjusted.get(arm.name)))
            for place, arm in enumerate(measured.arms)
        ],
        best_with=first.name,
        best_without=second.name,
        lift={**_plain(head), "measurable_at": measurable_at},
        by_metric={by: found for by in others if (found := _short(lift(first.name, by), None)) is not None},
        recalls=_recalls_of(measured, of[first.name], of[second.name], names),
        equivalent=equivalent,
        curve=curve,
    )


def _adjusted(arms: Sequence[Arm], lifts: dict[str, PairedLift]) -> dict[str, float]:
    """The p-values of the arms with synthetic rows, adjusted for there being several."""
    tested = [(arm.name, p) for arm in arms if arm.role == "with" and (p := lifts[arm.name].p_value) is not None]
    return dict(zip([name for name, _ in tested], holm([p for _, p in tested]), strict=True))


def _arm_record(measured: Measured, place: int, metric: Metric, binary: int | None, lift: Lift | None) -> ArmRecord:
    arm = measured.arms[place]
    of_class = measured.of_class(metric)
    scores = [asdict(score(p, measured.test_y, binary)) for p in measured.test[place]]
    test = {name: _figure(np.mean([s[name] for s in scores])) for name in SHOWN if scores[0][name] is not None}
    by_seed, validation = (
        scores_of(predicted, y, metric, of_class)
        for predicted, y in (
            (measured.test[place], measured.test_y),
            (measured.validation[place], measured.validation_y),
        )
    )
    return ArmRecord(
        name=arm.name,
        learner=arm.learner,
        method=arm.method,
        role=arm.role,
        validation=_figure(validation.mean()),
        test=test,
        by_seed=[_figure(value) for value in by_seed],
        lift=lift,
    )


def _recalls_of(measured: Measured, first: int, second: int, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The mean recall of each class that test rows have, of the arms at two places."""
    sides = {"with": measured.test[first], "without": measured.test[second]}
    means = {
        side: np.mean([_recalls(p, measured.test_y, len(names)) for p in predicted], axis=0)
        for side, predicted in sides.items()
    }
    known = np.flatnonzero(np.isfinite(means["with"])).tolist()
    return {names[y]: {side: _figure(mean[y]) for side, mean in means.items()} for y in known}


def _recalls(predicted: NDArray[np.float64], y: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """The recall of each class, not a number where no row is of it."""
    found = score(predicted, y).recalls
    return np.array([found.get(label, np.nan) for label in range(num_classes)])


def _equivalent(
    measured: Measured,
    parts: Measured | None,
    of: dict[str, int],
    best: tuple[Arm, Arm],
    sizes: Sequence[int],
    metric: Metric,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The equivalent real rows, and the learning curve that says so; neither where there are too few rows for one."""
    if parts is None:
        return {}, {}
    of_class = measured.of_class(metric)

    def scores(predicted: Stacked) -> NDArray[np.float64]:
        return scores_of(predicted, measured.test_y, metric, of_class)

    target, whole = (scores(measured.test[of[arm.name]]) for arm in best)
    points = {size: scores(predicted) for size, predicted in zip(sizes, [*parts.test], strict=False)}
    points[sizes[-1]] = whole
    rising = sorted(points)
    curve = np.stack([points[size] for size in rising], axis=1)
    drawn = {"rows": rising, "scores": [_figure(v) for v in curve.mean(axis=0)], "arm": best[1].name}
    if len(rising) < 2:
        return {}, drawn
    return asdict(equivalent_rows(rising, curve, target, seed)), drawn


def _short(lift: PairedLift | None, p: float | None) -> Lift | None:
    if lift is None:
        return None
    low, high = (None, None) if lift.interval is None else (_figure(v) for v in lift.interval)
    return Lift(mean=_figure(lift.mean), low=low, high=high, p=None if p is None else _figure(p))


def _plain(lift: PairedLift) -> dict[str, Any]:
    found = asdict(lift)
    for name, value in found.items():
        if isinstance(value, float):
            found[name] = _figure(value)
        elif isinstance(value, list | tuple):
            found[name] = [_figure(v) for v in value]
    return found


def _figure(value: Any) -> float:
    return round(float(value), 6)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _sentence(word: str, lift: PairedLift, first: Arm, second: Arm, metric: str, measurable_at: float) -> str:
    """What a person reads."""
    title = metric.replace("_", " ")
    said = (
        f"{first.name} beside {second.name}, the best without synthetic rows: {_points(lift.mean)} points of {title} "
    )
    said += "on held-out real rows"
    if lift.interval is None:
        return f"Not measurable here: {said}, from one seed, which says nothing of how sure that is."
    said += f", 95% interval {_points(lift.interval.low)} to {_points(lift.interval.high)}"
    openings = {
        "helps": "Synthetic rows help",
        "harms": "Synthetic rows harm",
        "no clear difference": "No benefit found, and no harm",
        "not measurable here": "Not measurable here",
    }
    closing = ""
    if word == "not measurable here" and lift.smallest_effect is not None:
        closing = (
            f"; these seeds and test rows could have shown {100 * lift.smallest_effect:.1f} points or more, and "
            f"{100 * measurable_at:.1f} are asked for"
        )
    return f"{openings[word]}: {said}{closing}."
