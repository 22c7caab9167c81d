"""Progress of the stages: lines or bars on a terminal, one log line now and then, and a progress artifact."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from augment.progress import Progress as Listener

LOG_SECONDS = 30.0
LINE_SECONDS = 5.0
ARTIFACT_SECONDS = 5.0
BAR_SECONDS = 0.1

SHOWN: ContextVar[Listener | None] = ContextVar("shown", default=None)  # the terminal of a local run


class Pace:
    """How fast a stage goes, and when something was last said of it."""

    def __init__(self) -> None:
        self._first = self._last = -1
        self._started = self._said = 0.0

    def due(self, done: int, seconds: float, finished: bool) -> bool:
        """Whether ``done`` should be said: every ``seconds``, and at the end. A stage that starts over starts anew."""
        now = time.monotonic()
        if done < self._last or self._last < 0:
            self._first, self._started, self._said = done, now, 0.0
        self._last = done
        if not finished and now - self._said < seconds:
            return False
        self._said = now
        return True

    def figures(self, total: int, unit: str, values: Mapping[str, float] | None) -> str:
        """The figures beside a bar: ``, 812 steps/s, loss 23.1, 4 s left``; empty where there are none yet."""
        parts = [""]
        seconds = time.monotonic() - self._started
        rate = (self._last - self._first) / seconds if seconds > 0 else 0.0
        if rate > 0:
            parts.append(f"{rate:,.0f} {unit}s/s" if rate >= 10 else f"{rate:.2g} {unit}s/s")
        if values and "loss" in values:
            parts.append(f"loss {values['loss']:.4g}")
        if rate > 0 and total > self._last:
            parts.append(f"{(total - self._last) / rate:.0f} s left")
        return ", ".join(parts)


def amount(done: int, total: int, unit: str) -> str:
    """How far a stage is; a total of 0 is one that nobody knows yet."""
    return f"{done:,} of {total:,} {unit}s" if total else f"{done:,} {unit}s"


class TerminalLines:
    """A listener that writes a line to standard error every few seconds: for pipes and log files."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def __enter__(self) -> TerminalLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._paces.clear()

    def __call__(self, stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` of ``total`` units of ``stage`` are finished."""
        pace = self._paces.setdefault(stage, Pace())
        if pace.due(done, LINE_SECONDS, done >= total > 0):
            figures = pace.figures(total, unit, values)
            print(f"{stage:<9} {amount(done, total, unit)}{figures}", file=sys.stderr, flush=True)


class TerminalBars:
    """A listener that draws a bar for each stage on standard error."""

    def __init__(self, console: Console) -> None:
        self._paces: dict[str, Pace] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            console=console,
            refresh_per_second=5,
        )

    def __enter__(self) -> TerminalBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` of ``total`` units of ``stage`` are finished."""
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total or None, figures="")
            self._paces[stage] = Pace()
        pace = self._paces[stage]
        if pace.due(done, BAR_SECONDS, done >= total > 0):
            text = amount(done, total, unit) + pace.figures(total, unit, values)
            self._progress.update(self._bars[stage], completed=done, total=total or None, figures=text)


class RunProgress:
    """A listener for a stage inside a Prefect run: the terminal if there is one, else the run's log; and an artifact.

    The artifact is drawn in Prefect's interface. The first time that the API does not take it is the last one tried,
    so that a server which is away does not hold a training up.
    """

    def __init__(self, artifact: str | None = None) -> None:
        self._shown = SHOWN.get()
        self._logger = get_run_logger()  # a stage may report from a thread, which knows of no run
        self._lock = threading.Lock()
        self._paces: dict[str, Pace] = {}
        self._artifact_key = artifact
        self._artifact: UUID | None = None
        self._artifact_pace = Pace()

    def __call__(self, stage: str, done: int, total: int, unit: str, values: Mapping[str, float] | None = None) -> None:
        """Say that ``done`` of ``total`` units of ``stage`` are finished."""
        with self._lock:
            if self._shown is not None:
                self._shown(stage, done, total, unit, values)
            else:
                pace = self._paces.setdefault(stage, Pace())
                if pace.due(done, LOG_SECONDS, done >= total > 0):
                    figures = pace.figures(total, unit, values)
                    self._logger.info("%s: %s%s", stage, amount(done, total, unit), figures)
            if self._artifact_key and unit == "step" and self._artifact_pace.due(done, ARTIFACT_SECONDS, done >= total):
                self._draw(stage, 100.0 * done / total)

    def _draw(self, stage: str, percent: float) -> None:
        try:
            if self._artifact is None:
                made = create_progress_artifact(percent, key=self._artifact_key, description=f"Progress of {stage}.")
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent)
        except Exception as error:  # noqa: BLE001  whatever the client raises: figures for the eye never end a run
            self._artifact_key = None
            self._logger.warning("progress is no longer reported to Prefect: %s", error)


def terminal_listener() -> TerminalBars | TerminalLines:
    """What shows progress on standard error: bars on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return TerminalBars(console) if console.is_terminal else TerminalLines()
