"""What a published version says about itself, and which version is the latest.

``MANIFEST.json`` lists every other file with its SHA-256; ``BLESSED`` holds the manifest's own. ``_latest.json`` names
the latest version and the highest sequence number that it ever pointed at, by which an interrupted publication is told
from a rollback.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from augment._layout import BLESSED, LATEST, MANIFEST, PINS, SEALS, VERSIONS
from augment.errors import InputError, IntegrityError, did_you_mean
from augment.gates import NOT_IN_VERSION_HASH, GateResult, in_order
from augment.schema import DatasetSchema
from augment.store import ArtifactRef, hash_file, write_atomically

FORMAT_VERSION = 1
HEX_DIGITS = 12

Counts = dict[str, dict[str, dict[str, int]]]  # {split: {class name: {"real": rows, "synthetic": rows}}}


class FileEntry(BaseModel):
    """One file of a version; ``rows`` is null for what is no Parquet file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    rows: int | None
    sha256: str


class Manifest(BaseModel):
    """Everything that a version says about itself; ``sequence`` orders versions, whatever the clock said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    dataset: str
    version: str | None  # null in quarantine
    sequence: int | None
    created: str
    verdict: Literal["blessed", "not blessed"]
    inputs_sha256: str
    files: dict[str, FileEntry]
    counts: Counts
    dataset_schema: DatasetSchema = Field(
        serialization_alias="schema", validation_alias=AliasChoices("schema", "dataset_schema")
    )
    equal_class_mass: bool
    lineage: dict[str, Any]
    worth: dict[str, Any] | None
    gates: list[GateResult]

    @property
    def rows(self) -> dict[str, dict[str, int]]:
        """The training rows of each class, ``{class: {"real": rows, "synthetic": rows}}``."""
        return self.counts["train"]

    @property
    def artifacts(self) -> list[ArtifactRef]:
        """The stage artifacts that the version was made from."""
        return [ArtifactRef.model_validate(value) for value in self.lineage["artifacts"]]

    def save(self, folder: Path) -> None:
        """Write ``MANIFEST.json`` into ``folder``."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of the version in ``folder``.

        Raises:
            IntegrityError: it is missing or cannot be read.
        """
        try:
            return cls.model_validate_json((folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise IntegrityError(f"{folder} has no {MANIFEST}; it is no published version.") from None
        except (ValidationError, UnicodeDecodeError):
            raise IntegrityError(f"{folder / MANIFEST} is altered and cannot be read; use another version.") from None


class Latest(BaseModel):
    """The content of ``_latest.json``; ``sequence`` is the highest that was ever pointed at and never falls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    manifest_sha256: str
    sequence: int

    def save(self, dataset: Path) -> None:
        """Replace ``_latest.json`` atomically."""
        write_atomically(dataset / LATEST, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, dataset: Path) -> Latest | None:
        """What ``dataset`` points at, or null where nothing was ever published.

        Raises:
            IntegrityError: the pointer cannot be read.
        """
        try:
            return cls.model_validate_json((dataset / LATEST).read_text())
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError):
            raise IntegrityError(f"{dataset / LATEST} is altered; mend it with `augment rollback`.") from None


def list_files(
    folder: Path, root: Path | None = None, known: Mapping[str, FileEntry] | None = None
) -> dict[str, FileEntry]:
    """Every file below ``folder`` that a manifest lists, by its path from ``root``, without reading ``known`` again."""
    entries = dict(known or {})
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(root or folder).as_posix()
        if name not in entries and name not in SEALS:
            rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
            entries[name] = FileEntry(bytes=path.stat().st_size, rows=rows, sha256=hash_file(path))
    return dict(sorted(entries.items()))


def version_hex(data: Mapping[str, str], gates: Iterable[GateResult], worth: Mapping[str, Any] | None) -> str:
    """The 12 hex digits that name what a version holds: its data (path to SHA-256), its evidence and its worth."""
    counted = [g.model_dump(mode="json") for g in in_order(gates) if g.gate not in NOT_IN_VERSION_HASH]
    content = json.dumps([dict(data), counted, worth], sort_keys=True)  # figures may be infinite, unlike in a key
    return hashlib.sha256(content.encode()).hexdigest()[:HEX_DIGITS]


def is_data(name: str) -> bool:
    """Whether a file of a version holds published rows."""
    return name.startswith(("data/", "eval/"))


def find_hex(dataset: Path, digits: str) -> Path | None:
    """The version of ``dataset`` whose name ends in ``digits``, or null."""
    return next((dataset / VERSIONS).glob(f"*-{digits}"), None)


def version_folders(dataset: Path) -> list[Path]:
    """The versions of ``dataset``, oldest first, by the sequence in their manifests."""
    folders = [p for p in (dataset / VERSIONS).glob("*") if p.is_dir()]
    return sorted(folders, key=sequence_of)


def sequence_of(folder: Path) -> int:
    """The sequence number of a version, 0 where its manifest cannot be read."""
    try:
        return int(json.loads((folder / MANIFEST).read_text())["sequence"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # an altered version must not stop others from being published, listed or chosen


def resolve_version(dataset: Path, version: str | None) -> Path:
    """The folder of a version given by its name, by its hex digits or their beginning; null: the latest.

    Raises:
        InputError: there is no such version, or several.
    """
    if version is None:
        latest = Latest.load(dataset)
        if latest is None:
            raise InputError(f"the dataset {dataset} has no published version yet; run `augment run`.")
        return dataset / VERSIONS / latest.version
    names = [p.name for p in version_folders(dataset)]
    found = [n for n in names if version in (n, n.rpartition("-")[0]) or n.rpartition("-")[2].startswith(version)]
    if len(found) > 1:
        raise InputError(f"'{version}' may be {' or '.join(found)} of the dataset '{dataset.name}'; give more of it.")
    if not found or not version:
        hint = did_you_mean(version, names)
        raise InputError(f"the dataset '{dataset.name}' has no version '{version}'{hint}")
    return dataset / VERSIONS / found[0]


def read_pins(dataset: Path) -> set[str]:
    """The versions of ``dataset`` that are pinned.

    Raises:
        IntegrityError: the list of them cannot be read.
    """
    try:
        return set(json.loads((dataset / PINS).read_text())["pinned"])
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{dataset / PINS} is altered; remove it and pin again.") from None


def read_seal(folder: Path) -> str:
    """The hash that ``BLESSED`` holds: that of the manifest at publication.

    Raises:
        IntegrityError: the version is not blessed.
    """
    try:
        return str(json.loads((folder / BLESSED).read_text())["manifest_sha256"])
    except FileNotFoundError:
        raise IntegrityError(f"{folder} is not blessed; only versions that passed their gates may be read.") from None
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{folder / BLESSED} is altered; use another version.") from None
