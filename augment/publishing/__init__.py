"""A version of a dataset that is published whole or not at all: written, audited, then made visible by one rename."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from augment._layout import (
    BLESSED,
    GATES_FILE,
    LOCK,
    MANIFEST,
    METRICS_FILE,
    NOT_BLESSED,
    PICTURE,
    QUARANTINE,
    REJECTS,
    REPORT,
    VERSIONS,
    dataset_folder,
)
from augment._lineage import RunContext, describe_lineage
from augment._manifest import (
    Counts,
    Latest,
    Manifest,
    find_hex,
    list_files,
    sequence_of,
    version_folders,
    version_hex,
)
from augment._staging import discard, remove, staging, stale_staging
from augment.checks.regression import compare_with_last
from augment.checks.worth import with_worth
from augment.classifying import CLASSIFIER_FILE
from augment.critique import LATENTS_FILE
from augment.errors import IntegrityError
from augment.gates import GateResult, blessed, in_order, load_gates, save_gates
from augment.progress import Progress, silent
from augment.publishing._assembly import Assembly, count_rows, open_shards, write_parts
from augment.publishing._card import write_card
from augment.publishing._croissant import write_croissant
from augment.schema import DatasetSchema
from augment.store import ArtifactRef, Store, code_version, fsync_path, fsync_tree, hash_file, hash_json, locked
from augment.versions import refuse_altered

__all__ = ["Publication", "RunContext", "publish"]

ReportWriter = Callable[..., None]
Consumer = Callable[[Path, DatasetSchema, Counts], GateResult]


class Publication(BaseModel):
    """What became of a publication; a refused one is in quarantine at ``path`` and has no version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["published", "unchanged", "refused"]
    dataset: str
    version: str | None
    path: str
    verdict: Literal["blessed", "not blessed"]
    rows: dict[str, dict[str, int]]  # of train, {class: {"real": rows, "synthetic": rows}}
    gates: list[GateResult]
    report: str | None
    picture: str | None
    seconds: float


def publish(
    name: str,
    real: ArtifactRef,
    model: ArtifactRef,
    shards: Sequence[ArtifactRef],
    judged: Sequence[ArtifactRef],
    audit: ArtifactRef,
    *,
    context: RunContext,
    store: Store,
    report_writer: ReportWriter | None = None,
    consumer: Consumer | None = None,
    progress: Progress = silent,
) -> Publication:
    """The new version of the dataset ``name``, or the one that holds the same already, or a folder in quarantine.

    ``judged`` are the judgements of ``shards``, in the same order. ``report_writer`` and ``consumer`` replace the
    report and the last gate. A version that was renamed into place but never pointed at, because its publication was
    interrupted, is pointed at now; one that was rolled back from stays so.

    Raises:
        InputError: ``name`` cannot be a dataset's name.
        StoreError: an artifact is missing or differs from its manifest.
        IntegrityError: the version that holds the same is altered.
    """
    started = time.monotonic()
    dataset = dataset_folder(store.root, name)
    (dataset / VERSIONS).mkdir(parents=True, exist_ok=True)
    fsync_path(dataset)
    inputs = _inputs_hash([real, model, audit], [*shards, *judged], context)
    with locked(dataset / LOCK):
        for path in stale_staging(dataset):  # of processes that were killed
            remove(path)
        found = _made_from(dataset, inputs)
        if found is not None:
            return _result(_finish(dataset, found), found, started)
    with staging(dataset, context.run_id) as folder:
        used = [*shards, *judged, audit]
        _verify([real, model, *used], store)
        assembly = _assemble(real, shards, judged, context, store)
        write_parts(assembly, folder, progress)
        lineage = describe_lineage(context, real, model, used, store)
        stage = _Stage(name, dataset, folder, store.path(audit), store.path(model), assembly, lineage, inputs, context)
        manifest = stage.fill(report_writer or _default_report(), consumer or _default_consumer())
        fsync_tree(folder)
        if manifest.verdict == "not blessed":
            return _result("refused", _quarantine(dataset, folder, manifest, context.run_id), started)
        status, place = _commit(dataset, folder, manifest)
    return _result(status, place, started)


def _assemble(
    real: ArtifactRef, shards: Sequence[ArtifactRef], judged: Sequence[ArtifactRef], context: RunContext, store: Store
) -> Assembly:
    """What the data files are made from, with the rows of each class counted."""
    folder = store.path(real)
    schema = DatasetSchema.load(folder / "schema.json")
    opened = open_shards([store.path(ref) for ref in shards], [store.path(ref) for ref in judged])
    return Assembly(folder, opened, schema, context.equal_class_mass, count_rows(folder, opened, schema))


@dataclass(frozen=True)
class _Stage:
    """A staged folder on its way from data alone to a version that lacks only its seal."""

    name: str
    dataset: Path
    folder: Path
    audit: Path
    model: Path
    assembly: Assembly
    lineage: dict[str, Any]
    inputs: str
    context: RunContext

    def fill(self, report_writer: ReportWriter, consumer: Consumer) -> Manifest:
        """Write everything but the seal, let the consumer open it, and return what the manifest will say."""
        self._copy_evidence()
        data = list_files(self.folder / "data", self.folder) | list_files(self.folder / "eval", self.folder)
        context = self.context
        gates = with_worth(load_gates(self.audit / "gates.json"), context.worth, context.strict_about_worth)
        digits = version_hex({n: e.sha256 for n, e in data.items()}, gates, self.context.worth)
        now = datetime.now(UTC)
        manifest = Manifest(
            dataset=self.name,
            version=f"{now:%Y%m%dT%H%M%SZ}-{digits}",
            sequence=None,
            created=now.isoformat(timespec="seconds"),
            verdict="blessed",
            inputs_sha256=self.inputs,
            files=data,
            counts=self.assembly.counts,
            dataset_schema=self.assembly.schema,
            equal_class_mass=self.assembly.equal_class_mass,
            lineage=self.lineage,
            worth=self.context.worth,
            gates=in_order(gates),
        )
        write_card(self.folder, manifest)  # the consumer opens the card too
        opened = consumer(self.folder, self.assembly.schema, self.assembly.counts)
        compared = compare_with_last(self.dataset, gates, self.lineage)
        gates = in_order([g for g in gates if g.gate not in (opened.gate, compared.gate)] + [opened, compared])
        verdict: Literal["blessed", "not blessed"] = "blessed" if blessed(gates) else "not blessed"
        manifest = manifest.model_copy(update={"gates": gates, "verdict": verdict})
        write_card(self.folder, manifest)
        write_croissant(self.folder, manifest)
        save_gates(self.folder / GATES_FILE, gates)
        self._report(report_writer, manifest)
        return manifest.model_copy(update={"files": list_files(self.folder, known=data)})

    def _copy_evidence(self) -> None:
        """Copy what the audit found."""
        (self.folder / "report").mkdir()
        shutil.copytree(self.audit / "suites", self.folder / "suites")
        shutil.copyfile(self.audit / REJECTS, self.folder / REJECTS)

    def _report(self, report_writer: ReportWriter, manifest: Manifest) -> None:
        """Write the report, and the figures of the audit beside its own."""
        requested = self.context.requested
        report_writer(
            self.folder,
            schema=manifest.dataset_schema,
            gates=manifest.gates,
            counts={n: {**c, "requested": requested.get(n, c["synthetic"])} for n, c in manifest.rows.items()},
            lineage={name: value for name, value in self.lineage.items() if name != "config"},
            metrics_path=self.model / "metrics.jsonl",
            audit_metrics_path=self.audit / "metrics.json",
            latents_path=self.model / LATENTS_FILE,
            classifier_path=self.model / CLASSIFIER_FILE,
            rejects_path=self.folder / REJECTS,
            worth=manifest.worth,
            config=self.context.config,
            seed=self.context.seed,
            dataset=self.name,
            version=manifest.version,
        )
        path = self.folder / METRICS_FILE
        figures = json.loads(path.read_text()) if path.exists() else {}
        figures["audit"] = json.loads((self.audit / "metrics.json").read_text())
        path.write_text(json.dumps(figures, indent=1) + "\n")


def _default_report() -> ReportWriter:
    from augment.report import write_report

    return write_report


def _default_consumer() -> Consumer:
    import augment.checks.consumer_smoke as smoke

    opener: Consumer = smoke.open_staged
    return opener


def _inputs_hash(single: Sequence[ArtifactRef], sharded: Sequence[ArtifactRef], context: RunContext) -> str:
    """A hash of all that decides what a version holds, so that an unchanged run is known before anything is written."""
    modules = ("publishing", "_layout", "_weights", "schema", "columns")
    code = code_version(*(f"augment.{name}" for name in modules))
    hashes = [[ref.sha256 for ref in refs] for refs in (single, sharded)]
    worth = [repr(context.worth), context.strict_about_worth]
    return hash_json([hashes, context.equal_class_mass, worth, code, pa.__version__])


def _verify(refs: Sequence[ArtifactRef], store: Store) -> None:
    """Compare every byte of the artifacts with their manifests; hashing leaves Python's lock."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(partial(store.verify, ref)) for ref in refs]:
            done.result()


def _made_from(dataset: Path, inputs: str) -> Path | None:
    """The newest version made from the same inputs, or null."""
    found = (p for p in reversed(version_folders(dataset)) if sequence_of(p) and _inputs_of(p) == inputs)
    return next(found, None)


def _inputs_of(folder: Path) -> str | None:
    """What the data in ``folder`` were made from, or null where its manifest cannot be read."""
    try:
        return Manifest.load(folder).inputs_sha256
    except IntegrityError:
        return None  # an altered version must not stop others from being published


def _commit(dataset: Path, folder: Path, manifest: Manifest) -> tuple[Literal["published", "unchanged"], Path]:
    """Seal the staged folder, rename it into place and point at it, unless a version holds the same."""
    assert manifest.version is not None
    with locked(dataset / LOCK):
        found = find_hex(dataset, manifest.version.rpartition("-")[2])
        if found is not None:
            return _finish(dataset, found), found
        latest = Latest.load(dataset)
        known = [sequence_of(p) for p in version_folders(dataset)] + [latest.sequence if latest else 0]
        manifest.model_copy(update={"sequence": 1 + max(known)}).save(folder)
        _seal(folder, BLESSED, manifest)
        place = dataset / VERSIONS / manifest.version
        folder.rename(place)
        fsync_path(place.parent)
        _point_at(dataset, place)
    return "published", place


def _seal(folder: Path, name: str, manifest: Manifest) -> None:
    """Write the file that says the verdict, bound to the manifest by its hash, and force both to the disk."""
    reasons = [g.sentence for g in manifest.gates if g.passed is False and g.severity == "critical"]
    content = {"verdict": manifest.verdict, "manifest_sha256": hash_file(folder / MANIFEST), "reasons": reasons}
    (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    for path in (folder / MANIFEST, folder / name, folder):
        fsync_path(path)


def _finish(dataset: Path, found: Path) -> Literal["published", "unchanged"]:
    """Point at a version that holds the same if its own publication never came to that; under the dataset's lock."""
    refuse_altered(found)
    return "published" if _point_at(dataset, found) else "unchanged"


def _point_at(dataset: Path, place: Path) -> bool:
    """Make ``place`` the latest version if none of its sequence or above ever was, and tell whether it was done.

    The highest sequence that was pointed at outlives a rollback, so that a version which was rolled back from is told
    from one whose publication was interrupted just before this point.
    """
    latest = Latest.load(dataset)
    sequence = sequence_of(place)
    if latest is not None and sequence <= latest.sequence:
        return False
    Latest(version=place.name, manifest_sha256=hash_file(place / MANIFEST), sequence=sequence).save(dataset)
    return True


def _quarantine(dataset: Path, folder: Path, manifest: Manifest, run_id: str) -> Path:
    """Move refused data out of readers' sight, with everything that shows why.

    A refusal of the same inputs takes the place of an earlier one, so that a run which is repeated every night and
    refused every time keeps one copy.
    """
    manifest.model_copy(update={"version": None}).save(folder)
    _seal(folder, NOT_BLESSED, manifest)
    place = dataset / QUARANTINE / run_id
    with locked(dataset / LOCK):
        place.parent.mkdir(parents=True, exist_ok=True)
        earlier = [p for p in sorted(place.parent.iterdir()) if _inputs_of(p) == manifest.inputs_sha256]
        for path in sorted({place, *earlier}):
            if path.exists():
                discard(dataset, path)
        folder.rename(place)
        fsync_path(place.parent)
    return place


def _result(status: Literal["published", "unchanged", "refused"], place: Path, started: float) -> Publication:
    """What is said about the folder ``place``."""
    manifest = Manifest.load(place)
    report, picture = place / REPORT, place / PICTURE
    return Publication(
        status=status,
        dataset=manifest.dataset,
        version=manifest.version,
        path=str(place),
        verdict=manifest.verdict,
        rows=manifest.rows,
        gates=manifest.gates,
        report=str(report) if report.is_file() else None,
        picture=str(picture) if picture.is_file() else None,
        seconds=round(time.monotonic() - started, 3),
    )
