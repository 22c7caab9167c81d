"""A Prefect API for one local run, which ends with the run's process however that ends.

Prefect's own temporary server outlives a parent that was killed with SIGKILL, and listens on. The child started here
(:mod:`flows.local_api`) holds the other end of a pipe instead, and keeps its database under the Prefect home.

Nothing here imports Prefect: the child starts while this process still imports it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
import tomllib
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from augment.errors import AugmentError

START_SECONDS = 180.0
STOP_SECONDS = 10.0

# Settings of the child: no interface, no telemetry, and none of the services that a single local run has no use for.
API_SETTINGS = {
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_LOGGER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
    "PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "false",
    "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "false",
}

# What every dependency would otherwise report to somebody, or look up.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TQDM_DISABLE": "1",
}


def silence_telemetry() -> None:
    """Turn off the telemetry of every dependency, where the environment does not say otherwise."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)


def prefect_home() -> Path:
    """Prefect's folder for its own files."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def configured_api() -> str | None:
    """The API that the environment or the active Prefect profile names, or null."""
    return _setting("PREFECT_API_URL")


def configured_database() -> str | None:
    """The URL of the server's database, as far as this machine's settings know it, or null."""
    return _setting("PREFECT_SERVER_DATABASE_CONNECTION_URL") or _setting("PREFECT_API_DATABASE_CONNECTION_URL")


def _setting(name: str) -> str | None:
    """A Prefect setting from the environment or the active profile, read without importing Prefect."""
    if os.environ.get(name):
        return os.environ[name]
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    try:
        content = tomllib.loads(profiles.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None  # Prefect itself complains about a broken file
    active = os.environ.get("PREFECT_PROFILE") or content.get("active")
    value = content.get("profiles", {}).get(active, {}).get(name)
    return str(value) if value else None


def api_answers(url: str, seconds: float = 5.0) -> bool:
    """Whether a Prefect API answers at ``url``, with any status."""
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # it asks for credentials, or is of another version: it is there
    except (OSError, ValueError):
        return False
    return True


class LocalServer:
    """A running child process; start it early, wait for it late."""

    def __init__(self) -> None:
        self.folder = prefect_home() / "augment" / f"run-{uuid.uuid4().hex[:12]}"
        self.password = secrets.token_hex(16)  # the port is open to every user of this machine
        self._lines: queue.Queue[str] = queue.Queue()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AugmentError(
                f"the Prefect home {prefect_home()} cannot be written ({error.strerror}); set PREFECT_HOME."
            ) from None
        self._errors = (self.folder.parent / f"{self.folder.name}.err").open("w+")
        Path(self._errors.name).unlink()  # read through the open file; nothing is left if this process is killed
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.local_api", str(self.folder), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=self._environment(),
        )  # fmt: skip
        assert self._process.stdout is not None
        threading.Thread(target=self._collect, args=(self._process.stdout,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._next_line()}/api"

    def wait(self) -> None:
        """Return once the API answers.

        Raises:
            AugmentError: it ended, or did not answer in three minutes.
        """
        self._next_line()

    def stop(self) -> None:
        """End the child and remove its database."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _environment(self) -> dict[str, str]:
        project = str(Path(__file__).resolve().parent.parent)
        inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        path = os.pathsep.join(filter(None, [project, inherited.get("PYTHONPATH", "")]))
        own = {"PYTHONPATH": path, "PREFECT_SERVER_API_AUTH_STRING": f"augment:{self.password}"}
        return {**inherited, **NO_TELEMETRY, **API_SETTINGS, **own}

    def _collect(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line.strip())
        self._lines.put("")

    def _next_line(self) -> str:
        with contextlib.suppress(queue.Empty):
            line = self._lines.get(timeout=START_SECONDS)
            if line:
                return line
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        reason = (self._errors.read().strip().splitlines() or ["it did not answer in time"])[-1]
        raise AugmentError(
            f"Prefect's local API cannot start ({reason}); see `augment doctor`, or set PREFECT_API_URL to a server."
        )


@contextlib.contextmanager
def local_api() -> Iterator[LocalServer | None]:
    """The API that flows of this process talk to: the configured one (gives null), else a child of this process.

    Sets Prefect's environment, so it must be entered before Prefect is imported. Call ``wait`` before starting a flow.

    Raises:
        AugmentError: the configured API does not answer, or the child cannot start.
    """
    configured = configured_api()
    if configured is not None:
        if not api_answers(configured):
            raise AugmentError(f"the Prefect API at {configured} does not answer; start it, or unset PREFECT_API_URL.")
        yield None
        return
    server = LocalServer()
    settings = {
        "PREFECT_API_URL": server.url,
        "PREFECT_API_AUTH_STRING": f"augment:{server.password}",
        "PREFECT_LOCAL_STORAGE_PATH": str(server.folder / "storage"),  # where Prefect keeps the errors of failed runs
        "PREFECT_LOGGING_TO_API_ENABLED": "false",  # nobody could read the logs when the run is over
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
