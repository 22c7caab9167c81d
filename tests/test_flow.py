"""`augment run` as a process of its own: what it publishes, and what it leaves behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _processes import LENIENT, augment, children, environment, is_alive, started, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
RUN = """
name: wine
seed: 1
source: {kind: wine}
train: {steps: 150, device: cpu}
generate: {rounds: 6}
plan: {kind: multiply, factor: 1.2}
worth: {seeds: 2, gate: report}
store: store
"""
RUN += f"checks: {json.dumps(LENIENT)}\n"
LONG = ("--set", "train.steps=1000000")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home that the tests of this file share, so that its database is made once."""
    return tmp_path_factory.mktemp("prefect-home")


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "wine.yaml"
    path.write_text(RUN)
    return path


@pytest.fixture
def run(home: Path, run_file: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = augment("run", run_file, "--json", *more)
        env = environment(home)
        return subprocess.run(
            command, env=env, cwd=run_file.parent, capture_output=True, text=True, timeout=300, check=False
        )

    return call


def left_in(home: Path) -> set[str]:
    """The names of the runs whose folders are left in a Prefect home."""
    return {path.name for path in (home / "augment").glob("run-*")}


def api_of(process: subprocess.Popen[str]) -> int:
    """The process id of the API that a run has started, once there is one."""
    wait_until(lambda: process.poll() is not None or children(process.pid), 60, "the start of the API")
    return children(process.pid)[0]


def trains(log: Path) -> Callable[[], bool]:
    return lambda: any(line.startswith("train ") for line in log.read_text().splitlines())


def test_a_run_publishes_then_has_nothing_to_do_and_leaves_nothing_else_behind(
    run: Callable[..., Any], home: Path, run_file: Path
) -> None:
    first = run()
    assert first.returncode == 0, first.stderr
    published = json.loads(first.stdout)
    assert published["status"] == "published"
    assert published["verdict"] == "blessed"
    assert Path(published["report"]).is_file()
    assert Path(published["picture"]).is_file()
    assert "train" in first.stderr, "the progress is visible"
    folder = Path(published["path"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    second = json.loads(run().stdout)
    assert (second["status"], second["version"]) == ("unchanged", published["version"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    assert {path.name for path in run_file.parent.iterdir()} == {"wine.yaml", "store"}
    assert left_in(home) == set()
    assert {path.name for path in home.iterdir()} <= {"augment", "memo_store.toml"}


def test_a_refused_run_ends_with_three_and_publishes_nothing(run: Callable[..., Any], run_file: Path) -> None:
    untrained = ["source.kind=digits", "train.steps=1", "generate.rounds=0", "checks=[]"]
    done = run(*(argument for setting in untrained for argument in ("--set", setting)))
    assert done.returncode == 3, done.stderr
    refused = json.loads(done.stdout)
    assert (refused["status"], refused["version"]) == ("refused", None)
    assert (Path(refused["path"]) / "NOT_BLESSED").is_file()
    assert not list((run_file.parent / "store" / "datasets" / "wine" / "versions").iterdir())


def test_bad_input_ends_with_two_and_one_sentence(run: Callable[..., Any]) -> None:
    done = run("--set", "source.label=vintage")
    assert done.returncode == 2
    sentence = json.loads(done.stdout)["error"]["message"]
    assert "vintage" in sentence
    assert done.stderr.strip().splitlines()[-1] == f"augment: {sentence}"
    assert "Traceback" not in done.stderr


def test_a_placement_without_a_server_is_refused(run: Callable[..., Any]) -> None:
    done = run("--set", "placement.train=train-stage/gpu")
    assert done.returncode == 2
    assert "set PREFECT_API_URL" in done.stderr


def test_the_api_ends_when_its_run_is_killed(home: Path, run_file: Path) -> None:
    log = run_file.parent / "log"
    with started(augment("run", run_file, *LONG), log, environment(home)) as process:
        api = api_of(process)
        wait_until(trains(log), 120, "training")
        process.kill()
        process.wait(10)
        wait_until(lambda: not is_alive(api), 15, "the end of the API")
    assert left_in(home) == set()


def test_the_folder_of_a_killed_api_is_removed_by_a_later_run(
    run: Callable[..., Any], home: Path, run_file: Path
) -> None:
    log = run_file.parent / "log"
    with started(augment("run", run_file, *LONG), log, environment(home)) as process:
        api = api_of(process)
        wait_until(lambda: left_in(home), 60, "the folder of the run")
        name = next(iter(left_in(home)))
        os.kill(api, signal.SIGKILL)
        process.kill()
        process.wait(10)
    assert name in left_in(home)
    aged = time.time() - 3600
    os.utime(home / "augment" / name, (aged, aged))
    run("--set", "train.steps=1", "--set", "generate.rounds=0")
    assert name not in left_in(home)


@pytest.fixture
def heard() -> Iterator[None]:
    """Have a process that the test starts hear Ctrl-C, even where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_a_run_that_is_told_to_stop_saves_and_leaves_no_api(home: Path, run_file: Path, number: signal.Signals) -> None:
    log = run_file.parent / "log"
    with started(augment("run", run_file, *LONG), log, environment(home)) as process:
        api = api_of(process)
        wait_until(trains(log), 120, "training")
        process.send_signal(number)
        process.wait(60)
        wait_until(lambda: not is_alive(api), 15, "the end of the API")
    assert process.returncode != 0
    assert "Traceback" not in log.read_text()
    assert list((run_file.parent / "store" / "stages" / "train").glob(".work-*/checkpoints/*"))


def test_two_runs_at_once_publish_one_version_and_leave_no_api(home: Path, run_file: Path) -> None:
    command, env = augment("run", run_file, "--json"), environment(home)
    logs = [run_file.parent / name for name in ("a", "b")]
    with started(command, logs[0], env) as first, started(command, logs[1], env) as second:
        apis = [api_of(first), api_of(second)]
        assert (first.wait(240), second.wait(240)) == (0, 0), [log.read_text() for log in logs]
        wait_until(lambda: not any(is_alive(api) for api in apis), 15, "the end of both APIs")
    assert len(list((run_file.parent / "store" / "datasets" / "wine" / "versions").iterdir())) == 1
    assert left_in(home) == set()


def test_a_server_that_does_not_answer_is_one_sentence(home: Path, run_file: Path) -> None:
    env = environment(home, PREFECT_API_URL="http://127.0.0.1:9/api")
    command = augment("run", run_file)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "augment: the Prefect API at http://127.0.0.1:9/api does not answer; start it, or unset PREFECT_API_URL.\n"
    )
