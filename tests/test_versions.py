"""Listing, verifying, rolling back, pinning and collecting published versions."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_store import Stages, displeased, write_stages

from augment.errors import InputError, IntegrityError
from augment.manifest import Latest, Manifest, resolve_version
from augment.reader import load_dataset
from augment.runs import RunRecord, run_records
from augment.store import ArtifactRef, Store, hash_file
from augment.versions import (
    collect_garbage,
    list_datasets,
    list_versions,
    pin,
    rollback,
    show,
    unpin,
    verify,
)


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return write_stages(tmp_path)


def publish_another(stages: Stages, number: int) -> Stages:
    """Other data under the same name."""
    another = write_stages(stages.store.root, tag=f"n{number}", drawn=[["ant", "bee", "cow"] + ["ant"] * number])
    assert another.publish(run_id=f"run-{number}").status == "published"
    return another


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


def test_datasets_and_versions_are_listed_in_order(stages: Stages) -> None:
    assert list_datasets(stages.store) == []
    first = stages.publish().version
    publish_another(stages, 1)
    stages.publish("beasts")
    listed = list_datasets(stages.store)
    assert [(d.dataset, d.versions) for d in listed] == [("animals", 2), ("beasts", 1)]
    versions = list_versions(stages.store, "animals")
    assert [(v.sequence, v.latest, v.pinned) for v in versions] == [(1, False, False), (2, True, False)]
    assert versions[0].version == first
    assert versions[0].rows == {"real": 20, "synthetic": 12}
    assert listed[0].latest == versions[1]


def test_a_version_is_found_by_name_by_hex_and_by_its_beginning(stages: Stages) -> None:
    version = stages.publish().version
    assert version is not None
    for given in (version, version[-12:], version[-12:-6], None):
        folder, manifest = show(stages.store, "animals", given)
        assert (folder.name, manifest.version) == (version, version)


def test_unknown_names_come_with_the_nearest_known_one(stages: Stages) -> None:
    version = stages.publish().version
    assert version is not None
    for name in ("animal", "Animals", "animals/"):
        with pytest.raises(InputError, match="did you mean 'animals'"):
            show(stages.store, name)
    with pytest.raises(InputError, match=f"did you mean '{version}'"):
        show(stages.store, "animals", version[:-1] + "x")
    for name in ("..", ""):
        with pytest.raises(InputError, match="no dataset"):
            show(stages.store, name)


def test_a_beginning_that_fits_two_versions_is_refused(stages: Stages) -> None:
    made = [stages.publish().version, *(publish_another(stages, n) and names(stages)[-1] for n in range(1, 18))]
    firsts = [str(name)[-12] for name in made]
    twice = next(digit for digit in firsts if firsts.count(digit) > 1)  # 18 versions, 16 digits
    with pytest.raises(InputError, match="give more of it"):
        show(stages.store, "animals", twice)


def test_an_untouched_version_verifies(stages: Stages) -> None:
    stages.publish()
    found = verify(stages.store, "animals")
    assert found.ok
    assert found.files == 14


@pytest.mark.parametrize(
    "name",
    ["data/real/train-00000.parquet", "data/synthetic/train-00000.parquet", "eval/test-00000.parquet", "README.md",
     "report/gates.json", "suites/structure.json", "MANIFEST.json"],
)  # fmt: skip
def test_one_flipped_byte_is_named(stages: Stages, name: str) -> None:
    folder = Path(stages.publish().path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    found = verify(stages.store, "animals")
    assert found.altered == [name]
    assert name in found.sentence
    with pytest.raises(IntegrityError, match=name):
        load_dataset(folder.parent.parent)


def test_missing_and_extra_files_are_named(stages: Stages) -> None:
    folder = Path(stages.publish().path)
    (folder / "eval/test-00000.parquet").unlink()
    (folder / "data/real/train-00001.parquet").write_bytes(b"more")
    found = verify(stages.store, "animals")
    assert found.missing == ["eval/test-00000.parquet"]
    assert found.extra == ["data/real/train-00001.parquet"]
    assert not found.ok


def test_a_manifest_that_was_made_to_fit_altered_data_is_noticed(stages: Stages) -> None:
    folder = Path(stages.publish().path)
    file = folder / "data/real/train-00000.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"2")
    text = (folder / "MANIFEST.json").read_text()
    old = json.loads(text)["files"]["data/real/train-00000.parquet"]["sha256"]
    (folder / "MANIFEST.json").write_text(text.replace(old, hash_file(file)))
    seal = json.loads((folder / "BLESSED").read_text())
    (folder / "BLESSED").write_text(json.dumps({**seal, "manifest_sha256": hash_file(folder / "MANIFEST.json")}))
    assert verify(stages.store, "animals").altered == ["MANIFEST.json"]


def test_a_rollback_changes_what_readers_get_and_nothing_else(stages: Stages) -> None:
    old = stages.publish()
    publish_another(stages, 1)
    assert old.version is not None
    assert rollback(stages.store, "animals", old.version[-12:]).latest
    assert load_dataset(stages.store.root / "datasets/animals").version == old.version
    assert len(names(stages)) == 2
    third = publish_another(stages, 2)
    assert third is not None
    assert [v.latest for v in list_versions(stages.store, "animals")] == [False, False, True]


def test_a_rollback_to_an_altered_version_is_refused(stages: Stages) -> None:
    old = stages.publish()
    publish_another(stages, 1)
    (Path(old.path) / "README.md").write_text("other")
    assert old.version is not None
    with pytest.raises(IntegrityError, match=r"README\.md"):
        rollback(stages.store, "animals", old.version)


def test_a_rollback_mends_an_altered_pointer(stages: Stages) -> None:
    version = stages.publish().version
    (stages.store.root / "datasets/animals/_latest.json").write_text("{")
    with pytest.raises(IntegrityError, match="augment rollback"):
        load_dataset(stages.store.root / "datasets/animals")
    assert version is not None
    rollback(stages.store, "animals", version)
    latest = Latest.load(stages.store.root / "datasets/animals")
    assert latest is not None
    assert (latest.version, latest.sequence) == (version, 1)


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


def test_unpinning_what_is_not_pinned_is_refused(stages: Stages) -> None:
    version = stages.publish().version
    assert version is not None
    with pytest.raises(InputError, match="not pinned"):
        unpin(stages.store, "animals", version)
    assert pin(stages.store, "animals", version[-12:]) == version
    assert list_versions(stages.store, "animals")[0].pinned


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
    record.finish("failed")
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


@pytest.mark.parametrize("act", [rollback, pin, unpin])
def test_acts_on_an_unknown_version_are_refused(stages: Stages, act: Callable[[Store, str, str], object]) -> None:
    stages.publish()
    with pytest.raises(InputError, match="has no version 'zzzz'"):
        act(stages.store, "animals", "zzzz")
