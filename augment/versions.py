"""The published versions of a store: listing, verifying, rolling back and pinning them."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from augment._garbage import Garbage, collect_garbage
from augment._layout import BLESSED, LOCK, MANIFEST, PINS, SEALS, VERSIONS
from augment._manifest import (
    Latest,
    Manifest,
    is_data,
    read_pins,
    read_seal,
    resolve_version,
    sequence_of,
    version_folders,
    version_hex,
)
from augment.errors import InputError, IntegrityError, did_you_mean
from augment.store import Store, hash_file, locked, write_atomically

__all__ = [
    "DatasetSummary",
    "Garbage",
    "Verification",
    "VersionSummary",
    "collect_garbage",
    "list_datasets",
    "list_versions",
    "pin",
    "refuse_altered",
    "rollback",
    "show",
    "unpin",
    "verify",
]


class VersionSummary(BaseModel):
    """One version in a list; ``bytes`` counts all of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    sequence: int
    created: str
    path: str
    rows: dict[str, int]  # {"real": ..., "synthetic": ...} to train on
    bytes: int
    latest: bool
    pinned: bool
    readable: bool  # false where the manifest is altered; `verify` says how


class DatasetSummary(BaseModel):
    """One dataset in a list; ``latest`` is null where nothing of it was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    path: str
    latest: VersionSummary | None
    versions: int


class Verification(BaseModel):
    """What comparing a version with its manifest found; each name is a path from the version's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    version: str
    path: str
    files: int
    altered: list[str]
    missing: list[str]
    extra: list[str]

    @property
    def ok(self) -> bool:
        """Whether every byte is as it was published."""
        return not (self.altered or self.missing or self.extra)

    @property
    def sentence(self) -> str:
        """What was found and what to do, as one sentence."""
        if self.ok:
            return f"All {self.files} files of {self.path} are as they were published."
        found = {"altered": self.altered, "missing": self.missing, "extra": self.extra}
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
        return f"{self.path} is not as it was published ({listed}); use another version or publish again without it."


def list_datasets(store: Store) -> list[DatasetSummary]:
    """The datasets of the store by name."""
    summaries = []
    for folder in sorted(p for p in (store.root / "datasets").glob("*") if (p / VERSIONS).is_dir()):
        versions = list_versions(store, folder.name)
        latest = next((v for v in versions if v.latest), None)
        summaries.append(DatasetSummary(dataset=folder.name, path=str(folder), latest=latest, versions=len(versions)))
    return summaries


def list_versions(store: Store, name: str) -> list[VersionSummary]:
    """The versions of a dataset, oldest first by sequence.

    Raises:
        InputError: there is no such dataset.
    """
    dataset = _existing(store, name)
    latest, pins = Latest.load(dataset), read_pins(dataset)
    return [
        _summary(folder, latest is not None and latest.version == folder.name, folder.name in pins)
        for folder in version_folders(dataset)
    ]


def _summary(folder: Path, latest: bool, pinned: bool) -> VersionSummary:
    try:
        manifest = Manifest.load(folder)
    except IntegrityError:
        manifest = None
    rows = {"real": 0, "synthetic": 0}
    for counts in manifest.rows.values() if manifest else []:
        rows = {origin: rows[origin] + counts[origin] for origin in rows}
    return VersionSummary(
        version=folder.name,
        sequence=sequence_of(folder),
        created=manifest.created if manifest else "",
        path=str(folder),
        rows=rows,
        bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        latest=latest,
        pinned=pinned,
        readable=manifest is not None,
    )


def show(store: Store, name: str, version: str | None = None) -> tuple[Path, Manifest]:
    """The folder and the manifest of a version: by name, by (the beginning of) its hex digits, or the latest.

    Raises:
        InputError: there is no such dataset or version.
        IntegrityError: its manifest is altered.
    """
    folder = resolve_version(_existing(store, name), version)
    return folder, Manifest.load(folder)


def verify(store: Store, name: str, version: str | None = None) -> Verification:
    """Every byte of a version compared with its manifest, and the manifest with its seal.

    Raises:
        InputError: there is no such dataset or version.
    """
    dataset = _existing(store, name)
    return _compare(resolve_version(dataset, version), Latest.load(dataset))


def refuse_altered(folder: Path, latest: Latest | None = None) -> None:
    """Refuse a version that is not as it was published.

    Raises:
        IntegrityError: names what is altered, missing or extra.
    """
    found = _compare(folder, latest)
    if not found.ok:
        raise IntegrityError(found.sentence)


def _compare(folder: Path, latest: Latest | None) -> Verification:
    """What differs between the files of a version and its manifest."""
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    missing = {MANIFEST, BLESSED} - present
    altered, listed = _altered_seals(folder, latest), set(SEALS[:2])
    try:
        entries = Manifest.load(folder).files
    except IntegrityError:
        entries, listed = {}, present  # without a manifest nothing can be told about the rest
        altered |= {MANIFEST} - missing
    listed |= set(entries)
    missing |= set(entries) - present
    altered |= {n for n, e in entries.items() if n in present and hash_file(folder / n) != e.sha256}
    return Verification(
        dataset=folder.parent.parent.name,
        version=folder.name,
        path=str(folder),
        files=len(present),
        altered=sorted(altered),
        missing=sorted(missing),
        extra=sorted(present - listed),
    )


def _altered_seals(folder: Path, latest: Latest | None) -> set[str]:
    """Which of the manifest and the files that hold its hash contradict each other."""
    altered = set()
    try:
        manifest_sha256 = hash_file(folder / MANIFEST)
        seal = read_seal(folder)
    except (IntegrityError, FileNotFoundError):
        return {BLESSED} if (folder / BLESSED).exists() and (folder / MANIFEST).exists() else set()
    if seal != manifest_sha256:
        altered |= {MANIFEST}
    if latest is not None and latest.version == folder.name and latest.manifest_sha256 != manifest_sha256:
        altered |= {MANIFEST}
    try:
        manifest = Manifest.load(folder)
    except IntegrityError:
        return altered | {MANIFEST}
    data = {n: e.sha256 for n, e in manifest.files.items() if is_data(n)}
    if version_hex(data, manifest.gates, manifest.worth) != folder.name.rpartition("-")[2]:
        altered |= {MANIFEST}
    return altered


def rollback(store: Store, name: str, version: str) -> VersionSummary:
    """Make an older (or newer) version the latest; nothing is removed, and unchanged runs leave it so.

    Raises:
        InputError: there is no such dataset or version.
        IntegrityError: the version is not as it was published.
    """
    dataset = _existing(store, name)
    with locked(dataset / LOCK):
        folder = resolve_version(dataset, version)
        refuse_altered(folder)
        try:
            latest = Latest.load(dataset)
            highest = latest.sequence if latest else 0
        except IntegrityError:  # this is how an altered pointer is mended
            highest = max(map(sequence_of, version_folders(dataset)))
        sequence = max(highest, sequence_of(folder))
        Latest(version=folder.name, manifest_sha256=hash_file(folder / MANIFEST), sequence=sequence).save(dataset)
        return _summary(folder, True, folder.name in read_pins(dataset))


def pin(store: Store, name: str, version: str) -> str:
    """Keep a version from garbage collection; returns its full name.

    Raises:
        InputError: there is no such dataset or version.
    """
    return _change_pins(store, name, version, keep=True)


def unpin(store: Store, name: str, version: str) -> str:
    """Let garbage collection have a version again; returns its full name.

    Raises:
        InputError: there is no such dataset or version, or it is not pinned.
    """
    return _change_pins(store, name, version, keep=False)


def _change_pins(store: Store, name: str, version: str, keep: bool) -> str:
    dataset = _existing(store, name)
    with locked(dataset / LOCK):
        found = resolve_version(dataset, version).name
        pins = read_pins(dataset)
        if not keep and found not in pins:
            raise InputError(f"the version {found} of the dataset '{name}' is not pinned; there is nothing to undo.")
        pins = pins | {found} if keep else pins - {found}
        write_atomically(dataset / PINS, json.dumps({"pinned": sorted(pins)}, indent=1) + "\n")
    return found


def _existing(store: Store, name: str) -> Path:
    """The folder of a dataset that exists."""
    folder = store.root / "datasets"
    known = [p.name for p in folder.glob("*") if (p / VERSIONS).is_dir()]
    if name not in known:
        raise InputError(f"there is no dataset '{name}' in {folder}{did_you_mean(name, known)}")
    return folder / name
