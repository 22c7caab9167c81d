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
from prefect.states import Completed, Failed

from augment.comparison import Trial, names_of, run_of_each
from augment.config import AnyModel, RunConfig
from augment.errors import AugmentError, NotBlessedError
from augment.store import ArtifactRef
from flows import augment_dataset, placement, tasks
from flows.candidates import Outcome, attempt, concluded
from flows.recording import recorded


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
        outcome = concluded(config, run, trials, costs)
        if publish and outcome.comparison.winner is not None:
            winner = runs[names.index(outcome.comparison.winner)]
            state = augment_dataset.augment_dataset(winner, return_state=True)
            outcome = outcome.model_copy(update={"publication": augment_dataset.outcome_of(state)})
        run.ended("compared")
    return final_state(outcome, publish)


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
