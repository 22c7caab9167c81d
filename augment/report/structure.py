"""What gates kept of how sets differ: associations of columns, distances of measures, rows as an encoder sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from augment.report.charts import Histogram
from augment.report.distances import Distance, Missing

MARGINALS, JOINT, COVERAGE = "marginals", "joint", "coverage"  # gates
DRAWN = 12  # measures whose histograms are drawn
ASSOCIATIONS_SHOWN = 12
CLASSES = 24  # whose rows are drawn in the map
SIDE, EDGE = 200, 8  # of a map and of the room around its points, in its own units
BAR = 200  # of an association from -1 to 1


class Gauge(NamedTuple):
    """The distance of a column or measure as the gate ``marginals`` found it, and what it would refuse."""

    name: str
    distance: float
    limit: float


@dataclass(frozen=True)
class Association:
    """How strongly two columns hang together, in real and in synthetic rows."""

    title: str
    inside: bool
    real: float
    synthetic: float
    change: float
    limit: float

    @property
    def real_x(self) -> float:
        """The place on a line of 200 from -1 to 1."""
        return round((self.real + 1) / 2 * BAR, 1)

    @property
    def synthetic_x(self) -> float:
        """The same of synthetic rows."""
        return round((self.synthetic + 1) / 2 * BAR, 1)


class Associations(NamedTuple):
    """The most changed first, and how well a classifier tells the sides apart by all columns (an AUC), if measured."""

    shown: Sequence[Association]
    rest: Sequence[Association]
    auc: float | None


class ClassMap(NamedTuple):
    """The rows of a class in the map, as paths of dots."""

    name: str
    real: str
    synthetic: str
    rows: tuple[int, int]


class FeatureMap(NamedTuple):
    """Rows in the first two principal components of an encoder's features, and the share of variance these hold."""

    real: str
    synthetic: str
    rows: tuple[int, int]
    classes: Sequence[ClassMap]
    explained: float
    hidden: int


def gauges_of(details: Mapping[str, Any]) -> list[Gauge]:
    """Every distance that the gate measured, largest first."""
    columns = details.get(MARGINALS, {}).get("columns", [])
    return [Gauge(column["name"], column["distance"], column["limit"]) for column in columns]


def measures_of(details: Mapping[str, Any], known: Collection[str]) -> list[Histogram]:
    """Histograms of what the gate measured in values, where the page has no drawing of its own."""
    columns = details.get(MARGINALS, {}).get("columns", [])
    drawn = [column for column in columns if "low" in column and column["name"] not in known]
    return [
        Histogram(
            title=column["name"],
            distance=Distance("KS", column["distance"], None, {}),
            missing=Missing(0.0, 0.0),
            edges=tuple(np.linspace(column["low"], column["high"], len(column["real"]) + 1).tolist()),
            real=tuple(column["real"]),
            synthetic=tuple(column["synthetic"]),
        )
        for column in drawn[:DRAWN]
    ]


def associations_of(details: Mapping[str, Any]) -> Associations | None:
    """What the gate ``joint`` says of pairs of columns; null where it compared none."""
    found = details.get(JOINT, {})
    pairs = [
        Association(
            f"{pair['first']} and {pair['second']}",
            pair["inside_classes"],
            pair["real"],
            pair["synthetic"],
            pair["change"],
            pair["limit"],
        )
        for pair in found.get("pairs", [])
    ]
    told = found.get("c2st")
    auc = told["auc"] if told else None
    return Associations(pairs[:ASSOCIATIONS_SHOWN], pairs[ASSOCIATIONS_SHOWN:], auc) if pairs else None


def map_of(details: Mapping[str, Any]) -> FeatureMap | None:
    """The map that the gate ``coverage`` kept; null without one."""
    found = details.get(COVERAGE, {}).get("map")
    if not found:
        return None
    sides = {name: ([*rows["train"], *rows["held_out"]], rows["synthetic"]) for name, rows in found["classes"].items()}
    points = np.array([point for both in sides.values() for side in both for point in side], dtype=np.float64)
    if not len(points):
        return None
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = (SIDE / 2 - EDGE) / max(float(np.abs(points - middle).max()), 1e-9)  # the same of both components

    def dots(rows: Sequence[Sequence[float]]) -> str:
        """Lines of no length, whose round or square ends are the dots."""
        places = SIDE / 2 + (np.array(rows, dtype=np.float64).reshape(-1, 2) - middle) * (scale, -scale)
        return "".join(f"M{x:.1f},{y:.1f}h0" for x, y in places)

    classes = [
        ClassMap(name, dots(real), dots(synthetic), (len(real), len(synthetic)))
        for name, (real, synthetic) in sides.items()
    ]
    real, synthetic = ([row for both in sides.values() for row in both[part]] for part in (0, 1))
    shown = classes[:CLASSES] if len(classes) > 1 else []
    return FeatureMap(
        dots(real),
        dots(synthetic),
        (len(real), len(synthetic)),
        shown,
        sum(found["explained"]),
        len(classes) - len(shown) if shown else 0,
    )
