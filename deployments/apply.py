"""Make a Prefect server ready: pools and their limits, deployments, automations. Running it again changes nothing.

    PREFECT_API_URL=http://127.0.0.1:4200/api python deployments/apply.py --store /srv/augment [--gpus 1]

Everything has a name, is looked up by it and then made or brought up to date.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
BEAT_SECONDS = 30  # PREFECT_FLOWS_HEARTBEAT_FREQUENCY in prefect.yaml
CPU_RUNS = 4
OUR_TAG = "augment"  # every deployment in prefect.yaml has it, and so have its runs and their events
RESUME_TAG = "autoresume"


def apply_pools(client: SyncPrefectClient, gpus: int) -> None:
    """Make the two process pools, or set their limits."""
    template = ProcessWorker.get_default_base_job_template()
    for name, limit in (("cpu-pool", CPU_RUNS), ("gpu-pool", gpus)):
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
        print(f"pool        {name}, at most {limit} runs at once")


def apply_deployments(store: Path) -> None:
    """Deploy everything in prefect.yaml, which Prefect does by name.

    Raises:
        SystemExit: Prefect refused a deployment.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_FILE)]
    environment = {**os.environ, "AUGMENT_STORE": str(store), "PREFECT_LOGGING_LEVEL": "WARNING"}
    done = subprocess.run(
        command,
        env=environment,
        cwd=PREFECT_FILE.parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"the deployments of {PREFECT_FILE} were refused:\n{done.stdout}{done.stderr}")


def tagged(tag: str) -> dict[str, Any]:
    """What the related resources of an event are matched with, so that only runs with ``tag`` count."""
    return {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}


def automations(client: SyncPrefectClient) -> list[Automation]:
    """The automations. On SQLite an action may happen several times, so use PostgreSQL wherever they matter."""
    resume = client.read_deployment_by_name("augment-dataset/on-demand")
    follow = client.read_deployment_by_name("verify-published/on-published")
    whole_config: dict[str, Any] = {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": "{{ flow_run.parameters.config | tojson }}"},
    }
    return [
        Automation(
            name="augment: a run without a heartbeat has crashed",
            description=f"A lost host leaves its run Running for ever. Four beats are waited for. Only runs tagged "
            f"{OUR_TAG}: others of the server are not ours to end.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                match={"prefect.resource.id": ["prefect.flow-run.*"]},
                match_related=tagged(OUR_TAG),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=4 * BEAT_SECONDS),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat: its process or host is gone.")],
        ),
        Automation(
            name="augment: a crashed run is taken up again",
            description="A new run with the same config goes on from the last checkpoint. Only for runs tagged "
            f"{RESUME_TAG}; the new run is not, so that what always crashes does not come back for ever.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"},
                match={"prefect.resource.id": ["prefect.flow-run.*"]},
                match_related=tagged(RESUME_TAG),
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(seconds=60),
            ),
            actions=[RunDeployment(source="selected", deployment_id=resume.id, parameters={"config": whole_config})],
        ),
        Automation(
            name="augment: a published version is verified",
            description="Example of work that follows a publication.",
            trigger=EventTrigger(
                expect={"augment.dataset.published"},
                match={"prefect.resource.id": ["augment.dataset.*"]},
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(seconds=60),
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=follow.id,
                    parameters={"path": {"__prefect_kind": "jinja", "template": "{{ event.payload.path }}"}},
                )
            ],
        ),
    ]


def apply_automations(client: SyncPrefectClient) -> None:
    """Make each automation, or bring the one of its name up to date."""
    for automation in automations(client):
        try:
            known = Automation.read(name=automation.name)
        except ValueError:
            automation.create()
        else:
            automation.model_copy(update={"id": known.id}).update()
        print(f"automation  {automation.name}")


def main() -> None:
    """Apply everything to the server that PREFECT_API_URL or the active profile names."""
    parser = argparse.ArgumentParser(description="Make a Prefect server ready for augment.")
    parser.add_argument("--store", type=Path, default=Path("store"), help="store of the example runs")
    parser.add_argument("--gpus", type=int, default=1, help="runs at once on the GPU pool")
    arguments = parser.parse_args()
    with get_client(sync_client=True) as client:
        if client.server_type.value == "ephemeral":
            sys.exit("no Prefect server is configured; set PREFECT_API_URL.")
        apply_pools(client, arguments.gpus)
        apply_deployments(arguments.store.absolute())
        for deployment in client.read_deployments():
            print(f"deployment  {deployment.name}")
        apply_automations(client)


if __name__ == "__main__":
    main()
