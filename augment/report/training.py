"""What was logged while the model was trained, as lines over the steps: one small drawing for each kind of figure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from augment.report.charts import HEIGHT
from augment.report.wording import number

WIDTH = 640  # of a drawing, in its own units
POINTS = 160
LINES = 5  # in a drawing, as many as have a colour
MARGIN = 4
SPOT_CHECK = ("coverage", "coverage_of_real", "near_copies")


class Sort(NamedTuple):
    """Figures that share an axis: by how their names end; ``span`` is what the axis holds, None: their own range.

    With ``apart`` each objective has a drawing of its own.
    """

    title: str
    endings: tuple[str, ...]
    note: str = ""
    span: tuple[float, float] | None = None
    apart: bool = False


SORTS = (
    Sort("Losses", ("loss", "nll", "kl")),
    Sort(
        "Rows drawn in training",
        SPOT_CHECK,
        "Now and then a few rows are drawn from the averaged weights. Coverage is the share of held-out rows that have "
        "a drawn row of their class as near as their nearest neighbours, coverage of real the same of as many training "
        "rows; near copies is the share that lies much nearer to a training row than held-out rows do.",
        (0.0, 1.0),
    ),
    Sort(
        "What a critic tells apart",
        ("accuracy_real", "accuracy_synthetic", "told"),
        "The shares of real and of synthetic rows on the right side of a threshold, and of pairs whose real row scores "
        "higher: a half where nothing can be told.",
        (0.0, 1.0),
        apart=True,
    ),
    Sort("Gradient norms", ("gradient_norm",)),
)


@dataclass(frozen=True)
class Line:
    """One figure over the steps: its name, its path, and its first and last value."""

    name: str
    path: str
    first: str
    last: str


@dataclass(frozen=True)
class Curve:
    """Figures of one sort over steps, on axes from ``low`` to ``high`` and up to step ``steps``."""

    title: str
    note: str
    lines: tuple[Line, ...]
    low: str
    high: str
    steps: str


def training_curves(path: Path | None) -> tuple[Curve, ...]:
    """What a ``metrics.jsonl`` holds over its steps, drawn by sort; none where there is no figure of it."""
    records = _records(path)
    names = list(dict.fromkeys(key for r in records for key in r if key != "step" and _is_number(r[key])))
    drawings = (drawing for sort in SORTS for drawing in _drawings(sort, [n for n in names if _is_of(n, sort)]))
    return tuple(_curve(sort, drawn, records) for sort, drawn in drawings)


def last_spot_check(path: Path | None) -> dict[str, float] | None:
    """The step and the figures of the last rows that were drawn to look at, None where none were."""
    for record in reversed(_records(path)):
        if all(_is_number(record.get(name)) for name in SPOT_CHECK):
            return {name: record[name] for name in ("step", *SPOT_CHECK)}
    return None


def _drawings(sort: Sort, names: Sequence[str]) -> Iterator[tuple[Sort, Sequence[str]]]:
    """The figures of each drawing, under a title of its own; the note stands under the last."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[0] if sort.apart else "", []).append(name)
    found: list[tuple[str, Sequence[str]]] = []
    for objective, group in groups.items():
        title = f"{sort.title}: {objective.replace('_', ' ')}" if len(groups) > 1 and objective else sort.title
        parts = range(0, len(group), LINES)
        found.extend((f"{title}, continued" if at else title, group[at : at + LINES]) for at in parts)
    for place, (title, drawn) in enumerate(found, 1):
        yield sort._replace(title=title, note=sort.note if place == len(found) else ""), drawn


def _is_of(name: str, sort: Sort) -> bool:
    term = name.rpartition(".")[2]
    return term in sort.endings or ("loss" in sort.endings and "loss" in term)


def _curve(sort: Sort, names: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Curve:
    series = {n: _thinned([(float(r["step"]), float(r[n])) for r in records if _is_number(r.get(n))]) for n in names}
    values = np.array([value for points in series.values() for _, value in points])
    # the first steps may run out of the picture
    low, high = sort.span or (float(values.min()), float(np.quantile(values, 0.98)))
    last_step = max(float(record["step"]) for record in records) or 1.0
    scale = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)

    def place(step: float, value: float) -> str:
        return f"{step / last_step * WIDTH:.4g},{MARGIN + (high - value) * scale:.4g}"

    lines = (
        Line(
            name=name.replace("_", " "),
            path="M" + "L".join(place(*p) for p in points),
            first=number(points[0][1]),
            last=number(points[-1][1]),
        )
        for name, points in series.items()
    )
    return Curve(sort.title, sort.note, tuple(lines), number(low), number(high), number(last_step))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _records(path: Path | None) -> list[dict[str, Any]]:
    """The records of a JSON lines file that say their step; a line cut short by a kill is passed over."""
    records = []
    for line in path.read_text().splitlines() if path is not None and path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and _is_number(record.get("step")):
            records.append(record)
    return records


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``POINTS`` points, each the mean of its neighbours."""
    parts = np.array_split(np.array(sorted(points)), min(len(points), POINTS))
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
