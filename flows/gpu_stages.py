"""The heavy stages as flows of their own, to be deployed on a GPU pool."""

from __future__ import annotations

from prefect import flow

from augment.config import RunConfig
from augment.generation import ShardRequest
from augment.store import ArtifactRef
from flows import tasks


@flow(name="train-stage", flow_run_name="train-{config.name}-{config.model.kind}", persist_result=False)
def train_stage(config: RunConfig, real: ArtifactRef) -> None:
    """Train the model of a run on the real rows, which are in the store already; the model is left in the store."""
    tasks.train(config, real)


@flow(name="generate-stage", flow_run_name="generate-{config.name}-{config.model.kind}", persist_result=False)
def generate_stage(config: RunConfig, real: ArtifactRef, model: ArtifactRef, requests: list[ShardRequest]) -> None:
    """Draw the shards that a run asks for and leave them in the store."""
    for request in requests:
        tasks.generate_shard(config, real, model, request)
