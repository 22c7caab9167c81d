"""SIGKILL at any moment, then the same command again: the published bytes are those of an unbroken run."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _processes import LENIENT, augment, environment, started, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [
    *("--set", "train.steps=150"),
    *("--set", "train.checkpoint_seconds=0.5"),
    *("--set", "generate.shard_rows=200"),
    *("--set", f"checks={json.dumps(LENIENT)}"),
    *("--set", "worth.seeds=0"),
]


def run_command(store: Path) -> list[str]:
    return augment("run", "--store", store, "--json", *SETTINGS)


def run_whole(store: Path, home: Path) -> dict[str, str]:
    """The hashes of the Parquet files that a run publishes in ``store``."""
    done = subprocess.run(run_command(store), env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    version = Path(json.loads(done.stdout)["path"])
    return {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in version.rglob("*.parquet")
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def unbroken(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_whole(tmp_path_factory.mktemp("unbroken"), home)


def test_two_unbroken_runs_publish_the_same_bytes(unbroken: dict[str, str], home: Path, tmp_path: Path) -> None:
    assert run_whole(tmp_path, home) == unbroken


@pytest.mark.parametrize(
    ("moment", "reached"),
    [
        ("while it trains", lambda store: any(store.glob("stages/train/.work-*/checkpoints/step-*"))),
        ("while it draws", lambda store: any(store.glob("stages/generate/*/shard.parquet"))),
        ("while it publishes", lambda store: any(store.glob("datasets/*/.staging/*"))),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_killed_run_ends_in_the_same_bytes_when_it_is_run_again(
    moment: str, reached: Callable[[Path], bool], unbroken: dict[str, str], home: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with started(run_command(store), tmp_path / "log", environment(home)) as process:
        wait_until(lambda: reached(store) or process.poll() is not None, 120, f"a run {moment}")
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_whole(store, home) == unbroken
