"""Checkpoints: whole or not there, compared with their hashes before anything is parsed."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from _toy_training import make_loop
from safetensors.torch import load_file

from augment.errors import InputError
from augment.training import _checkpoint as module
from augment.training._checkpoint import (
    Checkpoint,
    CheckpointState,
    DamagedError,
    differences,
    load_checkpoint,
    load_newest,
    save_checkpoint,
    save_tensors,
)

IDENTITY = {"model": {"width": 8}, "data": "abc"}


def some_checkpoint(step: int, **identity: Any) -> Checkpoint:
    state = CheckpointState(step=step, micro_batch=4, seconds=1.0, identity={**IDENTITY, **identity})
    tensors = {"a": torch.full((3, 2), float(step)), "steps": torch.tensor(step)}
    return Checkpoint(state, tensors, tensors, {"left/0/step": torch.tensor(float(step))})


def newest(folder: Path, said: list[str] | None = None) -> int | None:
    said = [] if said is None else said
    found = load_newest(folder, IDENTITY, said.append)
    return None if found is None else found.state.step


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = some_checkpoint(7)
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert loaded.state == saved.state
    assert torch.equal(loaded.weights["a"], saved.weights["a"])
    assert loaded.weights["steps"].shape == ()
    assert torch.equal(loaded.optimiser["left/0/step"], saved.optimiser["left/0/step"])


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, some_checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000030"]
    assert newest(tmp_path) == 30


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["empty", "half", "bit", "absent"])
def test_a_damaged_newest_checkpoint_is_skipped_and_named(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, some_checkpoint(1))
    path = save_checkpoint(tmp_path, some_checkpoint(2)) / name
    content = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "bit": content}[damage])
    said: list[str] = []
    assert newest(tmp_path, said) == 1
    assert len(said) == 1
    assert "step-000002" in said[0]
    assert name in said[0] or "cannot be read" in said[0]


def test_a_checkpoint_without_its_manifest_was_never_finished(tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, some_checkpoint(2)) / "manifest.json").unlink()
    assert newest(tmp_path) is None


def test_what_a_killed_save_left_behind_is_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, some_checkpoint(1))
    (tmp_path / ".tmp-step-000002-1234").mkdir()
    assert newest(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_another_configuration_or_other_data_are_refused_with_what_differs(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, some_checkpoint(1, model={"width": 16}, data="xyz"))
    with pytest.raises(InputError, match=r'data: "xyz" -> "abc"; model.width: 16 -> 8'):
        newest(tmp_path)
    assert (tmp_path / "step-000001").exists()


def test_differences_name_settings_that_are_new_or_gone() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 2, "d": 3}}) == ["a: 1 -> null", "b.d: null -> 3"]


def test_a_hostile_pickle_is_never_loaded(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {sentinel}",)

    path = save_checkpoint(tmp_path / "c", some_checkpoint(1)) / "weights.safetensors"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DamagedError):
        load_checkpoint(path.parent)
    assert newest(tmp_path / "c") is None
    assert not sentinel.exists()


def test_the_hash_is_compared_before_anything_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, some_checkpoint(1))
    (path / "state.json").write_text("not JSON")
    monkeypatch.setattr(CheckpointState, "model_validate_json", lambda *_: pytest.fail("parsed before it was hashed"))
    with pytest.raises(DamagedError, match=r"state\.json"):
        load_checkpoint(path)


@pytest.mark.parametrize("nth", range(1, 8))
def test_a_disk_that_fills_up_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    save_checkpoint(tmp_path, some_checkpoint(1))
    calls = 0

    def full(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    if nth <= 6:  # four files, the manifest, their folder; what fails after the rename is not undone
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, some_checkpoint(2))
        assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
        assert newest(tmp_path) == 1
    else:
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, some_checkpoint(2))
        assert newest(tmp_path) == 2


def test_everything_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = Path.rename

    def synced(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def renamed(self: Path, target: Path) -> Path:
        events.append("RENAME")
        return rename(self, target)

    monkeypatch.setattr(module.os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    save_checkpoint(tmp_path / "all", some_checkpoint(1))
    before, after = events[: events.index("RENAME")], events[events.index("RENAME") + 1 :]
    files = {"weights.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json"}
    assert set(before[:-2]) == files
    assert before[-2] == "manifest.json"
    assert after == ["all"]


def test_tensors_that_share_memory_are_each_saved(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    save_tensors(tmp_path / "t", {"a": tensor, "b": tensor, "c": tensor.T})
    loaded = load_file(tmp_path / "t")
    assert torch.equal(loaded["a"], loaded["b"])
    assert torch.equal(loaded["c"], tensor.T)


def test_a_full_disk_does_not_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = make_loop(tmp_path / "a", steps=6)
    unbroken.run()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loop = make_loop(tmp_path / "b", steps=6)
    monkeypatch.setattr(module.os, "fsync", full)
    loop.run()
    assert "warning: no checkpoint at step 6" in (tmp_path / "b/train.log").read_text()
    assert list((tmp_path / "b/checkpoints").iterdir()) == []
    for name, tensor in unbroken.average.tensors.items():
        assert torch.equal(tensor, loop.average.tensors[name])
