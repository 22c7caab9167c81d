"""What is put on a server: every deployment bears the tag by which the automations know ours."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.automations import Automation
from prefect.exceptions import ParameterTypeError
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

FOLDER = Path(__file__).parents[1] / "deployments"


@pytest.fixture(scope="module")
def automations() -> list[Automation]:
    client = SimpleNamespace(read_deployment_by_name=lambda _: SimpleNamespace(id=uuid4()))
    made: list[Automation] = runpy.run_path(str(FOLDER / "apply.py"))["automations"](client)
    return made


def event(name: str, *tags: str) -> ReceivedEvent:
    run = {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"}
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
    described: dict[str, Any] = {"occurred": "2026-01-01T00:00:00Z", "event": name, "resource": run}
    return ReceivedEvent.model_validate({**described, "related": related, "id": uuid4()})


def test_runs_of_others_are_not_ended_for_want_of_a_heartbeat(automations: list[Automation]) -> None:
    described = automations[0].trigger.model_dump(mode="json")
    trigger = EventTrigger.model_validate(described)
    assert "heartbeat" in automations[0].name
    for name in ("prefect.flow-run.heartbeat", "prefect.flow-run.Completed"):
        assert trigger.covers(event(name, "augment", "team"))
        assert not trigger.covers(event(name, "team"))
        assert not trigger.covers(event(name))


def test_the_parameters_of_every_deployment_are_those_of_its_flow() -> None:
    deployments = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]
    scheduled = [deployment for deployment in deployments if "parameters" in deployment]
    assert sorted(f"{d['entrypoint'].rpartition('.')[2]}/{d['name']}" for d in scheduled) == [
        "augment_dataset/nightly", "augment_dataset/on-demand", "compare_generators/weekly", "tune_generator/on-demand",
    ]  # fmt: skip
    for deployment in scheduled:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        flow.validate_parameters(deployment["parameters"])


def test_models_of_a_comparison_are_checked_as_parameters() -> None:
    from flows.compare_generators import compare_generators

    with pytest.raises(ParameterTypeError, match="vea"):
        compare_generators.validate_parameters({"config": {}, "models": [{"kind": "vea"}], "publish": True})
    (models,) = [compare_generators.parameters.properties["models"]["items"]]
    assert {"vae", "flow_matching"} <= set(models["discriminator"]["mapping"])


def test_every_deployment_has_the_tag_of_the_automations() -> None:
    deployments = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]
    assert all("augment" in deployment["tags"] for deployment in deployments)
