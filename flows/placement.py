"""Where the two heavy stages run: in this process, or as a deployment on a GPU pool while this run waits.

A child gets references and settings, small JSON, and leaves its artifact in the shared store under a key that the
parent knows beforehand. A child does not outlive its parent: it is cancelled when the parent is, or fails, or crashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as current
from prefect.states import Cancelled, Cancelling

from augment.config import RunConfig
from augment.errors import AugmentError, InputError, TrainingError
from augment.generation import STAGE as GENERATE
from augment.generation import ShardRequest, shard_key
from augment.given import FromFiles
from augment.store import ArtifactRef, Store
from augment.training import STAGE as TRAIN
from augment.training import train_key
from flows import tasks

HERE = "here"
POLL_SECONDS = 2.0
# What a run does with its thread while a child works elsewhere; nothing, unless others wait for their turn.
WAITING: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("waiting", default=nullcontext)


def train(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """The trained model, wherever ``placement.train`` says."""
    if config.placement.train == HERE:
        return tasks.train(config, real)
    assert not isinstance(config.model, FromFiles)  # a run config has those rows read here
    key = train_key(real, config.model, config.train, config.seed)
    store = Store.open(config.store)
    if store.find(TRAIN, key) is None:
        run_elsewhere(config.placement.train, {"config": as_json(config), "real": real.model_dump()})
    return must_find(store, TRAIN, key, config.placement.train)


def generate(
    config: RunConfig, real: ArtifactRef, model: ArtifactRef, requests: list[ShardRequest]
) -> list[ArtifactRef]:
    """The shards of one round, wherever ``placement.generate`` says."""
    if config.placement.generate == HERE:
        return [tasks.generate_shard(config, real, model, request) for request in requests]
    store = Store.open(config.store)
    keys = [shard_key(model, real, config.generate, request, config.seed, store) for request in requests]
    missing = [request for request, key in zip(requests, keys, strict=True) if store.find(GENERATE, key) is None]
    if missing:
        run_elsewhere(
            config.placement.generate,
            {
                "config": as_json(config),
                "real": real.model_dump(),
                "model": model.model_dump(),
                "requests": [request.model_dump() for request in missing],
            },
        )
    return [must_find(store, GENERATE, key, config.placement.generate) for key in keys]


def run_elsewhere(deployment: str, parameters: dict[str, Any]) -> None:
    """Start a run of ``deployment`` as a child of this run, and return when it has completed.

    Raises:
        InputError: there is no such deployment, or the child refuses its input.
        TrainingError: the child cannot train.
        AugmentError: the child did not complete.
    """
    if not re.fullmatch(r"[^/]+/[^/]+", deployment):
        raise InputError(f"placement: '{deployment}' is no deployment; write FLOW/DEPLOYMENT, such as train-stage/gpu.")
    try:
        with WAITING.get()():
            child = run_deployment(deployment, parameters=parameters, timeout=None, poll_interval=POLL_SECONDS)
    except ObjectNotFound:
        raise InputError(
            f"placement: there is no deployment '{deployment}'; `prefect deployment ls` lists what there is."
        ) from None
    except BaseException:
        cancel_children(current_run())
        raise
    assert isinstance(child, FlowRun)
    if child.state is None or not child.state.is_completed():
        raise error_of(child, deployment)


def error_of(child: FlowRun, deployment: str) -> AugmentError:
    """Why a child run did not complete: what its user can mend is said again here, as the error that it was there."""
    message = (child.state.message if child.state else None) or ""
    refused = re.search(rf"\b{InputError.__name__}: (.+)", message, re.DOTALL)
    if refused is not None:
        return InputError(f"{refused[1].strip()} (Said by the run {child.name} of {deployment}.)")
    kind = TrainingError if f"{TrainingError.__name__}: " in message else AugmentError
    return kind(f"the run {child.name} of {deployment} ended as {describe_state(child.state)}")


def must_find(store: Store, stage: str, key: str, deployment: str) -> ArtifactRef:
    """The artifact that a child run made.

    Raises:
        AugmentError: it is not in this process's store.
    """
    found = store.find(stage, key)
    if found is None:
        raise AugmentError(
            f"{deployment} completed, but its artifact {stage}/{key} is not in {store.root}; "
            "give both pools the same store folder and the same versions of this project and of torch."
        )
    return found


def cancel_children(parent: UUID | None, gone: bool = False) -> None:
    """Ask every unfinished run below ``parent`` that has a process of its own to stop.

    A child in the parent's process ends with it; where that process is ``gone``, nobody but this says that it has.
    """
    if parent is None:
        return
    with get_client(sync_client=True) as client:
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
        )
        for child in children:
            if child.state is not None and child.state.is_final():
                continue
            if child.deployment_id is not None:
                client.set_flow_run_state(child.id, Cancelling(message="The run that waited for it has ended."))
                continue
            cancel_children(child.id, gone)
            if gone:
                client.set_flow_run_state(child.id, Cancelled(message="The run that it was part of has ended."))


def cancel_children_of(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """The hook of a parent that was cancelled or crashed; the worker calls it when the run's process is gone."""
    cancel_children(flow_run.id, gone=True)


def current_run() -> UUID | None:
    """The id of the flow run that this code is part of, or null outside of one."""
    identifier = current.get_id()
    return UUID(identifier) if identifier else None


def as_json(config: RunConfig) -> dict[str, Any]:
    """The run config as the plain values that a run's parameters are."""
    return config.model_dump(mode="json")


def describe_state(state: State[Any] | None) -> str:
    """A state as a phrase: its name and what it says."""
    if state is None:
        return "unknown."
    return f"{state.name}: {state.message}" if state.message else f"{state.name}."
