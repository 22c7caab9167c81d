"""What the synthetic rows are worth, as geometry: a forest of all arms, recalls, the learning curve, the search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augment.report.worth_words import Said, basis_of, by_role, interval_of, said_of, score_of, signed
from augment.worth.record import ArmRecord, WorthRecord

WIDTH = 400  # of a drawing of one line, in its own units
CURVE_WIDTH, CURVE_HEIGHT = 640, 160
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # points between ticks
TICKS = 6
SEARCHED = 100  # policies that are listed
OUTER = 1.0  # how far the axis follows arms beyond those that learn from real rows, in lengths of what these take


@dataclass(frozen=True)
class Mark:
    """One arm's line of the forest: its score, and its lift over the reference with the interval on the common axis."""

    name: str
    role: str
    chosen: str  # for what the arm was chosen on validation rows; empty if for nothing
    validation: float
    test: float
    lift: str
    interval: str
    p: float | None
    x: float
    ends: tuple[float, float] | None
    beyond: tuple[bool, bool]  # whether the interval goes on left and right of the axis


@dataclass(frozen=True)
class Forest:
    """All arms by what they learn from; ``ticks`` are places on the axis with their points, ``zero`` is no lift."""

    groups: Mapping[str, Sequence[Mark]]
    ticks: Sequence[tuple[float, str]]
    zero: float


@dataclass(frozen=True)
class Recall:
    """The shares of a class's test rows that the best arms without and with synthetic rows recognise."""

    name: str
    without: float
    with_: float
    scarce: bool
    ends: tuple[float, float]  # the places of both on a line

    @property
    def change(self) -> str:
        """In points."""
        return signed(self.with_ - self.without)


@dataclass(frozen=True)
class LearningCurve:
    """The score without synthetic rows over real rows of each scarce class, and beside it the one with them."""

    arm: str
    points: Sequence[tuple[int, float, float, float]]  # rows, score, x, y
    path: str
    with_score: float
    with_y: float
    low: float
    high: float


@dataclass(frozen=True)
class Searched:
    """A classical policy that was tried: its parts, its mean score on validation rows, and how often it was trained."""

    policy: str
    score: float
    loss: float
    fits: int
    chosen: bool


@dataclass(frozen=True)
class Worth:
    """All that the page says of worth."""

    record: WorthRecord
    said: Said
    basis: str
    forest: Forest | None
    recalls: Sequence[Recall]
    least: float  # where the line of recalls begins
    curve: LearningCurve | None
    searched: Sequence[Searched]


def worth_of(found: Mapping[str, Any] | None) -> Worth | None:
    """The record, given as JSON values, as the page draws it; null where worth was not looked at."""
    if found is None:
        return None
    record = WorthRecord.model_validate(found)
    least = max(0.0, math.floor(10 * min([1.0, *(min(r.values()) for r in record.recalls.values())]) - 0.5) / 10)
    return Worth(
        record=record,
        said=said_of(record),
        basis=basis_of(record),
        forest=_forest(record) if record.arms else None,
        recalls=[_recall(name, recall, name in record.scarce, least) for name, recall in record.recalls.items()],
        least=least,
        curve=_curve(record),
        searched=_searched(record.search),
    )


def _recall(name: str, recall: Mapping[str, float], scarce: bool, least: float) -> Recall:
    places = [round(6 + (WIDTH - 12) * (recall[side] - least) / (1 - least), 1) for side in ("without", "with")]
    return Recall(name, recall["without"], recall["with"], scarce, (places[0], places[1]))


def _forest(record: WorthRecord) -> Forest:
    low, high = _axis(record.arms)

    def place(value: float) -> float:
        return round((min(max(value, low), high) - low) / (high - low) * WIDTH, 2)

    def mark(arm: ArmRecord) -> Mark:
        lift = arm.lift
        known = lift is not None and lift.low is not None and lift.high is not None
        ends = (lift.low, lift.high) if known and lift else None
        return Mark(
            name=arm.name,
            role=arm.role,
            chosen=_chosen(arm.name, record),
            validation=arm.validation,
            test=score_of(arm),
            lift=signed(lift.mean) if lift else "",
            interval=interval_of(lift) if lift else "",
            p=lift.p if lift else None,
            x=place(lift.mean if lift else 0.0),
            ends=(place(ends[0] or 0.0), place(ends[1] or 0.0)) if ends else None,
            beyond=((ends[0] or 0.0) < low, (ends[1] or 0.0) > high) if ends else (False, False),
        )

    groups = {title: [mark(arm) for arm in arms] for title, arms in by_role(record).items()}
    return Forest(groups, [(place(value), signed(value).removesuffix(".0")) for value in _ticks(low, high)], place(0.0))


def _chosen(name: str, record: WorthRecord) -> str:
    said = {record.best_with: "best with synthetic rows", record.best_without: "best without, the reference"}
    return said.get(name, "")


def _axis(arms: Iterable[ArmRecord]) -> tuple[float, float]:
    """Ends that hold zero and all arms that learn from real rows; what is far outside is cut off."""
    spans = {True: [0.0], False: [0.0]}
    for arm in arms:
        if arm.lift is not None:
            ends = (arm.lift.mean, arm.lift.low, arm.lift.high)
            spans[arm.role != "alone"] += [value for value in ends if value is not None]
    low, high = min(spans[True]), max(spans[True])
    length = (high - low) or 0.01
    low = min(low, max(min(spans[False]), low - OUTER * length))
    high = max(high, min(max(spans[False]), high + OUTER * length))
    margin = 0.04 * ((high - low) or 0.01)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    points = 100 * (high - low)
    step = next((step for step in STEPS if points / step <= TICKS), STEPS[-1]) / 100
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _curve(record: WorthRecord) -> LearningCurve | None:
    """Rows on a logarithmic axis, on which learning curves are nearly straight; null without two sizes."""
    rows, scores = record.curve.get("rows", []), record.curve.get("scores", [])
    best = next((arm for arm in record.arms if arm.name == record.best_with), None)
    if len(rows) < 2 or best is None:
        return None
    target: float = score_of(best)
    low, high = min(*scores, target), max(*scores, target)
    margin = 0.12 * ((high - low) or 0.01)
    low, high = max(0.0, low - margin), min(1.0, high + margin)
    height = CURVE_HEIGHT / (high - low)
    logs = np.log(rows)
    x = (20 + (logs - logs[0]) / (logs[-1] - logs[0]) * (CURVE_WIDTH - 40)).round(1).tolist()

    def y(score: float) -> float:
        return float(round((high - score) * height, 1))

    points = [(count, score, at, y(score)) for count, score, at in zip(rows, scores, x, strict=True)]
    path = "M" + "L".join(f"{at:g},{down:g}" for _, _, at, down in points)
    return LearningCurve(str(record.curve.get("arm", "")), points, path, target, y(target), low, high)


def _searched(search: Mapping[str, Any]) -> list[Searched]:
    """The policies that were tried, the best mean log loss first, as the search chooses."""
    chosen = search.get("chosen", [])
    found = [
        Searched(
            policy=", then ".join(tried["policy"]) or "images as they are",
            score=float(np.mean(tried["balanced_accuracy"])),
            loss=float(np.mean(tried["log_loss"])),
            fits=len(tried["log_loss"]),
            chosen=tried["policy"] == chosen,
        )
        for tried in search.get("candidates", [])
    ]
    return sorted(found, key=lambda tried: (not tried.chosen, -tried.score, tried.loss))[:SEARCHED]
