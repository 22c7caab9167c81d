"""Garbage collection: what versions and runs need stays, whatever else is there goes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from _small_store import Stages, displeased, publish_another, write_stages

from augment._garbage import collect_garbage
from augment._manifest import Manifest, resolve_version
from augment.reader import load_dataset
from augment.runs import RunRecord, run_records
from augment.store import ArtifactRef, Store, hash_file, locked
from augment.versions import list_versions, pin, rollback, unpin, verify


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path)


def make_old(stages: Stages, days: float, *versions: str) -> None:
    """Change what versions say about their age; their seal is made to fit."""
    for version in versions:
        folder = resolve_version(stages.store.root / "datasets/animals", version)
        created = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
        Manifest.load(folder).model_copy(update={"created": created}).save(folder)
        seal = json.loads((folder / "BLESSED").read_text())
        seal["manifest_sha256"] = hash_file(folder / "MANIFEST.json")
        (folder / "BLESSED").write_text(json.dumps(seal))


def names(stages: Stages) -> list[str]:
    return [v.version for v in list_versions(stages.store, "animals")]


def test_garbage_collection_keeps_the_latest_the_last_five_the_young_and_the_pinned(stages: Stages) -> None:
    made = [stages.publish().version]
    for number in range(1, 9):
        publish_another(stages, number)
        made.append(names(stages)[-1])
    versions = [str(v) for v in made]
    make_old(stages, 8, *versions[:3], *versions[4:])
    pin(stages.store, "animals", versions[1])
    rollback(stages.store, "animals", versions[2])
    dry = collect_garbage(stages.store, dry_run=True)
    assert names(stages) == versions
    collected = collect_garbage(stages.store)
    assert collected.removed == dry.removed
    assert collected.bytes == dry.bytes > 0
    assert names(stages) == versions[1:]  # 1 pinned, 2 the latest, 3 young, 4 to 8 the last five
    unpin(stages.store, "animals", versions[1])
    collect_garbage(stages.store)
    assert names(stages) == versions[2:]
    assert all(verify(stages.store, "animals", version).ok for version in versions[3:])


def make_artifact(store: Store, key: str) -> ArtifactRef:
    def fill(folder: Path) -> None:
        (folder / "file").write_text(key)

    return store.write("train", key, fill)


def test_artifacts_that_nothing_refers_to_go(stages: Stages) -> None:
    stages.publish()
    lonely, noted = make_artifact(stages.store, "lonely"), make_artifact(stages.store, "noted")
    time.sleep(0.02)
    record = RunRecord.start(stages.store, "going", "0" * 64)
    record.note(noted)
    removed = collect_garbage(stages.store).removed
    assert [Path(r.path).name for r in removed] == ["lonely"]
    assert stages.store.find("train", "lonely") is None
    assert stages.store.find("train", noted.key) == noted
    for ref in [r for refs in stages.references for r in refs]:
        stages.store.verify(ref)
    record.finish("published")
    time.sleep(0.02)
    assert [Path(r.path).name for r in collect_garbage(stages.store).removed] == ["noted"]
    assert lonely.key == "lonely"


def test_what_a_going_run_has_found_stays(stages: Stages) -> None:
    ref = make_artifact(stages.store, "found")
    time.sleep(0.02)
    RunRecord.start(stages.store, "going", "0" * 64)
    time.sleep(0.02)
    assert stages.store.find("train", "found") == ref
    collect_garbage(stages.store)
    assert stages.store.find("train", "found") == ref


def test_what_a_run_finds_that_starts_meanwhile_stays(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = make_artifact(stages.store, "found")
    time.sleep(0.02)

    def records_then_a_new_run(store: Store) -> Iterator[RunRecord]:
        yield from run_records(store)
        RunRecord.start(store, "new", "0" * 64)
        assert store.find("train", "found") == ref

    monkeypatch.setattr("augment._garbage.run_records", records_then_a_new_run)
    collect_garbage(stages.store)
    assert stages.store.find("train", "found") == ref


def test_what_a_plan_has_read_stays_for_an_hour(stages: Stages) -> None:
    def fill(folder: Path) -> None:
        (folder / "x.npy").write_text("rows")

    encoded = stages.store.write("encode", "planned", fill)
    time.sleep(0.02)
    collect_garbage(stages.store)
    assert stages.store.find("encode", "planned") == encoded
    age(stages.store.path(encoded), 3700)
    collect_garbage(stages.store)
    assert stages.store.find("encode", "planned") is None


def age(path: Path, seconds: float) -> None:
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(file, (time.time() - seconds,) * 2)


def test_a_failed_run_keeps_its_checkpoints_for_seven_days(stages: Stages) -> None:
    record = RunRecord.start(stages.store, "failed", "0" * 64)

    def fill(folder: Path) -> None:
        (folder / "checkpoint").write_text("half way")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        stages.store.write("train", "half", fill, resumable=True)
    record.finish("failed")
    work = stages.store.root / "stages/train/.work-half"
    collect_garbage(stages.store)
    assert (work / "checkpoint").is_file()
    record.started -= 8 * 86_400
    record.note()
    assert not record.unfinished, "a failed run does not go on, though its process may"
    time.sleep(0.02)
    collect_garbage(stages.store)
    assert not work.exists()


def test_locks_and_temporary_files_that_nobody_needs_go(stages: Stages) -> None:
    kept = make_artifact(stages.store, "kept")
    make_artifact(stages.store, "lonely")
    train = stages.store.root / "stages/train"
    (train / ".lock-old").touch()
    stale = [stages.store.root / ".tmp-probe-1", stages.store.root / "runs/.tmp-a.json-1", train / ".tmp-b-1"]
    young = stages.store.root / ".tmp-probe-2"
    time.sleep(0.02)
    RunRecord.start(stages.store, "going", "0" * 64).note(kept)
    for path in [*stale, young]:
        path.write_text("half")
    for path in stale:
        age(path, 3700)
    with locked(train / ".lock-held"):
        removed = collect_garbage(stages.store).removed
        assert (train / ".lock-held").exists()
    assert {r.path for r in removed if r.kind == "leftover"} == {str(path) for path in stale}
    assert not any(path.exists() for path in stale)
    assert young.exists()
    locks = {path.name for path in train.glob(".lock-*")}
    assert locks == {".lock-held", f".lock-{kept.key}"}


def test_an_artifact_that_is_being_made_stays(stages: Stages) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        os.utime(folder / "half", (0, 0))
        os.utime(folder, (0, 0))
        collect_garbage(stages.store)
        assert (folder / "half").exists()

    stages.store.write("train", "slow", fill)


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def test_a_killed_run_keeps_its_work_for_seven_days(stages: Stages) -> None:
    record = RunRecord.start(stages.store, "killed", "0" * 64)
    record.note(make_artifact(stages.store, "checkpoint"))
    record.owner = {"host": socket.gethostname(), "pid": dead_process()}
    record.note()
    collect_garbage(stages.store)
    assert stages.store.find("train", "checkpoint") is not None
    record.started -= 8 * 86_400
    record.note()
    assert not next(run_records(stages.store)).unfinished
    collect_garbage(stages.store)
    assert stages.store.find("train", "checkpoint") is None
    assert list(run_records(stages.store)) == []


def test_what_a_comparison_has_tried_stays_for_seven_days(stages: Stages) -> None:
    record = RunRecord.start(stages.store, "search", "0" * 64)
    record.note(make_artifact(stages.store, "trial"))
    record.finish("compared")
    make_artifact(stages.store, "other")
    time.sleep(0.02)
    collect_garbage(stages.store)
    assert stages.store.find("train", "trial") is not None
    assert stages.store.find("train", "other") is None, "it holds its own work and is no going run"
    record.started -= 8 * 86_400
    record.note()
    time.sleep(0.02)
    collect_garbage(stages.store)
    assert stages.store.find("train", "trial") is None


def test_a_long_run_is_unfinished_while_its_process_lives(stages: Stages) -> None:
    record = RunRecord.start(stages.store, "long", "0" * 64)
    record.started -= 30 * 86_400
    assert record.unfinished
    record.owner = {"host": "elsewhere", "pid": os.getpid()}
    assert not record.unfinished


def test_quarantine_goes_when_its_run_is_over(stages: Stages) -> None:
    record = RunRecord.start(stages.store, "refused-run", "0" * 64)
    quarantine = Path(stages.publish(run_id="refused-run", consumer=displeased).path)
    collect_garbage(stages.store)
    assert quarantine.is_dir()
    record.finish("refused")
    kinds = {r.kind for r in collect_garbage(stages.store).removed}
    assert not quarantine.exists()
    assert kinds == {"quarantine", "artifact"}


def test_caches_go_with_their_versions(stages: Stages) -> None:
    old = stages.publish()
    load_dataset(stages.store.root / "datasets/animals").torch("train")
    cache = stages.store.root / "datasets/animals/.cache"
    for number in range(1, 6):
        publish_another(stages, number)
    assert old.version is not None
    make_old(stages, 8, *names(stages))
    collect_garbage(stages.store)
    assert old.version not in names(stages)
    assert list(cache.iterdir()) == []


def test_staging_of_a_dead_process_goes_and_of_a_living_one_stays(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.publish()
    stale = stages.store.root / "datasets/animals/.staging/dead-12345678"
    stale.mkdir()
    (stale / "part").write_text("half")
    seen: list[bool] = []

    def report(folder: Path, **facts: object) -> None:
        stale.mkdir(exist_ok=True)
        collect_garbage(stages.store)
        seen.append(folder.is_dir() and not stale.exists())
        (folder / "report/metrics.json").write_text("{}")

    another = write_stages(stages.store.root, tag="other", drawn=[["ant", "bee", "cow"]])
    RunRecord.start(stages.store, "going", "0" * 64).note(*(r for refs in another.references for r in refs))
    another.publish(report_writer=report)
    assert seen == [True]
