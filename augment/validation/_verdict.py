"""What all shards amount to: the tables of the set and of the classes, what is expected of them, and the verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import augment.checks
from augment._plugins import find_plugins
from augment.checks._contract import Check, Choice, Evidence, Finding, Judged, Learned, share, sum_by_name
from augment.checks._encoded import rows_of_set
from augment.errors import AugmentError
from augment.gates import GateResult, save_gates, unmeasured, with_all_gates
from augment.schema import DatasetSchema
from augment.selection import Selection
from augment.validation._expectations import GateExpect, judge, resolved_suite
from augment.validation._judging import Yardstick, rejects_schema


def known_checks() -> dict[str, type[Check]]:
    """The checks that exist, by kind."""
    return find_plugins(augment.checks, Check)


def write_verdict(folder: Path, evidence: Evidence, yardstick: Yardstick) -> None:
    """Judge the tables of the set and of the classes, and write everything but the rejects."""
    import pandas as pd

    if evidence.encoders is not None:
        evidence = replace(evidence, drawn_rows=rows_of_set(evidence))
    checks = [check for check in yardstick.checks if not check.at_publication]
    findings = {check.kind: _found(check, evidence, yardstick.learned[check.kind]) for check in checks}
    set_metrics = pd.DataFrame([_set_row(findings)])
    columns = {f"{k}.{name}": values for k, f in findings.items() for name, values in f.class_metrics.items()}
    class_metrics = pd.DataFrame({"class": list(evidence.wanted), **columns})
    of_set = [(kind, expectation) for kind, finding in findings.items() for expectation in finding.set_expectations]
    of_class = [(kind, expectation) for kind, finding in findings.items() for expectation in finding.class_expectations]
    verdicts = judge("set_metrics", set_metrics, of_set) + judge("class_metrics", class_metrics, of_class)
    save_gates(folder / "gates.json", _results(checks, findings, verdicts, evidence))
    pq.write_table(pa.Table.from_pandas(set_metrics, preserve_index=False), folder / "set_metrics.parquet")
    pq.write_table(pa.Table.from_pandas(class_metrics, preserve_index=False), folder / "class_metrics.parquet")
    of_rows = [(c.kind, e) for c in yardstick.checks for e in c.row_expectations(yardstick.learned[c.kind])]
    _write_suites(folder / "suites", {"sample_features": of_rows, "set_metrics": of_set, "class_metrics": of_class})
    _write_json(folder / "metrics.json", _metrics(evidence, findings, yardstick.selection))


def _found(check: Check, evidence: Evidence, learned: Learned) -> Finding:
    """What the check measured.

    Raises:
        AugmentError: it applies, but expects nothing of the set, so that nothing could refuse it.
    """
    finding = check.find(evidence, learned)
    if finding.applies and not finding.set_expectations:
        raise AugmentError(
            f"the check {check.kind} applies but expects nothing of the set, so it could never fail; "
            "give its finding set_expectations, or applies=False."
        )
    return finding


def _results(
    checks: Sequence[Check], findings: Mapping[str, Finding], verdicts: Sequence[Judged], evidence: Evidence
) -> list[GateResult]:
    """One result a gate: what was measured, what could not be, what was left out, and what there is no check for."""
    results = []
    stopped_by: str | None = None
    for check in checks:
        if stopped_by is not None:
            sentence = f"Not measured, because the gate {stopped_by} failed."
            results.append(unmeasured(check.kind, sentence, check.graded))
            continue
        result = _result(check, findings[check.kind], verdicts, evidence)
        results.append(result)
        if check.stops and result.passed is False:
            stopped_by = check.kind
    for kind, known in known_checks().items():
        if known.default_on and kind not in {check.kind for check in checks}:
            sentence = known.pending if known.at_publication else "Left out by the run file."
            results.append(unmeasured(kind, sentence, known.severity))
    return with_all_gates(results)


def _result(check: Check, finding: Finding, verdicts: Sequence[Judged], evidence: Evidence) -> GateResult:
    """The verdict of one gate; what could not be checked has failed."""
    own = [verdict for verdict in verdicts if verdict.gate == check.kind]
    of_rows = [verdict for record in evidence.records for verdict in record.judged if verdict.gate == check.kind]
    troubles = [f"{v.column or 'the table'}: {v.trouble}" for v in [*own, *of_rows] if v.trouble is not None]
    passed: bool | None = all(verdict.passed for verdict in own) and not troubles
    if not finding.applies and not troubles:
        passed = None
    sentence = finding.sentence
    if troubles and evidence.rows:
        sentence = f"{sentence} It could not be checked ({troubles[0]})."
    return GateResult(
        gate=check.kind,
        value=finding.value,
        floor=finding.floor,
        limit=finding.limit,
        severity=(finding.severity if not troubles else None) or check.graded,
        passed=passed,
        sentence=sentence,
    )


def _metrics(evidence: Evidence, findings: Mapping[str, Finding], selection: Selection | None) -> dict[str, Any]:
    """All figures in one JSON document, with how many rows each round drew and lost."""
    details = {kind: finding.details for kind, finding in findings.items() if finding.details}
    return {
        "set": _set_row(findings),
        "classes": {
            name: {
                f"{k}.{m}": None if math.isnan(values[place]) else values[place]
                for k, f in findings.items()
                for m, values in f.class_metrics.items()
            }
            for place, name in enumerate(evidence.wanted)
        },
        "rounds": _rounds(evidence),
        **({"details": details} if details else {}),
        **({"selection": _selection(evidence.choices, selection)} if selection is not None else {}),
    }


def _rounds(evidence: Evidence) -> list[dict[str, Any]]:
    """How many rows each round drew and lost; where rows are selected, how many of those asked were."""
    rounds: dict[int, dict[str, Any]] = {}
    for record, choice in zip_longest(evidence.records, evidence.choices):
        entry = rounds.setdefault(record.round, {"drawn": 0, "accepted": 0, "rejected": {}})
        entry["drawn"] += record.rows
        entry["accepted"] += sum(record.accepted.values())
        entry["rejected"] = sum_by_name([entry["rejected"], record.rejected])
        if choice is not None:
            entry["asked"] = entry.get("asked", 0) + sum(choice.asked.values())
            entry["selected"] = entry.get("selected", 0) + sum(choice.selected.values())
    return [{"round": number, **rounds[number]} for number in sorted(rounds)]


def _selection(choices: Sequence[Choice], selection: Selection) -> dict[str, Any]:
    """The criteria, and how many of the rows that the gates accepted were selected, in all rounds together."""
    asked, selected = (sum_by_name(getattr(c, part) for c in choices) for part in ("asked", "selected"))
    return {
        "shares": dict(selection.shares),
        "asked": sum(asked.values()),
        "selected": sum(selected.values()),
        "acceptance": share(sum(selected.values()), sum(asked.values())),
        "left_out": sum_by_name(choice.left_out for choice in choices),
        "classes": {name: {"asked": rows, "selected": selected.get(name, 0)} for name, rows in asked.items()},
        "limits": {name: dict(limits) for name, limits in selection.limits.items()},
    }


def _set_row(findings: Mapping[str, Finding]) -> dict[str, float]:
    """The figures of the whole set, ``<gate>.<name>``."""
    return {f"{kind}.{name}": value for kind, found in findings.items() for name, value in found.metrics.items()}


def _write_suites(folder: Path, suites: Mapping[str, Sequence[GateExpect]]) -> None:
    """The suites as Great Expectations writes them, limits filled in."""
    folder.mkdir()
    for table, expectations in suites.items():
        _write_json(folder / f"{table}.json", resolved_suite(table, expectations))


def write_rejects(path: Path, judged: Sequence[Path], schema: DatasetSchema) -> None:
    """The rejected rows of all shards, one shard in memory at a time."""
    with pq.ParquetWriter(path, rejects_schema(schema), compression="zstd") as writer:
        for folder in judged:
            table = pq.read_table(folder / "rejects.parquet")
            if table.num_rows:
                writer.write_table(table)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
