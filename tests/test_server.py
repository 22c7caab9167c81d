"""A real Prefect server with workers on free loopback ports: deployments, schedules, limits, placement, cancelling."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _processes import LENIENT, ROOT, descendants, environment, free_port, started, wait_until

from flows.local_server import api_answers

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def answered(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@dataclass
class Server:
    """A server to talk to, and where its runs publish."""

    url: str
    env: dict[str, str]
    store: Path
    workers: dict[str, int]

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0):
            try:
                return answered(request)
            except urllib.error.HTTPError as error:
                # SQLite was busy and nothing was written; Prefect's own client asks again too
                if error.code != 503:
                    raise
                time.sleep(pause)
        return answered(request)

    def start(self, deployment: str, **parameters: Any) -> str:
        found = self.ask(f"/deployments/name/{deployment}")
        run = self.ask(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self.ask(f"/flow_runs/{run}")["state"]
        return state

    def wait_for(self, run: str, states: set[str] = FINAL, seconds: float = 200) -> dict[str, Any]:
        def is_there() -> bool:
            try:
                return self.state(run)["type"] in states
            except TimeoutError:  # a busy machine answers late, and asking for a state changes nothing
                return False

        wait_until(is_there, seconds, f"one of {states}")
        return self.state(run)

    def children(self, run: str) -> list[dict[str, Any]]:
        parent = {"parent_flow_run_id": {"any_": [run]}}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", {"flow_runs": parent})
        return found

    def config(self, name: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "seed": 1,
            "source": {"kind": "wine"},
            "train": {"steps": 150, "device": "cpu"},
            "generate": {"rounds": 6},
            "plan": {"kind": "multiply", "factor": 1.2},
            "checks": LENIENT,
            "worth": {"seeds": 2, "gate": "report"},
            "store": str(self.store),
            **more,
        }


def apply(env: dict[str, str], store: Path) -> str:
    command = [sys.executable, str(ROOT / "deployments" / "apply.py"), "--store", str(store)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = environment(
        folder / "home",
        PREFECT_API_URL=url,
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="5",
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="prefect.server.concurrency.lease_storage.filesystem",
        PREFECT_WORKER_QUERY_SECONDS="2",
        PREFECT_WORKER_WEBSERVER_HOST="127.0.0.1",
        DO_NOT_TRACK="1",
    )
    prefect = [sys.executable, "-m", "prefect"]
    with ExitStack() as stack:
        command = [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(started(command, folder / "server.log", env))
        wait_until(lambda: api_answers(url, 2), 180, "the start of the server")
        apply(env, folder / "store")
        workers = {}
        for pool in ("cpu-pool", "gpu-pool"):
            command = [*prefect, "worker", "start", "--pool", pool, "--name", pool]
            workers[pool] = stack.enter_context(started(command, folder / f"{pool}.log", env)).pid
        yield Server(url, env, folder / "store", workers)


def test_a_cron_schedule_gets_its_runs_within_90_seconds(server: Server) -> None:
    deployment = server.ask("/deployments/name/augment-dataset/nightly")["id"]
    scheduled = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    wait_until(lambda: server.ask("/flow_runs/count", scheduled) > 0, 90, "the first auto-scheduled run")


def test_deploying_twice_changes_nothing(server: Server) -> None:
    def everything() -> tuple[list[Any], int, list[Any]]:
        deployments = server.ask("/deployments/filter", {})
        pools = server.ask("/work_pools/filter", {})
        return (
            sorted((d["id"], d["name"], d["entrypoint"]) for d in deployments),
            server.ask("/automations/count", {}),
            sorted((p["name"], p["concurrency_limit"]) for p in pools),
        )

    before = everything()
    apply(server.env, server.store)
    assert everything() == before
    assert before[1] == 3
    assert before[2] == [("cpu-pool", 4), ("gpu-pool", 1)]


@pytest.mark.parametrize(
    "wrong",
    [{"sed": 3}, {"seed": -1}, {"train": {"steps": 0}}, {"plan": {"kind": "multiply"}}, {"model": {"kind": "vea"}}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_bad_parameters_are_refused_by_the_server(server: Server, wrong: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.start("augment-dataset/on-demand", config=server.config("bad", **wrong))
    refused.value.close()
    assert refused.value.code == 409


def test_relative_paths_are_refused_on_a_server(server: Server) -> None:
    run = server.start("augment-dataset/on-demand", config=server.config("relative", store="./store"))
    state = server.wait_for(run)
    assert state["type"] == "FAILED"
    assert "store is a relative path" in state["message"]


def test_runs_publish_one_after_the_other_and_then_have_nothing_to_do(server: Server) -> None:
    config = server.config("queued")
    runs = [server.start("augment-dataset/on-demand", config=config) for _ in range(2)]
    states = [server.wait_for(run) for run in runs]
    assert sorted(state["name"] for state in states) == ["Completed", "Unchanged"], states
    times = sorted((r["start_time"], r["end_time"]) for r in (server.ask(f"/flow_runs/{run}") for run in runs))
    assert times[0][1] <= times[1][0], "the limit of one run at a time was not kept"
    assert len(list((server.store / "datasets" / "queued" / "versions").iterdir())) == 1
    artifacts = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": runs}}})
    assert {a["key"] for a in artifacts} >= {"summary", "gates", "samples", "training-progress"}


def test_a_publication_is_an_event_and_an_asset(server: Server) -> None:
    run = server.start("augment-dataset/on-demand", config=server.config("told"))
    assert server.wait_for(run)["name"] == "Completed"
    wanted = {"filter": {"event": {"name": ["augment.dataset.published", "prefect.asset.materialization.succeeded"]}}}

    def told() -> dict[str, dict[str, Any]]:
        events = server.ask("/events/filter", {**wanted, "limit": 50})["events"]
        return {e["event"]: e for e in events if "told" in json.dumps(e["payload"])}

    wait_until(lambda: len(told()) == 2, 60, "both events")
    payload = told()["augment.dataset.published"]["payload"]
    assert payload["name"] == "told"
    assert Path(payload["path"]).name == payload["version"]
    assert len(payload["sha256"]) == 64


def test_a_refusal_is_a_failed_run_called_not_blessed(server: Server) -> None:
    config = server.config("refused", source={"kind": "digits"}, train={"steps": 1}, generate={"rounds": 0}, checks=[])
    run = server.start("augment-dataset/on-demand", config=config)
    state = server.wait_for(run)
    assert (state["type"], state["name"]) == ("FAILED", "NotBlessed")
    assert "required" in state["message"]
    assert server.ask(f"/flow_runs/{run}")["run_count"] == 1, "a refusal is not tried again"


def test_training_runs_on_the_gpu_pool_while_the_parent_waits(server: Server) -> None:
    placement = {"train": "train-stage/gpu", "generate": "generate-stage/gpu"}
    run = server.start("augment-dataset/on-demand", config=server.config("placed", placement=placement, seed=5))
    assert server.wait_for(run, seconds=400)["name"] == "Completed"
    parent = server.ask(f"/flow_runs/{run}")
    found = server.children(run)
    assert {child["work_pool_name"] for child in found} == {"gpu-pool"}
    assert {child["state"]["type"] for child in found} == {"COMPLETED"}
    assert {child["name"].split("-")[0] for child in found} == {"train", "generate"}
    assert all(parent["start_time"] < c["start_time"] and c["end_time"] < parent["end_time"] for c in found)


def test_models_are_compared_side_by_side_on_the_gpu_pool_and_the_best_is_published(server: Server) -> None:
    config = server.config("compared", placement={"train": "train-stage/gpu"}, seed=6)
    models = [{"kind": "vae"}, {"kind": "flow_matching"}]
    run = server.start("compare-generators/weekly", config=config, models=models, publish=True)
    assert server.wait_for(run, seconds=500)["name"] == "Completed"
    started_by_it = server.children(run)
    assert sorted(child["name"] for child in started_by_it) == [
        "augment-compared-" + winner_of(server), "candidate-compared-flow_matching", "candidate-compared-vae",
    ]  # fmt: skip
    tried = [child for child in started_by_it if child["name"].startswith("candidate")]
    assert max(child["start_time"] for child in tried) < min(child["end_time"] for child in tried)
    trained = [child for candidate in tried for child in server.children(candidate["id"])]
    assert [child["work_pool_name"] for child in trained] == ["gpu-pool"] * 2
    artifacts = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert "comparison" in {artifact["key"] for artifact in artifacts}
    assert len(list((server.store / "datasets" / "compared" / "versions").iterdir())) == 1


def winner_of(server: Server) -> str:
    """The winner of the only comparison in the server's store."""
    (found,) = server.store.glob("stages/compare/[!.]*/comparison.json")
    return str(json.loads(found.read_text())["winner"])


def test_cancelling_a_parent_leaves_no_child(server: Server) -> None:
    long = {"steps": 1_000_000, "device": "cpu"}
    config = server.config("cancelled", placement={"train": "train-stage/gpu"}, train=long)
    cancel_while_it_trains(server, server.start("augment-dataset/on-demand", config=config))


def test_cancelling_a_comparison_leaves_no_child_of_its_models(server: Server) -> None:
    long = {"steps": 1_000_000, "device": "cpu"}
    config = server.config("cancelled", placement={"train": "train-stage/gpu"}, train=long, seed=8)
    models = [{"kind": "vae"}, {"kind": "flow_matching"}]
    run = server.start("compare-generators/weekly", config=config, models=models)
    cancel_while_it_trains(server, run)
    assert len(server.children(run)) == 2


def cancel_while_it_trains(server: Server, run: str) -> None:
    """Cancel a run whose training has begun on the GPU pool, and see that everything below it ends."""
    training = server.store / "stages" / "train"
    before = set(training.glob(".work-*/metrics.jsonl"))
    wait_until(lambda: set(training.glob(".work-*/metrics.jsonl")) - before, 200, "training on the GPU pool")
    time.sleep(2)
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    server.ask(f"/flow_runs/{run}/set_state", body)
    assert server.wait_for(run, seconds=150)["type"] == "CANCELLED"
    for child in below(server, run):
        ended = {"CANCELLED", "CRASHED"} if child["deployment_id"] else {"CANCELLED", "CRASHED", "FAILED"}
        assert server.wait_for(child["id"], seconds=150)["type"] in ended, child["name"]
    wait_until(lambda: not any(descendants(pid) for pid in server.workers.values()), 60, "the end of all run processes")


def below(server: Server, run: str) -> list[dict[str, Any]]:
    """The runs that a run started, and those that these started."""
    return [found for child in server.children(run) for found in (child, *below(server, child["id"]))]
