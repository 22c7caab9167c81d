"""The store of immutable artifacts: crashes, two writers, altered files."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from augment.errors import InputError, StoreError
from augment.store import ArtifactRef, Store, code_version, hash_json, locked, remove_lock, write_atomically

# A writer that dies before its Nth fsync, rename or opening of a file to write, and says when it came to its end.
WRITER = """
import os, signal, sys
from pathlib import Path
from augment.store import Store

root, number, seen = Path(sys.argv[1]), int(sys.argv[2]), 0
fsync = os.fsync

def count():
    global seen
    seen += 1
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in ("os.rename", "os.mkdir", "os.remove") or writes) and str(arguments[0]).startswith(str(root)):
        count()

def counted_fsync(descriptor):
    count()
    fsync(descriptor)

os.fsync = counted_fsync
sys.addaudithook(hook)

def fill(folder):
    (folder / "a.txt").write_text("first")
    (folder / "deep").mkdir()
    (folder / "deep/b.txt").write_text("second")

print(Store(root).write("stage", "key", fill).sha256)
"""


def fill(folder: Path) -> None:
    (folder / "a.txt").write_text("first")
    (folder / "deep").mkdir()
    (folder / "deep/b.txt").write_text("second")


def unwanted(folder: Path) -> None:
    raise AssertionError("the artifact is there and must not be made again")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def test_an_artifact_is_made_once(store: Store) -> None:
    ref = store.write("stage", "key", fill)
    assert store.write("stage", "key", unwanted) == ref == store.find("stage", "key")
    assert (store.path(ref) / "deep/b.txt").read_text() == "second"


def test_only_identity_files_make_up_the_hash(store: Store) -> None:
    def with_log(text: str) -> ArtifactRef:
        def write(folder: Path) -> None:
            (folder / "weights").write_text("same")
            (folder / "log").write_text(text)

        return store.write("stage", text, write, identity=["weights"])

    assert with_log("one").sha256 == with_log("two").sha256


def test_an_artifact_that_is_not_there_is_refused(store: Store) -> None:
    ref = store.write("stage", "key", fill)
    with pytest.raises(StoreError, match="not in the store"):
        store.path(ref.model_copy(update={"key": "other"}))
    with pytest.raises(StoreError, match="not the one referred to"):
        store.path(ref.model_copy(update={"sha256": "0" * 64}))


def test_an_altered_file_is_named(store: Store) -> None:
    ref = store.write("stage", "key", fill)
    file = store.verify(ref) / "deep/b.txt"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(StoreError, match=r"deep/b\.txt is missing or altered"):
        store.verify(ref)


def test_a_missing_file_is_named(store: Store) -> None:
    ref = store.write("stage", "key", fill)
    (store.path(ref) / "a.txt").unlink()
    with pytest.raises(StoreError, match=r"a\.txt is missing"):
        store.verify(ref)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_an_altered_manifest_is_named(store: Store, content: str) -> None:
    ref = store.write("stage", "key", fill)
    (store.path(ref) / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=r"manifest\.json is altered; remove the folder"):
        store.find("stage", "key")


def test_what_is_wrong_with_the_store_is_no_refusal() -> None:
    assert StoreError.exit_code == 1


def test_a_failed_artifact_leaves_nothing_to_find_and_can_be_made_again(store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        store.write("stage", "key", fail)
    assert store.find("stage", "key") is None
    assert not (store.path(store.write("stage", "key", fill)) / "half").exists()


def test_a_resumable_folder_is_given_to_the_next_call(store: Store) -> None:
    def begin(folder: Path) -> None:
        (folder / "checkpoint").write_text("half way")
        raise RuntimeError("killed")

    def go_on(folder: Path) -> None:
        assert (folder / "checkpoint").read_text() == "half way"

    with pytest.raises(RuntimeError):
        store.write("stage", "key", begin, resumable=True)
    store.write("stage", "key", go_on, resumable=True)


def write_killed(root: Path, number: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(root), str(number)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_writer_killed_at_any_step_leaves_nothing_or_all(tmp_path: Path) -> None:
    expected = Store.open(str(tmp_path / "whole")).write("stage", "key", fill)
    points = 0
    while True:
        points += 1
        root = tmp_path / f"store-{points}"
        root.mkdir()
        killed = write_killed(root, points)
        store = Store(root)
        found = store.find("stage", "key")
        assert found in (None, expected)
        assert store.write("stage", "key", fill) == expected
        store.verify(expected)
        assert [p.name for p in (root / "stages/stage").iterdir() if p.name.startswith(".work")] == []
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert points > 12


def test_two_writers_make_one_artifact(store: Store) -> None:
    made, refs = [], []

    def slowly(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.1)
        fill(folder)

    threads = [threading.Thread(target=lambda: refs.append(store.write("stage", "key", slowly))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(refs)) == 1
    assert len(refs) == 4


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from augment.store import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path / "lock"):
        pass


def test_a_lock_that_is_held_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        remove_lock(path)
        assert path.exists()
    remove_lock(path)
    assert not path.exists()
    remove_lock(path)


def test_who_waited_for_a_lock_that_was_removed_waits_for_the_one_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held: list[str] = []

    def wait() -> None:
        with locked(path):
            held.append("second")

    with locked(path):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.1)
        path.unlink()  # as another process would that takes the lock file for nobody's
        again = path.open("a")
        fcntl.flock(again, fcntl.LOCK_EX)
    waiter.join(0.2)
    assert held == []
    again.close()
    waiter.join(10)
    assert held == ["second"]


def test_a_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "pointer.json"
    for text in ("old", "new"):
        write_atomically(path, text)
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["pointer.json"]


@pytest.mark.parametrize(
    ("location", "said"),
    [("s3://bucket/store", "not a folder"), ("store", "relative path"), ("/proc/store", "cannot be")],
)
def test_a_store_that_cannot_be_used_is_refused(location: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Store.open(location)


def test_a_store_at_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store.open(str(tmp_path / "file"))


def test_keys_depend_on_values_and_not_on_their_order() -> None:
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1}) != hash_json({"a": 1, "b": [3]})


def test_code_versions_tell_modules_apart() -> None:
    assert code_version("augment.store") != code_version("augment.gates")


def test_finding_an_artifact_is_using_it(store: Store) -> None:
    ref = store.write("stage", "key", fill)
    manifest = store.path(ref) / "manifest.json"
    os.utime(manifest, (0, 0))
    store.find("stage", "key")
    assert time.time() - manifest.stat().st_mtime < 60
    assert json.loads(manifest.read_text())["key"] == "key"


def test_what_a_refused_artifact_left_behind_is_removed(store: Store) -> None:
    def refuse(folder: Path) -> None:
        (folder / "spool").write_text("as large as the data")
        raise InputError("no.")

    with pytest.raises(InputError):
        store.write("stage", "key", refuse)
    assert [p.name for p in (store.root / "stages/stage").iterdir()] == [".lock-key"]


def test_a_lock_in_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot be written .*use a store that you may write to"),
        locked(tmp_path / "file" / ".lock"),
    ):
        pass
