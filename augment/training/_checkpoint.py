"""Checkpoints: everything a training run needs to go on as if it had never stopped.

A checkpoint is a folder ``step-000123``. It is written under a temporary name, its files are synced, its manifest of
hashes is written last, and one rename makes it visible. A reader compares the hashes before it parses anything, and
nothing in it is code: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from augment.errors import InputError
from augment.store import MANIFEST, fsync_path

KEPT = 2
PREFIX = "step-"
TEMPORARY = ".tmp-"
STATE = "state.json"
TENSOR_FILES = ("weights", "ema", "optimiser")
Tensors = dict[str, Tensor]


class CheckpointState(BaseModel):
    """What is not a tensor. ``identity`` says of which run this is: a resumed run must have the same.

    No generator has a state to keep: each is seeded anew from the run's seed and the step, and the step is the
    sampler's position too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    micro_batch: int
    seconds: float
    identity: dict[str, Any]
    optimiser: dict[str, Any] = {}
    scaler: dict[str, Any] = {}


@dataclass(frozen=True)
class Checkpoint:
    """A training run after ``state.step`` steps; the tensors are on the CPU when they come from a file."""

    state: CheckpointState
    weights: Tensors
    ema: Tensors
    optimiser: Tensors


class DamagedError(Exception):
    """A checkpoint folder does not hold what its manifest says."""


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors as safetensors and force them to the disk; those that share memory are written each.

    Raises:
        OSError: the file cannot be written, such as on a full disk.
    """
    from safetensors.torch import save

    _write_synced(path, save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """The new checkpoint's folder below ``folder``; all but the last two are removed after it is in place.

    Raises:
        OSError: the disk is full or broken. Nothing is left behind then, and older checkpoints are as they were.
    """
    target = folder / f"{PREFIX}{checkpoint.state.step:06d}"
    work = folder / f"{TEMPORARY}{target.name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        work.mkdir()
        for name in TENSOR_FILES:
            save_tensors(work / f"{name}.safetensors", getattr(checkpoint, name))
        _write_synced(work / STATE, (checkpoint.state.model_dump_json(indent=1) + "\n").encode())
        hashes = {path.name: _hash(path.read_bytes()) for path in sorted(work.iterdir())}
        _write_synced(work / MANIFEST, (json.dumps(hashes, indent=1) + "\n").encode())
        fsync_path(work)
        if target.exists():  # the run stopped again before its first new step
            shutil.rmtree(target)
        work.rename(target)
        fsync_path(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_newest(folder: Path, identity: dict[str, Any], say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint below ``folder`` that is whole, or null; ``say`` is told which were not, and why.

    What a killed run left half-written is removed.

    Raises:
        InputError: the checkpoint is of another configuration or of other data; the message lists the differences.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in _newest_first(folder):
        try:
            checkpoint = load_checkpoint(path)
        except DamagedError as error:
            say(f"skipped the checkpoint {path.name}: {error}")
            # It must not count as one of the last two when the next is saved.
            shutil.rmtree(path, ignore_errors=True)
            continue
        changed = differences(checkpoint.state.identity, identity)
        if changed:
            raise InputError(
                f"the checkpoint {path} is of another run ({'; '.join(changed)}); "
                f"remove the folder {folder} to train from the start, or restore these settings."
            )
        return checkpoint
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder ``path``, after comparing every file with the manifest.

    Raises:
        DamagedError: a file is missing, unreadable, or not the one that was written.
    """
    from safetensors.torch import load

    files = _verified(path)
    try:
        state = CheckpointState.model_validate_json(files[STATE])
    except ValidationError:
        raise DamagedError(f"{STATE} was written by another version") from None
    tensors = {name: load(files[f"{name}.safetensors"]) for name in TENSOR_FILES}
    return Checkpoint(state=state, **tensors)


def differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """What changed from ``old`` to ``new``, as ``train.steps: 100 -> 200``."""
    changed: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{where}{name}.")
        elif before != after:
            changed.append(f"{where}{name}: {json.dumps(before)} -> {json.dumps(after)}")
    return changed


def _newest_first(folder: Path) -> list[Path]:
    found = [p for p in folder.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True)


def _verified(path: Path) -> dict[str, bytes]:
    """The files of a checkpoint by name; the bytes that were hashed are the bytes that are parsed."""
    try:
        hashes = json.loads((path / MANIFEST).read_bytes())
        names = [STATE, *(f"{name}.safetensors" for name in TENSOR_FILES)]
        if not isinstance(hashes, dict) or sorted(hashes) != sorted(names):
            raise DamagedError(f"{MANIFEST} does not list the files of a checkpoint")
        files = {name: (path / name).read_bytes() for name in names}
    except (OSError, ValueError) as error:
        raise DamagedError(f"it cannot be read ({error})") from None
    for name, content in files.items():
        if _hash(content) != hashes[name]:
            raise DamagedError(f"{name} is not what was written ({len(content)} bytes, another SHA-256)")
    return files


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
