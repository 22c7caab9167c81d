"""What a training run says of itself in its folder, whether or not anybody listens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from augment.store import write_atomically

METRICS = "metrics.jsonl"
LOG = "train.log"


class Journal:
    """``metrics.jsonl``, one JSON object a line, and ``train.log``, one sentence a line.

    A full disk must not end a training that could go on, so a line that cannot be written is lost.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def say(self, sentence: str) -> None:
        """Add a line to ``train.log``."""
        self._append(LOG, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {sentence}\n")

    def record(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Add a line to ``metrics.jsonl``: ``values`` are means over the steps since the line before.

        These are the terms that each objective's loss returns and its ``gradient_norm``, ``OBJECTIVE.TERM`` where there
        are several. The figures of :mod:`augment.training._spot_checks` beside them are of that step alone.
        """
        self._append(METRICS, json.dumps({"step": step, "seconds": round(seconds, 3), **values}) + "\n")

    def rewind(self, step: int) -> None:
        """Remove the metrics of steps after ``step``, which will be taken again, and lines that were cut short."""
        path = self._folder / METRICS
        if not path.exists():
            return
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) != len(lines):
            write_atomically(path, "".join(kept))

    def _append(self, name: str, line: str) -> None:
        try:
            descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError:
            return
        try:
            os.write(descriptor, line.encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinite where the line is not whole."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
