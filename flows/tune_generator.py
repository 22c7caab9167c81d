"""The flow that searches the settings of a run: trial after trial on validation rows, the best alone on test rows."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import State, flow
from prefect.states import Completed
from pydantic import Field

from augment.comparison import Cost, Trial
from augment.config import RunConfig
from augment.errors import InputError
from augment.store import ArtifactRef, Store
from augment.tuning import Settings, Tried, described, found_out, search_space, suggest, with_settings
from flows import augment_dataset, placement, tasks
from flows.candidates import Outcome, attempt, concluded, failed
from flows.progress import RunProgress
from flows.recording import recorded

MOST = 10_000


@flow(
    name="tune-generator",
    flow_run_name="tune-{config.name}",
    on_cancellation=[placement.cancel_children_of],
    on_crashed=[placement.cancel_children_of],
    persist_result=False,
)
def tune_generator(
    config: RunConfig, trials: Annotated[int, Field(ge=2, le=MOST)] = 20, keep: list[str] | None = None
) -> State[Outcome]:
    """Try the settings of ``config`` and then others, each chosen by what the lift of those before it was.

    Lifts are of validation rows. Only the settings that come first of all are measured on test rows. Settings that
    ``keep`` names are not varied. Where all settings that there are were tried, there are fewer trials.

    Raises:
        InputError: nothing would be measured, or the run does not fit its data.
    """
    refuse_unmeasured(config)
    space = search_space(config, keep or [])
    with recorded(config) as run:
        real = run.keep(tasks.ingest(config))
        # before any training: data that can rank nothing, or that the model does not fit, should cost no GPU
        tasks.refuse_unmeasurable(config, real)
        done: list[Trial] = []
        costs: list[Cost] = []
        tried: list[Tried] = []
        report = RunProgress()
        for number in range(trials):
            settings = suggest(space, tried, config.seed) if number else {}
            if settings is None:
                break
            trial, cost = try_settings(config, number, settings, real)
            done.append(trial)
            costs.append(cost)
            tried.append(found_out(config, trial, space, Store.open(config.store)))
            report("tune", number + 1, trials, "trial")
        outcome = concluded(config, run, done, costs, described(space))
        run.ended("compared")
    winner = outcome.comparison.winner
    said = f"the best settings are those of {winner}" if winner else "no trial passes the gates"
    return Completed(message=said, data=outcome)


def refuse_unmeasured(config: RunConfig) -> None:
    """Return if trials are measured, so that there is something to choose by.

    Raises:
        InputError: they are not.
    """
    if not config.worth.seeds:
        raise InputError("worth.seeds is 0, and settings are chosen by their worth; set it to 2 or more.")


def try_settings(config: RunConfig, number: int, settings: Settings, real: ArtifactRef) -> tuple[Trial, Cost]:
    """The trial of the run ``config`` with other ``settings``, and what its generator costs.

    Settings that do not suit the data end their trial and nothing else.

    Raises:
        InputError: the run file's own settings do not suit them.
    """
    name, cost = f"trial-{number}", Cost()
    try:
        changed = with_settings(config, settings)
        cost = tasks.cost_of(changed, real)
        return attempt(changed, name, real, settings), cost
    except InputError as error:
        if not settings:
            raise
        return failed(config, name, real, settings, error), cost


def outcome_of(state: State[Any]) -> Outcome:
    """What the flow returned, or the error that ended it."""
    result = augment_dataset.result_of(state, "search")
    assert isinstance(result, Outcome)
    return result
