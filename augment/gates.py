"""The verdict: what each gate measured, what it allowed, and whether the data may be published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

# In the order in which they are judged and shown.
GATES = (
    "lineage",
    "structure",
    "test_leak",
    "duplicates",
    "class_plan",
    "sample_quality",
    "label_agreement",
    "marginals",
    "joint",
    "coverage",
    "copying",
    "shortcut",
    "worth",
    "consumer_smoke",
    "regression",
)
# Gates beyond those, each by the gate after which it comes; one is absent where the run file does not ask for it.
ON_REQUEST = {"likelihood": "label_agreement", "posterior_predictive": "joint"}
# What depends on the reader's machine or on older versions is not part of what makes a version itself.
NOT_IN_VERSION_HASH = ("consumer_smoke", "regression")

NO_CHECK = "Not measured: no check for it exists yet."
WORTH_NOT_MEASURED = "Worth not measured: whether the synthetic rows help a classifier is not known."

Severity = Literal["critical", "warning"]


class GateResult(BaseModel):
    """One gate's figure and verdict; ``passed`` is null where the gate does not apply or was not measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    value: float | None
    floor: float | None  # what real rows score against real rows, where the limit is relative to that
    limit: float | None
    severity: Severity
    passed: bool | None
    sentence: str


def plural(number: int, noun: str) -> str:
    """``1 row``, ``2 rows``, ``1,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def unmeasured(gate: str, sentence: str, severity: Severity = "warning") -> GateResult:
    """The result of a gate without a verdict; the sentence says why there is none."""
    return GateResult(gate=gate, value=None, floor=None, limit=None, severity=severity, passed=None, sentence=sentence)


def with_all_gates(results: Iterable[GateResult]) -> list[GateResult]:
    """The results in order; a gate of :data:`GATES` that is not among them was not measured."""
    found = list(results)
    absent = [name for name in GATES if name not in {result.gate for result in found}]
    said = {"worth": WORTH_NOT_MEASURED}
    return in_order([*found, *(unmeasured(name, said.get(name, NO_CHECK)) for name in absent)])


def judged(results: Iterable[GateResult]) -> list[GateResult]:
    """The results that have a verdict, in order."""
    return [result for result in in_order(results) if result.passed is not None]


def not_judged(results: Iterable[GateResult]) -> dict[str, list[str]]:
    """The gates without a verdict by the sentence that says why, both in order: few lines for many gates."""
    found: dict[str, list[str]] = {}
    for result in in_order(results):
        if result.passed is None:
            found.setdefault(result.sentence, []).append(result.gate)
    return found


def blessed(results: Iterable[GateResult]) -> bool:
    """Whether no critical gate failed."""
    return not any(r.passed is False and r.severity == "critical" for r in results)


def place_of(gate: str) -> tuple[int, bool]:
    """Orders gates as :data:`GATES` does; one of :data:`ON_REQUEST` comes after the gate that it belongs to."""
    return GATES.index(ON_REQUEST.get(gate, gate)), gate in ON_REQUEST


def in_order(results: Iterable[GateResult]) -> list[GateResult]:
    """The results in the order in which gates are judged and shown."""
    return sorted(results, key=lambda r: place_of(r.gate))


def save_gates(path: Path, results: Iterable[GateResult]) -> None:
    """Write results as a JSON list."""
    path.write_text(json.dumps([r.model_dump() for r in in_order(results)], indent=1) + "\n")


def load_gates(path: Path) -> list[GateResult]:
    """Read what :func:`save_gates` wrote."""
    return [GateResult.model_validate(value) for value in json.loads(path.read_text())]
