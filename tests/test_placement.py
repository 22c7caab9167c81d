"""Stages that run as deployments: what a parent makes of the ways in which a child can end."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, State, exception_to_failed_state
from pydantic import BaseModel

from augment.errors import AugmentError, InputError, TrainingError
from flows import placement

GPU = "train-stage/gpu"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a child run end in a state, or its start in an error."""

    def end_as(end: State[Any] | Exception | None) -> None:
        def run_deployment(name: str, **_: Any) -> FlowRun:
            if isinstance(end, Exception):
                raise end
            return FlowRun(flow_id=uuid4(), name="train-wine", state=end)

        monkeypatch.setattr(placement, "run_deployment", run_deployment)

    return end_as


def failed(error: Exception) -> State[Any]:
    """The state that Prefect puts a flow run in that raised ``error``."""
    return asyncio.run(exception_to_failed_state(error, message="Flow run encountered an exception:"))


def test_a_child_that_completed_is_no_error(child: Any) -> None:
    child(Completed())
    placement.run_elsewhere(GPU, {})


def test_the_sentence_of_a_child_that_refuses_its_input_is_that_of_the_parent(child: Any) -> None:
    child(failed(InputError("the device 'cuda' is not there; set train.device: auto.")))
    with pytest.raises(InputError, match=r"^the device 'cuda' is not there; set train\.device: auto\. \(Said by"):
        placement.run_elsewhere(GPU, {})


@pytest.mark.parametrize("error", [TrainingError("the loss is not finite."), ValueError("odd")])
def test_any_other_end_of_a_child_is_not_the_users_to_mend(child: Any, error: Exception) -> None:
    child(failed(error))
    with pytest.raises(AugmentError, match=f"ended as Failed: .*{error}") as raised:
        placement.run_elsewhere(GPU, {})
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("name", ["gpu", "train-stage/", "/gpu", "a/b/c"])
def test_what_is_no_name_of_a_deployment_is_refused(child: Any, name: str) -> None:
    child(AssertionError("it must not be started"))
    with pytest.raises(InputError, match="is no deployment; write FLOW/DEPLOYMENT"):
        placement.run_elsewhere(name, {})


def test_a_fault_of_values_is_not_taken_for_a_wrong_name(child: Any) -> None:
    class Number(BaseModel):
        value: int

    with pytest.raises(ValueError, match="validation error") as fault:
        Number.model_validate({"value": "x"})
    child(fault.value)
    with pytest.raises(ValueError, match="validation error"):
        placement.run_elsewhere(GPU, {})
