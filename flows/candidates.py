"""What a comparison of models and a search over settings share: candidates that are tried, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel

from augment.comparison import Comparison, Cost, Trial, ranked
from augment.config import RunConfig
from augment.errors import TrainingError
from augment.publishing import Publication
from augment.store import ArtifactRef, Store
from flows import measuring, tasks
from flows.announcing import or_logged
from flows.auditing import audited
from flows.comparison_table import as_markdown
from flows.recording import Run, recorded


class Outcome(BaseModel):
    """What became of a comparison, and of its publication where one was asked for and there was a winner."""

    comparison: Comparison
    path: str  # the artifact's folder
    publication: Publication | None = None


@flow(name="candidate", flow_run_name="candidate-{config.name}-{name}", persist_result=False)
def candidate(config: RunConfig, name: str, settings: dict[str, Any]) -> Trial:
    """Take one generator through the stages of `augment-dataset` up to its audit, and let classifiers try its rows.

    Rows that a gate refuses are not tried. ``settings`` are those of ``config`` that a search chose.
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
        settings=settings,
        real=found.real,
        generator=found.model,
        shards=found.drawn[0],
        judged=found.drawn[1],
        audit=found.audit,
        search=predicted.search if predicted else None,
        measured=predicted.measured if predicted else [],
        used=run.kept,
    )


def attempt(config: RunConfig, name: str, real: ArtifactRef, settings: dict[str, Any] | None = None) -> Trial:
    """The trial of one generator; that one cannot be trained ends no comparison."""
    try:
        return candidate(config, name, settings or {})
    except TrainingError as error:
        return failed(config, name, real, settings or {}, error)


def failed(config: RunConfig, name: str, real: ArtifactRef, settings: dict[str, Any], error: Exception) -> Trial:
    """The trial of a generator that came to nothing, and why."""
    model = config.model.model_dump(mode="json")
    return Trial(name=name, model=model, settings=settings, real=real, failure=str(error))


def concluded(
    config: RunConfig, run: Run, trials: Sequence[Trial], costs: Sequence[Cost], searched: dict[str, Any] | None = None
) -> Outcome:
    """The table of all ``trials``, in Prefect too; the best is measured on test rows.

    The trials share ``config`` but for the model, how rows are drawn, and how many.
    """
    for ref in (ref for trial in trials for ref in trial.used):
        run.keep(ref)
    found = ranked(trials, costs, config.worth.metric, Store.open(config.store))
    worth = None if found.winner is None else measure_winner(config, run, found.winner)
    made = run.keep(tasks.compare(config, list(trials), list(costs), worth, searched or {}))
    outcome = Outcome(comparison=tasks.read_comparison(config, made), path=str(Store.open(config.store).path(made)))
    announce(outcome)
    return outcome


def measure_winner(config: RunConfig, run: Run, winner: Trial) -> ArtifactRef:
    """The worth of what came first, on test rows; of nothing else are these looked at."""
    assert winner.search is not None
    predicted = measuring.Predicted(winner.search, winner.measured)
    return measuring.conclude(config, run, winner.real, (winner.shards, winner.judged), predicted)


def announce(outcome: Outcome) -> None:
    """Show the table in Prefect; what it does not take is logged and no error."""
    with or_logged("table", outcome.path):
        comparison = outcome.comparison
        said = f"The winner: {comparison.winner or 'none, all are refused'}."
        key = "search" if comparison.searched else "comparison"
        create_markdown_artifact(as_markdown(comparison), key=key, description=said)
