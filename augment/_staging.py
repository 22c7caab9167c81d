"""Folders in which a version is put together, beside the place that it is renamed to.

Each has a lock file that its process holds, so that the operating system tells a folder in use from one whose process
was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from augment._layout import LOCK, STAGING
from augment.store import locked


@contextlib.contextmanager
def staging(dataset: Path, run_id: str) -> Iterator[Path]:
    """An empty folder below ``dataset`` for one publication; what is left in it goes when the block ends."""
    folder = dataset / STAGING / f"{run_id}-{uuid.uuid4().hex[:8]}"
    lock = folder.with_name(folder.name + LOCK)
    with contextlib.ExitStack() as stack:
        with locked(dataset / LOCK):  # so that nobody takes the lock file for a dead one before it is held
            folder.mkdir(parents=True)
            stack.enter_context(locked(lock))
        try:
            yield folder
        finally:
            remove(folder)
            lock.unlink(missing_ok=True)


def stale_staging(dataset: Path) -> list[Path]:
    """What is below the staging folder and belongs to no living process; to be called under the dataset's lock."""
    stale = []
    for path in sorted((dataset / STAGING).glob("*")):
        lock = path if path.name.endswith(LOCK) else path.with_name(path.name + LOCK)
        if not _held(lock):
            stale.append(path)
    return stale


def discard(dataset: Path, path: Path) -> None:
    """Take ``path`` away at once by a rename into the staging folder, then remove it file by file.

    Whoever opens it finds it whole or not at all, and a removal that is interrupted is finished by the next sweep.
    """
    trash = dataset / STAGING / f"trash-{uuid.uuid4().hex[:8]}"
    trash.parent.mkdir(parents=True, exist_ok=True)
    path.rename(trash)
    remove(trash)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _held(lock: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
