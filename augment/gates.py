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
# What depends on the reader's machine or on older versions is not part of what makes a version itself.
NOT_IN_VERSION_HASH = ("consumer_smoke", "regression")

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


def blessed(results: Iterable[GateResult]) -> bool:
    """Whether no critical gate failed."""
    return not any(r.passed is False and r.severity == "critical" for r in results)


def in_order(results: Iterable[GateResult]) -> list[GateResult]:
    """The results in the order of :data:`GATES`."""
    return sorted(results, key=lambda r: GATES.index(r.gate))


def save_gates(path: Path, results: Iterable[GateResult]) -> None:
    """Write results as a JSON list."""
    path.write_text(json.dumps([r.model_dump() for r in in_order(results)], indent=1) + "\n")


def load_gates(path: Path) -> list[GateResult]:
    """Read what :func:`save_gates` wrote."""
    return [GateResult.model_validate(value) for value in json.loads(path.read_text())]
