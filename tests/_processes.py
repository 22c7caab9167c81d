"""Processes that a test starts and ends by itself, each in its own folder and with its own Prefect home."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
POLL_SECONDS = 0.2
# Gates that rows of models which were hardly trained need not pass, where a test is about something else.
LENIENT = [
    {"kind": kind, "enabled": False}
    for kind in ("sample_quality", "label_agreement", "marginals", "joint", "coverage", "copying", "shortcut")
]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that knows no Prefect but the one in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def augment(*arguments: str | Path) -> list[str]:
    """The command line of ``augment`` with these arguments."""
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Return as soon as ``holds()`` is true.

    Raises:
        AssertionError: it was not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)


def children(pid: int) -> list[int]:
    """The living child processes of ``pid``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def descendants(pid: int) -> list[int]:
    """The living processes below ``pid``."""
    return [p for child in children(pid) for p in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to ``log`` and is ended, with what it started, when the block ends."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=log.parent, text=True)
        try:
            yield process
        finally:
            below = descendants(process.pid)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            for pid in [process.pid, *below]:
                if is_alive(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            process.wait(10)


def answered(words: list[str], prefect_home: Path, status: int = 0) -> dict[str, Any]:
    """The one JSON document that a command prints, which ends with ``status``."""
    done = subprocess.run(
        words, env=environment(prefect_home), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def kill_when(words: list[str], prefect_home: Path, log: Path, moment: str, reached: Callable[[], bool]) -> None:
    """Start a command and kill it once a ``moment`` is reached, or let it end if it is sooner."""
    with started(words, log, environment(prefect_home)) as process:
        wait_until(lambda: reached() or process.poll() is not None, 120, f"a process {moment}")
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()


def table_of(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a comparison without what is of one machine: where its store is, and how fast it trains."""
    entries = [{**entry, "cost": {**entry["cost"], "training_seconds": None}} for entry in document["entries"]]
    words = [word for word in document.get("command") or [] if not word.startswith("/")]
    return {**document, "entries": entries, "path": Path(document["path"]).name, "publication": None, "command": words}
