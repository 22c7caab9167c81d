"""Who is running, and what garbage collection must leave to them: one small JSON file per run in ``<store>/runs``.

::

    record = RunRecord.start(store, run_id, config_sha256)
    record.note(ref)            # after every stage
    record.finish("published")  # whatever came of it; a killed run stays "running"
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from augment.store import ArtifactRef, Store, process_owner, write_atomically

GRACE_SECONDS = 7 * 86_400.0  # how long the work of a run that was killed or failed waits to be taken up again


class RunRecord(BaseModel):
    """One run; ``started`` is seconds since 1970 by the clock of the file system."""

    model_config = ConfigDict(extra="forbid")

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    config_sha256: str
    owner: dict[str, str | int]
    started: float
    status: str = "running"
    artifacts: list[ArtifactRef] = []
    folder: Path = Field(exclude=True, default=Path())

    @classmethod
    def start(cls, store: Store, run_id: str, config_sha256: str) -> RunRecord:
        """The record of a run that begins now; the same id begins anew."""
        folder = store.root / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{run_id}.json"
        record = cls(
            run_id=run_id, config_sha256=config_sha256, owner=process_owner(), started=time.time(), folder=folder
        )
        record._save()
        # The clock that stamps files may be some milliseconds behind that of time.time().
        record.started = path.stat().st_mtime
        record._save()
        return record

    def note(self, *refs: ArtifactRef) -> None:
        """Add artifacts that the run uses or has made."""
        self.artifacts += [ref for ref in refs if ref not in self.artifacts]
        self._save()

    def finish(self, status: str) -> None:
        """Say that the run ended: ``published``, ``unchanged``, ``refused``, ``compared`` or ``failed``."""
        self.status = status
        self._save()

    @property
    def unfinished(self) -> bool:
        """Whether the run goes on, or was killed or failed and began less than seven days ago: the same command again
        takes up its work, such as the checkpoints of a training that had no room left.
        """
        if self.status not in ("running", "failed"):
            return False
        return self._is_young() or (self.status == "running" and self._is_alive())

    @property
    def holds(self) -> bool:
        """Whether garbage collection leaves the artifacts of the run alone: those of an unfinished run, and for seven
        days those of a comparison or search, whose best may still be published and whose trials may be gone on from.
        """
        return self.unfinished or (self.status == "compared" and self._is_young())

    def _is_young(self) -> bool:
        return time.time() - self.started < GRACE_SECONDS

    def _is_alive(self) -> bool:
        if self.owner.get("host") != socket.gethostname():
            return False
        try:
            os.kill(int(self.owner["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # somebody else's process
        return True

    def _save(self) -> None:
        write_atomically(self.folder / f"{self.run_id}.json", self.model_dump_json(indent=1) + "\n")


def run_records(store: Store) -> Iterator[RunRecord]:
    """All runs that the store knows of; a record that cannot be read is left out."""
    for path in sorted((store.root / "runs").glob("*.json")):
        try:
            yield RunRecord.model_validate_json(path.read_text()).model_copy(update={"folder": path.parent})
        except (FileNotFoundError, ValidationError):
            continue  # removed meanwhile, or written by another version of the program
