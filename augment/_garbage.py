"""Taking away what no kept version and no unfinished run needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from augment._layout import CACHE, LOCK, QUARANTINE, VERSIONS
from augment._manifest import Latest, Manifest, read_pins, version_folders
from augment._staging import discard, remove, stale_staging
from augment.errors import IntegrityError
from augment.runs import run_records
from augment.store import Store, locked, remove_lock

KEEP_NEWEST = 5
KEEP_AGE = timedelta(days=7)
PLAN_STAGES = (
    "ingest",
    "encode",
    "given",
)  # what `augment plan` makes, which keeps no record, for the run that follows it
PLAN_SECONDS = 3600.0
LEFTOVERS = ("", "runs", "stages/*", "datasets/*")  # where files are replaced whole, by a temporary one beside them
LEFTOVER_SECONDS = 3600.0  # so long nobody takes to write such a file


class Removed(BaseModel):
    """One thing that was, or in a dry run would be, removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["version", "quarantine", "staging", "cache", "artifact", "run", "leftover"]
    path: str
    bytes: int


class Garbage(BaseModel):
    """What a collection removed, and how many bytes that were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool
    removed: list[Removed]
    bytes: int


def collect_garbage(store: Store, dry_run: bool = False) -> Garbage:
    """Remove what is not needed, and return what that was.

    Kept of each dataset are the latest version, the last five, those younger than seven days and those pinned; with
    them the artifacts that they were made from, and their caches. Whatever an unfinished run has noted or used since
    it began is kept as well, with its quarantine; for seven days what a comparison or search has noted; and what
    anybody makes or finds while this goes on, and what `augment plan` made within the hour. Nothing that a living
    process is writing is touched.
    """
    began = _file_clock(store)
    # Runs first: one that publishes and ends meanwhile is then still known here, or else its version is.
    records = list(run_records(store))
    unfinished = [record for record in records if record.unfinished]
    removed: list[Removed] = []
    needed = {(ref.stage, ref.key) for record in records if record.holds for ref in record.artifacts}
    for dataset in sorted(p for p in (store.root / "datasets").glob("*") if p.is_dir()):
        with locked(dataset / LOCK):
            kept = _kept_versions(dataset)
            needed |= {artifact for folder in kept for artifact in _artifacts(folder)}
            for kind, path in _unneeded(dataset, kept, {record.run_id for record in unfinished}):
                removed.append(Removed(kind=kind, path=str(path), bytes=_size(path)))
                if not dry_run:
                    remove(path) if kind == "staging" else discard(dataset, path)
    # A run that begins from here on is in no record that was read: what it finds or makes bears a later time.
    removed += _collect_artifacts(store, needed, min([began, *(r.started for r in unfinished)]), began, dry_run)
    removed += _collect_leftovers(store, began, dry_run)
    for record in records:
        if not record.unfinished and time.time() - record.started > KEEP_AGE.total_seconds():
            path = record.folder / f"{record.run_id}.json"
            removed.append(Removed(kind="run", path=str(path), bytes=_size(path)))
            if not dry_run:
                remove(path)
    return Garbage(dry_run=dry_run, removed=removed, bytes=sum(r.bytes for r in removed))


def _kept_versions(dataset: Path) -> list[Path]:
    """The versions that stay."""
    folders = version_folders(dataset)
    latest, pins = Latest.load(dataset), read_pins(dataset)
    named = pins | ({latest.version} if latest else set())
    return [p for p in folders if p in folders[-KEEP_NEWEST:] or p.name in named or _is_young(p)]


def _is_young(folder: Path) -> bool:
    """Whether a version was made less than seven days ago; one that does not say when counts as young."""
    try:
        created = datetime.fromisoformat(Manifest.load(folder).created)
    except (IntegrityError, ValueError):
        return True
    return datetime.now(UTC) - created < KEEP_AGE


def _artifacts(folder: Path) -> set[tuple[str, str]]:
    """Stage and key of what a version was made from; an altered manifest names none."""
    try:
        return {(ref.stage, ref.key) for ref in Manifest.load(folder).artifacts}
    except (IntegrityError, KeyError):
        return set()


def _unneeded(
    dataset: Path, kept: list[Path], running: set[str]
) -> Iterator[tuple[Literal["version", "quarantine", "staging", "cache"], Path]]:
    """What of a dataset goes; to be called under its lock."""
    names = {folder.name for folder in kept}
    yield from (("staging", path) for path in stale_staging(dataset))
    yield from (("version", p) for p in sorted((dataset / VERSIONS).glob("*")) if p.name not in names)
    yield from (("cache", p) for p in sorted((dataset / CACHE).glob("*")) if p.name not in names)
    yield from (("quarantine", p) for p in sorted((dataset / QUARANTINE).glob("*")) if p.name not in running)


def _collect_artifacts(
    store: Store, needed: set[tuple[str, str]], since: float, began: float, dry_run: bool
) -> list[Removed]:
    """Remove the stage artifacts that are not ``needed`` and were not used ``since``, and locks of what is gone."""
    removed = []
    for stage in sorted(p for p in (store.root / "stages").glob("*") if p.is_dir()):
        spared = min(since, began - PLAN_SECONDS) if stage.name in PLAN_STAGES else since
        for path in sorted(stage.iterdir()):
            key = path.name.removeprefix(".work-")
            if path.name.startswith((".lock-", ".tmp-")) or (stage.name, key) in needed:
                continue
            with _not_being_made(stage, key) as free:
                if free and _last_use(path) < spared:
                    removed.append(Removed(kind="artifact", path=str(path), bytes=_size(path)))
                    if not dry_run:
                        trash = path if path.name.startswith(".trash-") else path.with_name(f".trash-{path.name}")
                        path.rename(trash)  # at once, so that nobody finds half of it
                        remove(trash)
        if not dry_run:
            _remove_locks(stage)
    return removed


def _remove_locks(stage: Path) -> None:
    """Remove the lock files of artifacts that are not there, unless somebody is about to make one."""
    for lock in stage.glob(".lock-*"):
        key = lock.name.removeprefix(".lock-")
        if not (stage / key).exists() and not (stage / f".work-{key}").exists():
            remove_lock(lock)


def _collect_leftovers(store: Store, began: float, dry_run: bool) -> list[Removed]:
    """Remove temporary files whose writer was killed before it could rename them."""
    removed = []
    for path in sorted(path for place in LEFTOVERS for path in store.root.glob(f"{place}/.tmp-*".lstrip("/"))):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            if path.is_file() and _last_use(path) < began - LEFTOVER_SECONDS:
                removed.append(Removed(kind="leftover", path=str(path), bytes=_size(path)))
                if not dry_run:
                    remove(path)
    return removed


def _file_clock(store: Store) -> float:
    """The time that a file written now bears; the clock of a file system may differ from this machine's."""
    with tempfile.TemporaryFile(dir=store.root) as file:
        return os.fstat(file.fileno()).st_mtime


@contextlib.contextmanager
def _not_being_made(stage: Path, key: str) -> Iterator[bool]:
    """Whether nobody is making the artifact; nobody begins to before the block ends."""
    try:
        with (stage / f".lock-{key}").open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
    except FileNotFoundError:
        yield True


def _files(path: Path) -> list[Path]:
    return [path, *path.rglob("*")] if path.is_dir() else [path]


def _last_use(path: Path) -> float:
    """When something below ``path`` was written, or found by :meth:`Store.find`; seconds since 1970."""
    return max(p.lstat().st_mtime for p in _files(path))


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in _files(path) if not p.is_dir())
