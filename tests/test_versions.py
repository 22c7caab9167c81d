"""Listing, verifying, rolling back, pinning and collecting published versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from _small_store import Stages, publish_another, write_stages

from augment._manifest import Latest
from augment.errors import InputError, IntegrityError
from augment.reader import load_dataset
from augment.store import Store, hash_file
from augment.versions import (
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


def test_unpinning_what_is_not_pinned_is_refused(stages: Stages) -> None:
    version = stages.publish().version
    assert version is not None
    with pytest.raises(InputError, match="not pinned"):
        unpin(stages.store, "animals", version)
    assert pin(stages.store, "animals", version[-12:]) == version
    assert list_versions(stages.store, "animals")[0].pinned


@pytest.mark.parametrize("act", [rollback, pin, unpin])
def test_acts_on_an_unknown_version_are_refused(stages: Stages, act: Callable[[Store, str, str], object]) -> None:
    stages.publish()
    with pytest.raises(InputError, match="has no version 'zzzz'"):
        act(stages.store, "animals", "zzzz")
