"""Coverage: the synthetic rows reach as much of the real variety as other real rows do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, between, bounded
from augment.checks._encoded import drawn_of, nets_of
from augment.checks._real import RealRows
from augment.schema import class_titles
from augment.worth.feature_map import feature_map
from augment.worth.fidelity import Diversity, Figure, mean_figure, measure_diversity

GATE = "coverage"
FEWEST = 20  # held-out rows of a class, and rows compared with them, by which the class is judged by itself


class Coverage(Check):
    """Refuses rows that leave out part of what real rows are like, class by class.

    Coverage is the share of held-out real rows that have a synthetic row among their nearest real neighbours, within
    their class and in the features of nets trained on other real rows (arXiv:2002.09797). The floor is what training
    rows that the net has not seen score in the place of the synthetic ones, as many of them. Density and the Fréchet
    distance (arXiv:1706.08500) in the same features are shown; a distance of more than ``frechet_of_floor`` times the
    real one is a warning.
    """

    kind: Literal["coverage"] = "coverage"
    summary: ClassVar[str] = "held-out real rows have synthetic neighbours as often as other real rows (coverage)"
    needs_encoders: ClassVar[bool] = True
    better: ClassVar[Literal["high", "low"] | None] = "high"

    of_floor: float = Field(0.8, gt=0, le=1, allow_inf_nan=False, description="Least coverage over that of real rows.")
    class_of_floor: float = Field(0.5, gt=0, le=1, allow_inf_nan=False, description="The same of the worst class.")
    frechet_of_floor: float = Field(3.0, ge=1, allow_inf_nan=False, description="Largest Fréchet distance over real's.")

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """How many held-out rows there are of each class."""
        names = class_titles(real.schema)
        return {"rows": {names[y]: len(x) for y, x in nets_of(real).real.held_out.items()}}

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The mean coverage over classes, and the coverage of each that has rows enough."""
        side, names = nets_of(evidence).real, class_titles(evidence.schema)
        found = measure_diversity(side, drawn_of(evidence).rows)
        asked = {y for y, name in enumerate(names) if evidence.wanted.get(name, 0) > 0}  # others are left to `shortcut`
        coverage = mean_figure(figure for y, figure in found.coverage.items() if y in asked)
        density = mean_figure(figure for y, figure in found.density.items() if y in asked)
        if coverage.value is None or coverage.floor is None:
            return Finding(
                "No class has two real validation rows, and training rows enough, to measure coverage by; "
                "raise split.validation.",
                applies=False,
            )
        classes = {names[y]: figure for y, figure in found.coverage.items() if y in asked}
        large = [(name, figure) for name, figure in self._large(found, names) if name in classes]
        judged = {name: _excess(figure, learned.figures["rows"][name], self.class_of_floor) for name, figure in large}
        worst = min(judged, key=lambda name: judged[name], default=None)
        rows = sum(learned.figures["rows"][name] for name in classes)
        limit = max(0.0, self.of_floor * coverage.floor - _error(coverage.floor, rows, self.of_floor))
        least = judged[worst] if worst is not None else 0.0
        reaches = coverage.value >= limit and least >= 0
        # only where nothing critical is said already: a failure of the gate has one severity
        far = _far(found.frechet, self.frechet_of_floor) if reaches and set(found.coverage) <= asked else None
        largest = self.frechet_of_floor * (found.frechet.floor or 0)
        far_expected = [between(f"{GATE}.frechet", None, largest)] if far else []
        return Finding(
            _sentence(coverage, limit, worst if least < 0 else None, classes) + (far or ""),
            severity="warning" if far else None,
            value=coverage.value,
            floor=coverage.floor,
            limit=limit,
            metrics={
                "coverage": coverage.value,
                "least_above_class_limit": least,
                **_known("density", density),
                **_known("frechet", found.frechet),
            },
            class_metrics={"coverage": [_value(classes.get(name)) for name in evidence.wanted]},
            set_expectations=[
                *bounded(f"{GATE}.coverage", limit, None),
                *bounded(f"{GATE}.least_above_class_limit", 0, None),
                *far_expected,
            ],
            details={
                "density": [density.value, density.floor],
                "frechet": [found.frechet.value, found.frechet.floor],
                "classes": {name: [figure.value, figure.floor] for name, figure in classes.items()},
                "map": feature_map(side, drawn_of(evidence).rows, names),
            },
        )

    def _large(self, found: Diversity, names: list[str]) -> list[tuple[str, Figure]]:
        """The classes that have rows enough to be judged by themselves."""
        return [
            (names[y], figure)
            for y, figure in found.coverage.items()
            if figure.value is not None and figure.floor is not None and found.compared[y] >= FEWEST
        ]


def _excess(figure: Figure, rows: int, of_floor: float) -> float:
    """How far a class is above its limit."""
    assert figure.value is not None
    assert figure.floor is not None
    return figure.value - max(0.0, of_floor * figure.floor - _error(figure.floor, rows, of_floor))


def _error(floor: float, rows: int, of_floor: float) -> float:
    """Three standard errors of a coverage less ``of_floor`` times another, both of ``rows`` held-out rows."""
    rate = min(max(floor, 0.02), 0.98)
    return 3 * math.sqrt(rate * (1 - rate) * (1 + of_floor**2) / max(1, rows))


def _far(frechet: Figure, of_floor: float) -> str | None:
    """What is said of a Fréchet distance that is too large, or null."""
    if frechet.value is None or frechet.floor is None or frechet.value <= of_floor * frechet.floor:
        return None
    return (
        f" The Fréchet distance is {frechet.value:.3g}, of real rows {frechet.floor:.3g}: more than {of_floor:g} times."
    )


def _known(name: str, figure: Figure) -> dict[str, float]:
    return {} if figure.value is None else {name: figure.value}


def _value(figure: Figure | None) -> float:
    return math.nan if figure is None or figure.value is None else figure.value


def _sentence(coverage: Figure, limit: float, worst: str | None, classes: dict[str, Figure]) -> str:
    said = f"{coverage.value:.1%} of the held-out real rows, in the mean over classes, have a synthetic row near them "
    said += f"(as many real rows: {coverage.floor:.1%}; at least {limit:.1%} are required)"
    if worst is not None:
        said += f"; of class {worst} {classes[worst].value:.1%} have (real: {classes[worst].floor:.1%})"
    return said + "."
