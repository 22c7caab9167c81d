"""From synthetic shards to a verdict: what real rows score, what each shard holds, and what all of it amounts to.

::

    make_reference   real rows           -> what the checks compare with            once
    judge_shard      one synthetic shard -> which rows are accepted, and why not    a shard; row-level gates
    conclude         all shards          -> gates.json                              once; set-level gates

Row-level gates judge the rows as first drawn (round 0). The rows that fail are rejected, and later rounds draw others
in their place; those are judged row by row too, but do not improve the shares by which the gates decide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import augment.checks
from augment._features import learn_traits, profile
from augment._plugins import find_plugins
from augment.checks._contract import Check, Evidence, Finding, Judged, Learned, ShardRecord, sum_by_name
from augment.checks._encoded import first_drawn_rows
from augment.checks._real import RealRows
from augment.columns._profile import Traits
from augment.errors import AugmentError, InputError
from augment.gates import GateResult, place_of, save_gates, unmeasured, with_all_gates
from augment.given.taking import altered_files
from augment.progress import Progress, silent
from augment.schema import DatasetSchema
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.validation._expectations import GateExpect, judge, resolved_suite
from augment.validation._judging import Yardstick, judge_table, rejects_schema
from augment.worth.encoders import learn_encoders, load_encoders

_MODULES = (
    "augment.checks._associations",
    "augment.checks._class_numbers",
    "augment.checks._contract",
    "augment.checks._encoded",
    "augment.checks._discrepancies",
    "augment.checks._distances",
    "augment.checks._hashes",
    "augment.checks._nearness",
    "augment.checks._real",
    "augment.checks._repeats",
    "augment.checks._sides",
    "augment.checks._telling_apart",
    "augment.columns",
    "augment._features",
    "augment.gates",
    "augment._hashing",
    "augment._images",
    "augment.validation",
    "augment.worth",
    "augment.codec",
)


def active_checks(amendments: Sequence[Check]) -> list[Check]:
    """The checks of a run in the order of the gates: the defaults, replaced by kind by ``amendments``, and
    what these ask for beyond the defaults.

    Raises:
        InputError: two amendments have the same kind.
    """
    chosen: dict[str, Check] = {kind: check(kind=kind) for kind, check in _known().items() if check.default_on}
    amended = [check.kind for check in amendments]
    for check in amendments:
        if amended.count(check.kind) > 1:
            raise InputError(f"checks amends {check.kind} twice; give each check once.")
        chosen[check.kind] = check
    return sorted((check for check in chosen.values() if check.enabled), key=lambda check: place_of(check.kind))


def make_reference(
    real: ArtifactRef, checks: Sequence[Check], seed: int, store: Store, progress: Progress = silent
) -> ArtifactRef:
    """The artifact of what real rows score: traits of the columns, figures and arrays of each check."""
    source = store.path(real)
    schema = DatasetSchema.load(source / "schema.json")
    encoders = learn_encoders(real, seed, store, progress) if any(check.needs_encoders for check in checks) else None

    def measure(batch: pa.RecordBatch) -> Any:
        return profile(batch, schema)[0]

    def fill(folder: Path) -> None:
        nets = None if encoders is None else load_encoders(encoders, real, seed, store)
        rows = RealRows(source, schema, seed, measure, nets)
        names = [column.name for column in schema.features]
        traits = {name: learn_traits(schema, name, _chunks(rows, name)) for name in names}
        figures = {}
        for done, check in enumerate(checks):
            progress("reference", done, len(checks), "check")
            own = folder / check.kind
            own.mkdir()
            figures[check.kind] = check.learn(rows, own)
        progress("reference", len(checks), len(checks), "check")
        named = None if encoders is None else {"artifact": encoders.model_dump(), "seed": seed}
        content = {"traits": traits, "figures": figures, "encoders": named}
        (folder / "reference.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")

    inputs = [real.sha256, None if encoders is None else encoders.sha256, seed]
    return store.write("reference", hash_json(["reference", inputs, _settings(checks)]), fill)


def judge_shard(
    shard: ArtifactRef,
    reference: ArtifactRef,
    real: ArtifactRef,
    checks: Sequence[Check],
    store: Store,
    earlier: Sequence[ArtifactRef] = (),
    progress: Progress = silent,
) -> ArtifactRef:
    """The artifact that says of each row of ``shard`` whether it is accepted, and why not.

    ``earlier`` are the judged shards before this one, in the order of rounds and shards: a row that repeats one of
    theirs is a duplicate.
    """
    source = store.path(shard)
    info = json.loads((source / "shard.json").read_text())

    def fill(folder: Path) -> None:
        progress("validate", 0, int(info["rows"]), "row")
        table = pq.read_table(source / "shard.parquet")
        yardstick = _yardstick(reference, real, checks, store)
        judge_table(table, info, shard, yardstick, [store.path(ref) for ref in earlier], folder)
        progress("validate", int(info["rows"]), int(info["rows"]), "row")

    inputs = [shard.sha256, reference.sha256, real.sha256, [ref.sha256 for ref in earlier]]
    return store.write("judge", hash_json(["judge", inputs, _settings(checks)]), fill)


def accepted_counts(judged: Sequence[ArtifactRef], store: Store) -> dict[str, int]:
    """The accepted rows of the judged shards by class name; classes without any are absent."""
    return sum_by_name([_record(store.path(ref)).accepted for ref in judged])


def conclude(
    real: ArtifactRef,
    reference: ArtifactRef,
    model: ArtifactRef,
    wanted: Mapping[str, int],
    shards: Sequence[ArtifactRef],
    judged: Sequence[ArtifactRef],
    checks: Sequence[Check],
    store: Store,
    progress: Progress = silent,
) -> ArtifactRef:
    """The audit: gates, metrics of the set and of each class, the suites that judged them, and all rejected rows.

    ``wanted`` are the synthetic rows of the plan by class name; ``judged`` belong to ``shards`` one by one.
    """
    yardstick = _yardstick(reference, real, checks, store)
    judged_paths = [store.path(ref) for ref in judged]
    altered = altered_files(store.path(model))
    evidence = Evidence(
        schema=yardstick.schema,
        real=real,
        model=model,
        real_path=store.path(real),
        model_path=store.path(model),
        shards=list(shards),
        shard_paths=[store.path(ref) for ref in shards],
        judged_paths=judged_paths,
        records=[_record(path) for path in judged_paths],
        wanted=dict(wanted),
        encoders=yardstick.encoders,
        altered=altered,
    )

    def fill(folder: Path) -> None:
        progress("conclude", 0, len(checks), "check")
        _write_verdict(folder, evidence, yardstick)
        _write_rejects(folder / "rejects.parquet", judged_paths, yardstick.schema)
        progress("conclude", len(checks), len(checks), "check")

    parts = [real.sha256, reference.sha256, model.sha256, list(wanted.items())]
    parts += [[ref.sha256 for ref in refs] for refs in (shards, judged)]
    parts += [altered] if altered else []
    return store.write("validate", hash_json(["validate", parts, _settings(checks)]), fill)


def _write_verdict(folder: Path, evidence: Evidence, yardstick: Yardstick) -> None:
    """Judge the tables of the set and of the classes, and write everything but the rejects."""
    import pandas as pd

    if evidence.encoders is not None:
        evidence = replace(evidence, drawn_rows=first_drawn_rows(evidence))
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
    _write_json(folder / "metrics.json", _metrics(evidence, findings))


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
    for kind, known in _known().items():
        if known.default_on and kind not in {check.kind for check in checks}:
            later = "Not measured yet: it is judged when the version is published."
            sentence = later if known.at_publication else "Left out by the run file."
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


def _metrics(evidence: Evidence, findings: Mapping[str, Finding]) -> dict[str, Any]:
    """All figures in one JSON document, with how many rows each round drew and lost."""
    rounds: dict[int, dict[str, Any]] = {}
    for record in evidence.records:
        entry = rounds.setdefault(record.round, {"drawn": 0, "accepted": 0, "rejected": {}})
        entry["drawn"] += record.rows
        entry["accepted"] += sum(record.accepted.values())
        entry["rejected"] = sum_by_name([entry["rejected"], record.rejected])
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
        "rounds": [{"round": number, **rounds[number]} for number in sorted(rounds)],
        **({"details": details} if details else {}),
    }


def _set_row(findings: Mapping[str, Finding]) -> dict[str, float]:
    """The figures of the whole set, ``<gate>.<name>``."""
    return {f"{kind}.{name}": value for kind, found in findings.items() for name, value in found.metrics.items()}


def _write_suites(folder: Path, suites: Mapping[str, Sequence[GateExpect]]) -> None:
    """The suites as Great Expectations writes them, limits filled in."""
    folder.mkdir()
    for table, expectations in suites.items():
        _write_json(folder / f"{table}.json", resolved_suite(table, expectations))


def _write_rejects(path: Path, judged: Sequence[Path], schema: DatasetSchema) -> None:
    """The rejected rows of all shards, one shard in memory at a time."""
    with pq.ParquetWriter(path, rejects_schema(schema), compression="zstd") as writer:
        for folder in judged:
            table = pq.read_table(folder / "rejects.parquet")
            if table.num_rows:
                writer.write_table(table)


def _yardstick(reference: ArtifactRef, real: ArtifactRef, checks: Sequence[Check], store: Store) -> Yardstick:
    """What :func:`make_reference` kept, ready for use."""
    folder = store.path(reference)
    content = json.loads((folder / "reference.json").read_text())
    traits: dict[str, Traits] = content["traits"]
    learned = {check.kind: Learned(content["figures"][check.kind], folder / check.kind) for check in checks}
    encoders = None
    if (named := content["encoders"]) is not None:
        encoders = load_encoders(ArtifactRef.model_validate(named["artifact"]), real, named["seed"], store)
    return Yardstick(DatasetSchema.load(store.path(real) / "schema.json"), traits, checks, learned, encoders)


def _chunks(rows: RealRows, column: str) -> Iterator[pa.Array]:
    for batch in rows.batches("train", columns=[column]):
        yield batch.column(0)


def _known() -> dict[str, type[Check]]:
    """The checks that exist, by kind."""
    return find_plugins(augment.checks, Check)


def _settings(checks: Sequence[Check]) -> list[Any]:
    """What of the checks decides the outcome: their settings and the code."""
    modules = sorted({type(check).__module__ for check in checks})
    return [[check.model_dump(mode="json") for check in checks], code_version(*_MODULES, *modules)]


def _record(folder: Path) -> ShardRecord:
    return ShardRecord.model_validate_json((folder / "rows.json").read_text())


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
