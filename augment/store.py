"""Immutable artifacts on a file system: written beside their place, synced, named by one rename.

An artifact is a folder ``<root>/stages/<stage>/<key>`` whose ``manifest.json`` was written last. Its key is a hash of
everything it depends on, so the same inputs find the same folder. Files whose bytes are a function of the key are
*identity* files: their hashes make up the artifact's own hash, which the keys of later stages contain. Logs and
timings are kept beside them and do not count.

Durability is that of a POSIX file system on one machine: a rename is atomic and survives a crash once its folder is
synced. A network file system may promise less.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from augment.errors import InputError, StoreError

MANIFEST = "manifest.json"


class ArtifactRef(BaseModel):
    """Where an artifact is and what it contains; small enough to cross machines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    sha256: str


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version(*modules: str) -> str:
    """A hash of the source of ``modules``, so that artifacts of older code are not taken for those of newer code.

    A package stands for all of its modules.
    """
    digest = hashlib.sha256()
    for name in modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        origin = Path(spec.origin)
        for path in sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fsync_path(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Force every file and folder below ``root``, and ``root``, to the disk."""
    for folder, _, files in os.walk(root, topdown=False):
        for file in files:
            fsync_path(Path(folder, file))
        fsync_path(Path(folder))


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` so that a reader sees the old or the new content, also after a crash."""
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``, waiting for another process that has it.

    The operating system frees the lock when its holder dies, also by SIGKILL. The file stays until :func:`remove_lock`
    takes it away; whoever waited for one that is gone by then waits for the one in its place.

    Raises:
        InputError: the file cannot be written.
    """
    while True:
        with _open_to_lock(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield
                return


def _open_to_lock(path: Path) -> IO[str]:
    """The file ``path``, made if it is not there.

    Raises:
        InputError: it cannot be written: a store that is read only, or somebody else's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be written ({error.strerror}); use a store that you may write to."
        ) from None


def remove_lock(path: Path) -> None:
    """Remove the lock file ``path`` unless somebody holds it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("r") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file, path):
            path.unlink()


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether ``path`` is the open ``file`` still, and not removed or another one meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class Store:
    """The artifacts below one folder, which :meth:`open` makes and checks."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, location: str) -> Store:
        """The store at ``location``, made if it is not there.

        Raises:
            InputError: the folder cannot be made or written, or is not a folder of this machine.
        """
        if "://" in location:
            raise InputError(
                f"the store '{location}' is not a folder; object stores are not supported yet, use a path."
            )
        root = Path(location).expanduser()
        if not root.is_absolute():
            raise InputError(f"the store '{location}' is a relative path; give an absolute one.")
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".tmp-probe-{uuid.uuid4().hex[:8]}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the store '{root}' cannot be written ({error.strerror}); choose another folder."
            ) from None
        except ValueError as error:  # a NUL in the name
            raise InputError(f"the store {location!r} is no path ({error}); choose another folder.") from None
        return cls(root)

    def folder(self, stage: str, key: str) -> Path:
        """Where the artifact of ``stage`` with ``key`` is, or will be."""
        return self.root / "stages" / stage / key

    def path(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact that exists.

        Raises:
            StoreError: there is no such artifact, or it is another one.
        """
        found = self.find(ref.stage, ref.key)
        if found is None:
            raise StoreError(f"the {ref.stage} artifact {ref.key} is not in the store {self.root}; run again.")
        if found.sha256 != ref.sha256:
            raise StoreError(
                f"the {ref.stage} artifact {ref.key} in {self.root} is not the one referred to; run again."
            )
        return self.folder(ref.stage, ref.key)

    def find(self, stage: str, key: str) -> ArtifactRef | None:
        """The finished artifact of ``stage`` with ``key``, or null.

        Raises:
            StoreError: its manifest cannot be read.
        """
        manifest = self.folder(stage, key) / MANIFEST
        try:
            sha256 = json.loads(manifest.read_text())["sha256"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{manifest} is altered; remove the folder {manifest.parent} and run again.") from None
        with contextlib.suppress(OSError):  # a store that is read only has no garbage collected either
            os.utime(manifest)  # finding is using: garbage collection leaves what a going run has found
        return ArtifactRef(stage=stage, key=key, sha256=sha256)

    def write(
        self,
        stage: str,
        key: str,
        fill: Callable[[Path], None],
        *,
        identity: Iterable[str] | None = None,
        resumable: bool = False,
    ) -> ArtifactRef:
        """The artifact of ``stage`` with ``key``, filled by ``fill(folder)`` unless it is there already.

        Whoever comes second waits for the first and finds its artifact. ``identity`` names the files that make up
        the artifact's hash (all of them by default). A ``resumable`` folder is kept when ``fill`` does not return
        and given to the next call, which goes on from what it finds there; any other is removed.
        """
        target = self.folder(stage, key)
        found = self.find(stage, key)
        if found is not None:
            return found
        work = target.with_name(f".work-{key}")
        with locked(target.with_name(f".lock-{key}")):
            found = self.find(stage, key)  # another process may have made it while this one waited
            if found is not None:
                return found
            if work.exists() and not resumable:
                shutil.rmtree(work)
            work.mkdir(parents=True, exist_ok=True)
            try:
                fill(work)
            except BaseException:
                if not resumable:  # what was refused may be as large as the data, and no later call would go on from it
                    shutil.rmtree(work, ignore_errors=True)
                raise
            ref = self._seal(stage, key, work, identity)
            work.rename(target)
            fsync_path(target.parent)
        return ref

    def _seal(self, stage: str, key: str, work: Path, identity: Iterable[str] | None) -> ArtifactRef:
        """Write the manifest of a filled folder and force everything to the disk."""
        files = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file() and p.name != MANIFEST)
        hashes = {name: hash_file(work / name) for name in files}
        counted = set(files if identity is None else identity)
        sha256 = hash_json({name: value for name, value in hashes.items() if name in counted})
        fsync_tree(work)
        content = {"stage": stage, "key": key, "sha256": sha256, "identity": sorted(counted), "files": hashes}
        write_atomically(work / MANIFEST, json.dumps(content, indent=1) + "\n")
        return ArtifactRef(stage=stage, key=key, sha256=sha256)

    def verify(self, ref: ArtifactRef, names: Iterable[str] | None = None) -> Path:
        """The folder of an artifact after comparing every file, or those called ``names``, with its manifest.

        Raises:
            StoreError: a file is missing or altered.
        """
        folder = self.path(ref)
        verify_files(folder, names)
        return folder


def verify_files(folder: Path, names: Iterable[str] | None = None) -> None:
    """Compare every file of the artifact in ``folder``, or those called ``names``, with its manifest.

    Raises:
        StoreError: a file is missing or altered.
    """
    hashes = json.loads((folder / MANIFEST).read_text())["files"]
    for name in hashes if names is None else names:
        path, sha256 = folder / name, hashes.get(name)
        if not path.is_file() or hash_file(path) != sha256:
            raise StoreError(f"{path} is missing or altered; remove the folder {folder} and run again.")


def process_owner() -> dict[str, str | int]:
    """Who is running: host name and process id, for run records."""
    return {"host": socket.gethostname(), "pid": os.getpid()}
