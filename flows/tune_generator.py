"""The flow that searches the settings of a run: trial after trial on validation rows, the best alone on test rows."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from augment.comparison import Cost, Trial, ranked
from augment.config import RunConfig
from augment.errors import InputError
from augment.store import ArtifactRef, Store
from augment.tuning import Settings, Space, Tried, described, search_space, setting, suggest, with_settings
from flows import augment_dataset, placement, tasks
from flows.candidates import Outcome, attempt, concluded, failed
from flows.progress import RunProgress
from flows.recording import recorded


@flow(
    name="tune-generator",
    flow_run_name="tune-{config.name}",
    on_cancellation=[placement.cancel_children_of],
    on_crashed=[placement.cancel_children_of],
    persist_result=False,
)
def tune_generator(config: RunConfig, trials: int = 20, keep: list[str] | None = None) -> State[Outcome]:
    """Try the settings of ``config`` and then others, each chosen by what the lift of those before it was.

    Lifts are of validation rows. Only the settings that come first of all are measured on test rows. Settings that
    ``keep`` names are not varied.

    Raises:
        InputError: ``trials`` is less than 2, nothing would be measured, or the run does not fit its data.
    """
    refuse_nothing_to_choose(config, trials)
    space = search_space(config, keep or [])
    with recorded(config) as run:
        real = run.keep(tasks.ingest(config))
        # before any training: data that can rank nothing, or that the model does not fit, should cost no GPU
        tasks.refuse_unmeasurable(config, real)
        tasks.cost_of(config, real)
        runs: list[RunConfig] = []
        done: list[Trial] = []
        costs: list[Cost] = []
        tried: list[Tried] = []
        report = RunProgress()
        for number in range(trials):
            settings = suggest(space, tried, config.seed) if number else {}
            each, trial, cost = try_settings(config, number, settings, real)
            runs.append(each)
            done.append(trial)
            costs.append(cost)
            tried.append(found_out(each, trial, cost, space))
            report("tune", number + 1, trials, "trial")
        outcome = concluded(config, run, runs, done, costs, described(space))
        run.ended("compared")
    return Completed(message=f"the best settings are those of {outcome.comparison.winner}", data=outcome)


def refuse_nothing_to_choose(config: RunConfig, trials: int) -> None:
    """Return if there would be several measured trials to choose from.

    Raises:
        InputError: there would not.
    """
    if trials < 2:
        raise InputError(f"--trials is {trials}, and there is nothing to choose from fewer than 2; raise it.")
    if not config.worth.seeds:
        raise InputError("worth.seeds is 0, and settings are chosen by their worth; set it to 2 or more.")


def try_settings(
    config: RunConfig, number: int, settings: Settings, real: ArtifactRef
) -> tuple[RunConfig, Trial, Cost]:
    """The run ``config`` with other ``settings``, its trial, and what its generator costs."""
    name = f"trial-{number}"
    try:
        changed = with_settings(config, settings)
        cost = tasks.cost_of(changed, real)
    except InputError as error:
        return config, failed(config, name, real, settings, error), Cost()
    return changed, attempt(changed, name, real, settings), cost


def found_out(config: RunConfig, trial: Trial, cost: Cost, space: Space) -> Tried:
    """What the search learns from a trial."""
    (entry,) = ranked([trial], [cost], config.worth.metric, Store.open(config.store)).entries
    settings: dict[str, Any] = {key: setting(config, key) for key in space} | trial.settings
    lift = None if entry.validation is None else entry.validation.mean
    return Tried(settings, lift, len(entry.refused_by) + (entry.verdict == "failed"))


def outcome_of(state: State[Any]) -> Outcome:
    """What the flow returned, or the error that ended it."""
    result = augment_dataset.result_of(state, "search")
    assert isinstance(result, Outcome)
    return result
