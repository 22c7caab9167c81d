"""The stages as Prefect tasks: references in, references out, the store their only cache.

Modules that a stage needs are imported inside its task, so that a GPU worker, which only trains and generates, needs
neither Great Expectations nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import State
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.tasks import Task

from augment.config import BalancePlan, RunConfig
from augment.errors import InputError, TrainingError
from augment.generation import ShardRequest
from augment.publishing import Publication, RunContext
from augment.store import ArtifactRef, Store
from augment.worth.record import WorthRecord
from flows.progress import RunProgress

if TYPE_CHECKING:
    from augment.comparison import Comparison, Cost, Trial

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


@stage(name="encoders")
def learn_encoders(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """The nets that look at synthetic rows, trained on real ones."""
    from augment.worth.encoders import learn_encoders

    return learn_encoders(real, config.seed, Store.open(config.store), RunProgress())


def need_encoders(config: RunConfig) -> bool:
    """Whether a check of the run, or its selection, looks at rows through nets."""
    from augment.validation import active_checks, needs_encoders

    return needs_encoders(active_checks(config.checks), config.generate.select.shares)


@stage(name="reference")
def make_reference(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """What the checks must know of the real rows."""
    from augment.validation import active_checks, make_reference

    checks, store = active_checks(config.checks), Store.open(config.store)
    return make_reference(real, checks, config.seed, store, RunProgress(), config.generate.select.shares)


@stage(name="generate", run_name="generate-{request.round}-{request.shard}")
def generate_shard(config: RunConfig, real: ArtifactRef, model: ArtifactRef, request: ShardRequest) -> ArtifactRef:
    """One shard of synthetic rows."""
    from augment.makers import maker

    return maker(config).shard(model, real, request, Store.open(config.store), RunProgress())


@stage(name="judge")
def judge_shard(
    config: RunConfig,
    real: ArtifactRef,
    reference: ArtifactRef,
    shard: ArtifactRef,
    earlier: list[ArtifactRef],
    wanted: dict[str, int],
) -> ArtifactRef:
    """Which rows of a shard are accepted, and why the others are not; ``earlier`` are the judgements before it."""
    from augment.validation import active_checks, judge_shard

    checks, store = active_checks(config.checks), Store.open(config.store)
    return judge_shard(shard, reference, real, checks, store, earlier, RunProgress(), wanted)


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


def why_not_measured(config: RunConfig, real: ArtifactRef, audit: ArtifactRef) -> WorthRecord | None:
    """The record of a worth that is not measured, with the reason; null where it can be."""
    from augment.gates import blessed, load_gates
    from augment.worth.lift import unmeasurable, unmeasured_record

    store = Store.open(config.store)
    gates = load_gates(store.path(audit) / "gates.json")
    if not blessed(gates):
        failed = next(g.gate for g in gates if g.passed is False and g.severity == "critical")
        return unmeasured_record(f"the gate {failed} failed", config.worth.metric)
    reason = unmeasurable(real, config.worth.metric, store)
    return None if reason is None else unmeasured_record(reason, config.worth.metric)


def refuse_empty(config: RunConfig, judged: list[ArtifactRef]) -> None:
    """Return if rows of another training were accepted.

    Raises:
        TrainingError: there are none that a classifier could learn from.
    """
    from augment.validation import accepted_counts

    if not sum(accepted_counts(judged, Store.open(config.store)).values()):
        raise TrainingError(
            "worth.generators: the gates accepted no row of one of the trainings; train longer, or set it to 1."
        )


def of_generator(config: RunConfig, number: int) -> RunConfig:
    """``config`` with the seed of another training of the same model."""
    from augment.worth.lift import generator_seed

    return config.model_copy(update={"seed": generator_seed(config.seed, number)})


@stage(name="worth-search")
def search_classical(config: RunConfig, real: ArtifactRef) -> ArtifactRef:
    """The classical augmentation that does best on validation rows."""
    from augment.worth.lift import search_classical

    return search_classical(real, config.worth.search, config.seed, Store.open(config.store), RunProgress())


@stage(name="worth-real", run_name="worth-real-{number}")
def measure_real(config: RunConfig, real: ArtifactRef, search: ArtifactRef, number: int) -> ArtifactRef:
    """What classifiers without synthetic rows predict, at one seed."""
    from augment.worth.lift import measure_real

    return measure_real(real, search, number, config.seed, Store.open(config.store), RunProgress())


@stage(name="worth-arms", run_name="worth-arms-{number}")
def measure_arms(
    config: RunConfig,
    real: ArtifactRef,
    search: ArtifactRef,
    known: ArtifactRef,
    shards: list[ArtifactRef],
    judged: list[ArtifactRef],
    number: int,
) -> ArtifactRef:
    """What classifiers with and without synthetic rows predict, at one seed; ``known`` are those without."""
    from augment.worth.lift import Rows, measure_arms

    rows = Rows(real, shards, judged, config.generate.select.compare)
    equal_mass = isinstance(config.plan, BalancePlan)
    store = Store.open(config.store)
    return measure_arms(rows, search, known, equal_mass, number, config.seed, store, RunProgress())


@stage(name="worth-parts", run_name="worth-parts-{number}")
def measure_parts(
    config: RunConfig,
    real: ArtifactRef,
    search: ArtifactRef,
    shards: list[ArtifactRef],
    judged: list[ArtifactRef],
    measured: list[ArtifactRef],
    number: int,
) -> ArtifactRef:
    """What the best classifier without synthetic rows predicts with fewer real rows, at one seed."""
    from augment.worth.lift import Rows, measure_parts

    rows, store = Rows(real, shards, judged), Store.open(config.store)
    return measure_parts(rows, search, measured, config.worth.metric, number, config.seed, store, RunProgress())


@stage(name="worth")
def conclude_worth(
    config: RunConfig,
    real: ArtifactRef,
    search: ArtifactRef,
    shards: list[ArtifactRef],
    judged: list[ArtifactRef],
    measured: list[ArtifactRef],
    parts: list[ArtifactRef],
) -> ArtifactRef:
    """Whether synthetic rows help, and how sure that is."""
    from augment.worth.lift import Rows, conclude_worth

    rows, section = Rows(real, shards, judged), config.worth
    return conclude_worth(
        rows, search, measured, parts,
        section.metric, min(section.generators, section.seeds), section.measurable_at, config.seed,
        Store.open(config.store),
    )  # fmt: skip


def read_worth(config: RunConfig, worth: ArtifactRef) -> WorthRecord:
    """The record that :func:`conclude_worth` left."""
    from augment.worth.lift import load_worth

    return load_worth(worth, Store.open(config.store))


@stage(name="fit")
def cost_of(config: RunConfig, real: ArtifactRef) -> Cost:
    """What the run's generator would cost; one that does not fit the data is refused."""
    from augment.comparison import cost_of

    return cost_of(config, real, Store.open(config.store))


@stage(name="measurable")
def refuse_unmeasurable(config: RunConfig, real: ArtifactRef) -> None:
    """Return if the worth of synthetic rows can be measured with these real rows."""
    from augment.worth.lift import unmeasurable

    reason = unmeasurable(real, config.worth.metric, Store.open(config.store))
    if reason is not None:
        raise InputError(f"no generators can be compared, because {reason}.")


@stage(name="compare")
def compare(
    config: RunConfig, trials: list[Trial], costs: list[Cost], worth: ArtifactRef | None, searched: dict[str, Any]
) -> ArtifactRef:
    """The table of all generators; ``worth`` is that of the first, ``searched`` the bounds of a search."""
    from augment.comparison import compare

    section, store = config.worth, Store.open(config.store)
    return compare(config.name, trials, costs, worth, section.metric, section.seeds, store, searched)


def read_comparison(config: RunConfig, made: ArtifactRef) -> Comparison:
    """The table that :func:`compare` left."""
    from augment.comparison import load_comparison

    return load_comparison(made, Store.open(config.store))


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
