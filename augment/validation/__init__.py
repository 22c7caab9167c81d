"""From synthetic shards to a verdict: what real rows score, what each shard holds, and what all of it amounts to.

::

    make_reference   real rows           -> what the checks compare with            once
    judge_shard      one synthetic shard -> which rows are accepted, and why not    a shard; row-level gates
    conclude         all shards          -> gates.json                              once; set-level gates

Row-level gates judge the rows as first drawn (round 0). The rows that fail are rejected, and later rounds draw others
in their place; those are judged row by row too, but do not improve the shares by which the gates decide. Where rows
are selected, gates of the set look at the rows that will be published, since that is what must be like the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from augment._features import learn_traits, profile
from augment.checks._contract import Check, Choice, Evidence, Learned, ShardRecord, sum_by_name
from augment.checks._real import RealRows
from augment.columns._profile import Traits
from augment.errors import InputError
from augment.gates import place_of
from augment.given.taking import altered_files
from augment.progress import Progress, silent
from augment.rounds import missing_rows
from augment.schema import DatasetSchema, class_titles
from augment.selection import Selection, learn_selection
from augment.store import ArtifactRef, Store, code_version, hash_json
from augment.validation._judging import CHOICE, Yardstick, judge_table
from augment.validation._verdict import known_checks, write_rejects, write_verdict
from augment.worth.encoders import learn_encoders, load_encoders

SELECTION = "selection"  # the folder beside those of the checks
_MODULES = (
    "augment.checks",
    "augment.codec",
    "augment.columns",
    "augment._features",
    "augment.gates",
    "augment.given",
    "augment._hashing",
    "augment._images",
    "augment._seeding",
    "augment.selection",
    "augment.validation",
    "augment.worth",
    "models._bayes",
)


def active_checks(amendments: Sequence[Check]) -> list[Check]:
    """The checks of a run in the order of the gates: the defaults, replaced by kind by ``amendments``, and
    what these ask for beyond the defaults.

    Raises:
        InputError: two amendments have the same kind.
    """
    chosen: dict[str, Check] = {kind: check(kind=kind) for kind, check in known_checks().items() if check.default_on}
    amended = [check.kind for check in amendments]
    for check in amendments:
        if amended.count(check.kind) > 1:
            raise InputError(f"checks amends {check.kind} twice; give each check once.")
        chosen[check.kind] = check
    return sorted((check for check in chosen.values() if check.enabled), key=lambda check: place_of(check.kind))


def needs_encoders(checks: Sequence[Check], shares: Mapping[str, float]) -> bool:
    """Whether a check, or the selection by ``shares``, looks at rows through nets."""
    return bool(shares) or any(check.needs_encoders for check in checks)


def make_reference(
    real: ArtifactRef,
    checks: Sequence[Check],
    seed: int,
    store: Store,
    progress: Progress = silent,
    shares: Mapping[str, float] | None = None,
) -> ArtifactRef:
    """The artifact of what real rows score: traits of the columns, figures and arrays of each check.

    With ``shares``, rows are selected: :func:`augment.selection.learn_selection`.
    """
    shares = shares or {}
    source = store.path(real)
    schema = DatasetSchema.load(source / "schema.json")
    encoders = learn_encoders(real, seed, store, progress) if needs_encoders(checks, shares) else None

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
        if shares:
            (folder / SELECTION).mkdir()
            content["selection"] = learn_selection(rows, shares, folder / SELECTION)
        (folder / "reference.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")

    inputs = [real.sha256, None if encoders is None else encoders.sha256, seed, *([dict(shares)] if shares else [])]
    return store.write("reference", hash_json(["reference", inputs, _settings(checks)]), fill)


def judge_shard(
    shard: ArtifactRef,
    reference: ArtifactRef,
    real: ArtifactRef,
    checks: Sequence[Check],
    store: Store,
    earlier: Sequence[ArtifactRef] = (),
    progress: Progress = silent,
    wanted: Mapping[str, int] | None = None,
) -> ArtifactRef:
    """The artifact that says of each row of ``shard`` whether it is accepted, and why not.

    ``earlier`` are the judged shards before this one, in the order of rounds and shards: a row that repeats one of
    theirs is a duplicate. ``wanted`` are the synthetic rows of the plan by class name: where rows are selected, more
    may be drawn, and those beyond are left out.
    """
    source = store.path(shard)
    room = None
    if wanted is not None and "selection" in _learned(reference, store):
        room = missing_rows(wanted, accepted_counts(earlier, store))
    info = json.loads((source / "shard.json").read_text())

    def fill(folder: Path) -> None:
        progress("validate", 0, int(info["rows"]), "row")
        table = pq.read_table(source / "shard.parquet")
        yardstick = _yardstick(reference, real, checks, store)
        judge_table(table, info, shard, yardstick, [store.path(ref) for ref in earlier], folder, room)
        progress("validate", int(info["rows"]), int(info["rows"]), "row")

    inputs = [shard.sha256, reference.sha256, real.sha256, [ref.sha256 for ref in earlier]]
    of_room = [] if room is None else [room]
    return store.write("judge", hash_json(["judge", inputs, _settings(checks), *of_room]), fill)


def accepted_counts(judged: Sequence[ArtifactRef], store: Store) -> dict[str, int]:
    """The accepted rows of the judged shards by class name; classes without any are absent."""
    return sum_by_name([_record(store.path(ref)).accepted for ref in judged])


def drawn_counts(judged: Sequence[ArtifactRef], store: Store) -> dict[str, int]:
    """All rows of the judged shards by class name."""
    return sum_by_name([_record(store.path(ref)).drawn for ref in judged])


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
        choices=[] if yardstick.selection is None else [_choice(path) for path in judged_paths],
    )

    def fill(folder: Path) -> None:
        progress("conclude", 0, len(checks), "check")
        write_verdict(folder, evidence, yardstick)
        write_rejects(folder / "rejects.parquet", judged_paths, yardstick.schema)
        progress("conclude", len(checks), len(checks), "check")

    parts = [real.sha256, reference.sha256, model.sha256, list(wanted.items())]
    parts += [[ref.sha256 for ref in refs] for refs in (shards, judged)]
    parts += [altered] if altered else []
    return store.write("validate", hash_json(["validate", parts, _settings(checks)]), fill)


def _yardstick(reference: ArtifactRef, real: ArtifactRef, checks: Sequence[Check], store: Store) -> Yardstick:
    """What :func:`make_reference` kept, ready for use."""
    folder = store.path(reference)
    content = _learned(reference, store)
    traits: dict[str, Traits] = content["traits"]
    learned = {check.kind: Learned(content["figures"][check.kind], folder / check.kind) for check in checks}
    encoders = None
    if (named := content["encoders"]) is not None:
        encoders = load_encoders(ArtifactRef.model_validate(named["artifact"]), real, named["seed"], store)
    schema, selection = DatasetSchema.load(store.path(real) / "schema.json"), None
    if (chosen := content.get("selection")) is not None:
        assert encoders is not None
        selection = Selection.load(chosen, folder / SELECTION, encoders, class_titles(schema))
    return Yardstick(schema, traits, checks, learned, encoders, selection)


def _learned(reference: ArtifactRef, store: Store) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((store.path(reference) / "reference.json").read_text())
    return content


def _chunks(rows: RealRows, column: str) -> Iterator[pa.Array]:
    for batch in rows.batches("train", columns=[column]):
        yield batch.column(0)


def _settings(checks: Sequence[Check]) -> list[Any]:
    """What of the checks decides the outcome: their settings and the code."""
    modules = sorted({type(check).__module__ for check in checks})
    return [[check.model_dump(mode="json") for check in checks], code_version(*_MODULES, *modules)]


def _record(folder: Path) -> ShardRecord:
    return ShardRecord.model_validate_json((folder / "rows.json").read_text())


def _choice(folder: Path) -> Choice:
    return Choice.model_validate_json((folder / CHOICE).read_text())
