"""The flow that chooses a generator by evidence: several are tried, one table says which is best, and why."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed
from pydantic import BaseModel

from augment.comparison import Comparison, Ranked, Trial, names_of, ranked, run_of_each
from augment.config import AnyModel, RunConfig
from augment.errors import AugmentError, NotBlessedError, TrainingError
from augment.publishing import Publication
from augment.store import ArtifactRef, Store
from flows import augment_dataset, measuring, placement, tasks
from flows.announcing import or_logged
from flows.auditing import audited
from flows.comparison_table import as_markdown
from flows.recording import Run, recorded


class Outcome(BaseModel):
    """What became of a comparison, and of its publication where one was asked for and there was a winner."""

    comparison: Comparison
    path: str  # the artifact's folder
    publication: Publication | None = None


@flow(
    name="compare-generators",
    flow_run_name="compare-{config.name}",
    on_cancellation=[placement.cancel_children_of],
    on_crashed=[placement.cancel_children_of],
    persist_result=False,
)
def compare_generators(config: RunConfig, models: list[AnyModel], publish: bool = False) -> State[Outcome]:
    """Try each of ``models`` in the run of ``config``, and rank them by the lift that their rows give.

    The rank is of validation rows. Only the first model is measured on test rows. With ``publish`` its dataset is
    published, as `augment-dataset` would; where no model passes the gates, the run ends as `NotBlessed`.
    """
    runs, names = run_of_each(config, models), names_of(models)
    with recorded(config) as run:
        real = run.keep(tasks.ingest(config))
        # before any training: a model that does not fit the data, or data that can rank none, should cost no GPU
        tasks.refuse_unmeasurable(config, real)
        costs = [tasks.cost_of(each, real) for each in runs]
        trials = try_all(runs, names, real)
        for ref in (ref for trial in trials for ref in trial.used):
            run.keep(ref)
        found = ranked(trials, costs, config.worth.metric, Store.open(config.store))
        winner = None if found.winner is None else runs[names.index(found.winner.name)]
        worth = None if winner is None else measure_winner(winner, run, found)
        made = run.keep(tasks.compare(config, trials, costs, worth))
        outcome = Outcome(comparison=tasks.read_comparison(config, made), path=str(Store.open(config.store).path(made)))
        announce(outcome)
        if publish and winner is not None:
            state = augment_dataset.augment_dataset(winner, return_state=True)
            outcome = outcome.model_copy(update={"publication": augment_dataset.outcome_of(state)})
        run.ended("compared")
    return final_state(outcome, publish)


@flow(name="candidate", flow_run_name="candidate-{config.name}-{name}", persist_result=False)
def candidate(config: RunConfig, name: str) -> Trial:
    """Take one generator through the stages of `augment-dataset` up to its audit, and let classifiers try its rows.

    Rows that a gate refuses are not tried.
    """
    with recorded(config) as run:
        found = audited(config, run)
        predicted = None
        if tasks.why_not_measured(config, found.real, found.audit) is None:
            predicted = measuring.predict(config, run, found.real, found.drawn, found.draw_anew(run))
        run.ended("compared")
    return Trial(
        name=name,
        model=config.model.model_dump(mode="json"),
        real=found.real,
        generator=found.model,
        shards=found.drawn[0],
        judged=found.drawn[1],
        audit=found.audit,
        search=predicted.search if predicted else None,
        measured=predicted.measured if predicted else [],
        used=run.kept,
    )


def attempt(config: RunConfig, name: str, real: ArtifactRef) -> Trial:
    """The trial of one generator; that one cannot be trained ends no comparison."""
    try:
        return candidate(config, name)
    except TrainingError as error:
        return Trial(name=name, model=config.model.model_dump(mode="json"), real=real, failure=str(error))


def try_all(runs: Sequence[RunConfig], names: Sequence[str], real: ArtifactRef) -> list[Trial]:
    """The trials of all generators: one after the other here, side by side where a deployment trains."""
    if runs[0].placement.train == placement.HERE:
        return [attempt(config, name, real) for config, name in zip(runs, names, strict=True)]
    turns = Turns()

    def in_turn(config: RunConfig, name: str) -> Trial:
        placement.WAITING.set(turns.given_away)
        with turns.mine():
            return attempt(config, name, real)

    with ThreadPoolExecutor(len(runs)) as pool:
        futures = [
            pool.submit(copy_context().run, in_turn, config, name) for config, name in zip(runs, names, strict=True)
        ]
        try:
            return [future.result() for future in futures]
        except BaseException:
            turns.end()
            placement.cancel_children(placement.current_run())
            raise


class Turns:
    """One thread at a time computes in this process; while its child works elsewhere, another may.

    Torch's own generator and number of threads are those of the process, and what is computed follows from them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = False

    @contextlib.contextmanager
    def mine(self) -> Iterator[None]:
        """A block that computes."""
        with self._lock:
            self._refuse_end()
            yield

    @contextlib.contextmanager
    def given_away(self) -> Iterator[None]:
        """A block inside :meth:`mine` that only waits."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
        self._refuse_end()

    def end(self) -> None:
        """Let no other turn begin."""
        self._ended = True

    def _refuse_end(self) -> None:
        if self._ended:
            raise AugmentError("the comparison ended before this model had its turn; run it again.")


def measure_winner(config: RunConfig, run: Run, found: Ranked) -> ArtifactRef:
    """The worth of what came first, on test rows; of nothing else are these looked at."""
    trial = found.winner
    assert trial is not None
    assert trial.search is not None
    predicted = measuring.Predicted(trial.search, trial.measured)
    return measuring.conclude(config, run, trial.real, (trial.shards, trial.judged), predicted)


def announce(outcome: Outcome) -> None:
    """Show the table in Prefect; what it does not take is logged and no error."""
    with or_logged("table", outcome.path):
        said = f"The winner: {outcome.comparison.winner or 'none, all are refused'}."
        create_markdown_artifact(as_markdown(outcome.comparison), key="comparison", description=said)


class NoneBlessedError(NotBlessedError):
    """Nothing was published though it was asked for; ``outcome`` says what was compared."""

    def __init__(self, outcome: Outcome) -> None:
        if outcome.publication is None:
            said = f"every model is refused. {' '.join(outcome.comparison.refusals)}"
        else:
            said = str(augment_dataset.RefusalError(outcome.publication))
        super().__init__(said, Path(outcome.publication.path if outcome.publication else outcome.path))
        self.outcome = outcome


def final_state(outcome: Outcome, publish: bool) -> State[Any]:
    """How Prefect shows a comparison: Failed where a publication was asked for and refused."""
    status = outcome.publication.status if outcome.publication else "refused"
    if publish and status == "refused":
        refusal = NoneBlessedError(outcome)
        return Failed(name="NotBlessed", message=str(refusal), data=refusal)
    name = "Unchanged" if publish and status == "unchanged" else "Completed"
    return Completed(name=name, message=f"the winner is {outcome.comparison.winner}", data=outcome)


def outcome_of(state: State[Any]) -> Outcome:
    """What the flow returned, or the error that ended it."""
    result = augment_dataset.result_of(state, "comparison")
    if isinstance(result, NoneBlessedError):
        return result.outcome
    assert isinstance(result, Outcome)
    return result
