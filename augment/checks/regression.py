"""Regression: no gate has become much worse since the version that readers have now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import augment.checks
from augment._layout import VERSIONS
from augment._manifest import Latest, Manifest
from augment._plugins import find_plugins
from augment.checks._contract import Check, Evidence, Finding, Learned
from augment.errors import IntegrityError
from augment.gates import GateResult, Severity, place_of, unmeasured

GATE = "regression"
WORSE = 0.10
INPUTS = {"source_fingerprint": "source data", "split": "split"}  # of the lineage
SECTIONS = ("model", "train", "generate", "plan")  # of the run file


class Regression(Check):
    """Warns where the figure of a gate is more than 10 % worse than in the last version.

    A gate's figure is compared where its check says which ones are better. The change is a share of the figure of the
    last version, or of the limit where that is more, so that a distance of next to nothing may double. Evaluators of
    TensorFlow Extended compare a candidate with the last blessed model in the same way. The last version is the one
    that readers get, which after a rollback is an older one; other data, another plan or another model are no reason
    not to compare, but are said.
    """

    kind: Literal["regression"] = "regression"
    summary: ClassVar[str] = "no figure of a gate is more than 10 % worse than in the last version"
    mandatory: ClassVar[bool] = True
    severity: ClassVar[Severity] = "warning"
    at_publication: ClassVar[bool] = True

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """Nothing: the last version is known when the next one is published; see :func:`compare_with_last`."""
        return Finding("It has not been compared with the last version.", applies=False)


def compare_with_last(dataset: Path, gates: Iterable[GateResult], lineage: Mapping[str, Any]) -> GateResult:
    """How ``gates`` compare with those of the latest version in the folder ``dataset``.

    ``lineage`` is that of the version to be published. Without a version before it, or one that can be read, there is
    no verdict.

    Raises:
        IntegrityError: the pointer to the latest version cannot be read.
    """
    latest = Latest.load(dataset)
    if latest is None:
        return unmeasured(GATE, "There is no version before this one to compare with.")
    try:
        last = Manifest.load(dataset / VERSIONS / latest.version)
    except IntegrityError:
        return unmeasured(GATE, f"The last version {latest.version} cannot be read, so nothing is compared with it.")
    before = {gate.gate: gate for gate in last.gates}
    known = find_plugins(augment.checks, Check)
    losses = {
        gate.gate: loss
        for gate in sorted(gates, key=lambda gate: place_of(gate.gate))
        if gate.gate in known and gate.gate in before
        if (loss := _loss(gate, before[gate.gate], known[gate.gate].better)) is not None
    }
    if not losses:
        return unmeasured(GATE, f"The last version {latest.version} has no figure that can be compared.")
    value = max(losses.values())
    return GateResult(
        gate=GATE,
        value=value,
        floor=None,
        limit=WORSE,
        severity=Regression.severity,
        passed=value <= WORSE,
        sentence=_sentence(losses, before, {gate.gate: gate for gate in gates}, last, lineage),
    )


def _loss(now: GateResult, before: GateResult, better: Literal["high", "low"] | None) -> float | None:
    """By which share the figure is worse than before, negative where it is better; null where that means nothing."""
    if better is None or now.value is None or before.value is None:
        return None
    worse = now.value - before.value if better == "low" else before.value - now.value
    scale = max(abs(before.value), abs(before.limit or 0.0))
    if scale == 0:
        return 0.0 if worse <= 0 else 1.0
    return round(worse / scale, 4)


def _sentence(
    losses: Mapping[str, float],
    before: Mapping[str, GateResult],
    now: Mapping[str, GateResult],
    last: Manifest,
    lineage: Mapping[str, Any],
) -> str:
    worse = {gate: loss for gate, loss in losses.items() if loss > WORSE}
    said = [f"{gate} {now[gate].value:.4g} after {before[gate].value:.4g}" for gate in worse]
    if said:
        told = f"More than {WORSE:.0%} worse than in the last version {last.version}: {', '.join(said)}."
    else:
        told = f"No figure is more than {WORSE:.0%} worse than in the last version {last.version}: {', '.join(losses)}."
    others = _differences(last.lineage, lineage)
    return f"{told} That version had another {' and another '.join(others)}." if others else told


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of data and settings was another one in the last version."""
    inputs = [name for key, name in INPUTS.items() if before.get(key) != now.get(key)]
    sections = [(lineage.get("config") or {}) for lineage in (before, now)]
    return inputs + [name for name in SECTIONS if sections[0].get(name) != sections[1].get(name)]
