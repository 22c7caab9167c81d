"""The stages as Prefect tasks: references in, references out, the store their only cache.

Modules that a stage needs are imported inside its task, so that a GPU worker, which only trains and generates, needs
neither Great Expectations nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import State
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.tasks import Task

from augment.config import RunConfig
from augment.generation import ShardRequest
from augment.publishing import Publication, RunContext
from augment.store import ArtifactRef, Store
from flows.progress import RunProgress

P = ParamSpec("P")
R = TypeVar("R")

NOT_MENDED_BY_WAITING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def storage_failed(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether a task failed by an error of a disk or network, which may be gone the next time."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, NOT_MENDED_BY_WAITING)


def stage(name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A decorator that makes a task of a stage: nothing is cached or kept by Prefect, failing disks are tried again."""

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return Task(
            fn=function,
            name=name,
            task_run_name=run_name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=2,
            retry_delay_seconds=[2, 20],
            retry_jitter_factor=0.5,
            retry_condition_fn=storage_failed,
        )

    return decorate


@stage(name="ingest")
def ingest(config: RunConfig) -> ArtifactRef:
    """The real rows, read from the source, typed and split."""
    from augment.ingest import ingest

    return ingest(config.source, config.split, config.seed, Store.open(config.store), RunProgress())


@stage(name="plan")
def rows_to_draw(config: RunConfig, real: ArtifactRef) -> dict[str, int]:
    """Synthetic rows wanted of each class."""
    from augment.plan import rows_to_draw

    return rows_to_draw(config.plan, real, Store.open(config.store))


@stage(name="train")
def train(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """The generative model, trained on the real rows, or the given rows that stand in its place."""
    from augment.makers import maker

    return maker(config).prepare(real, Store.open(config.store), RunProgress("training-progress"))


@stage(name="reference")
def make_reference(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """What the checks must know of the real rows."""
    from augment.validation import active_checks, make_reference

    checks = active_checks(config.checks)
    return make_reference(real, checks, config.seed, Store.open(config.store), RunProgress())


@stage(name="generate", run_name="generate-{request.round}-{request.shard}")
def generate_shard(config: RunConfig, real: ArtifactRef, model: ArtifactRef, request: ShardRequest) -> ArtifactRef:
    """One shard of synthetic rows."""
    from augment.makers import maker

    return maker(config).shard(model, real, request, Store.open(config.store), RunProgress())


@stage(name="judge")
def judge_shard(
    config: RunConfig, real: ArtifactRef, reference: ArtifactRef, shard: ArtifactRef, earlier: list[ArtifactRef]
) -> ArtifactRef:
    """Which rows of a shard are accepted, and why the others are not; ``earlier`` are the judgements before it."""
    from augment.validation import active_checks, judge_shard

    checks = active_checks(config.checks)
    return judge_shard(shard, reference, real, checks, Store.open(config.store), earlier, RunProgress())


@stage(name="conclude")
def conclude(
    config: RunConfig,
    real: ArtifactRef,
    reference: ArtifactRef,
    model: ArtifactRef,
    wanted: dict[str, int],
    shards: list[ArtifactRef],
    judged: list[ArtifactRef],
) -> ArtifactRef:
    """The audit of all rows together."""
    from augment.validation import active_checks, conclude

    store = Store.open(config.store)
    checks = active_checks(config.checks)
    return conclude(real, reference, model, wanted, shards, judged, checks, store, RunProgress())


@stage(name="publish")
def publish(
    config: RunConfig,
    real: ArtifactRef,
    model: ArtifactRef,
    shards: list[ArtifactRef],
    judged: list[ArtifactRef],
    audit: ArtifactRef,
    context: RunContext,
) -> Publication:
    """The new version of the dataset, the one that holds the same already, or a folder in quarantine."""
    from augment.publishing import publish

    store = Store.open(config.store)
    return publish(
        config.name, real, model, shards, judged, audit, context=context, store=store, progress=RunProgress()
    )
