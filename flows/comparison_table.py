"""The table of a comparison, for a terminal, for Prefect's interface and as one JSON document."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flows.printing import print_publication, print_table

if TYPE_CHECKING:
    from augment.comparison import Comparison, Entry
    from augment.worth.validation import ValidationLift
    from flows.candidates import Outcome

COLUMNS = (
    "rank",
    "model",
    "gates",
    "lift on validation",
    "coverage",
    "Fréchet / real",
    "farther",
    "labels agree",
    "parameters",
    "trained s",
    "calls a row",
)
SEARCH_COLUMNS = ("rank", "trial", "gates", "lift on validation")
LEGEND = {
    "lift on validation": "points of {metric} beyond the best classifier without synthetic rows, +- standard error "
    "over {seeds} seeds",
    "farther": "chance that a synthetic row is farther from the training rows than a held-out one (real rows: 50%)",
    "calls a row": "evaluations of the model to draw one",
}


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each model, or for each trial of a search, in rank."""
    if comparison.searched:
        return [_search_row(entry, comparison.searched) for entry in comparison.entries]
    return [_row(entry) for entry in comparison.entries]


def as_markdown(comparison: Comparison) -> str:
    """The table and what is said of the winner."""
    rows = table_rows(comparison)
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    lines = [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in cells]
    said = [_legend(comparison), *sentences(comparison)]
    if comparison.best is not None and comparison.best.settings:
        said.append(f"Its settings: `{' '.join(set_options(comparison.best))}`")
    compared = "Settings" if comparison.searched else "Generators"
    return "\n".join([f"# {compared} for {comparison.dataset}", "", *lines, *(f"\n{sentence}" for sentence in said)])


def sentences(comparison: Comparison) -> list[str]:
    """Why models were refused, and what the winner is worth on test rows."""
    found = [*comparison.refusals, *comparison.notes]
    if comparison.winner is None:
        what = "trial" if comparison.searched else "model"
        return [*found, f"No {what} passes the gates, so none is measured on test rows."]
    assert comparison.worth is not None
    return [*found, f"Winner, the only one measured on test rows: {comparison.winner}. {comparison.worth.sentence}"]


def print_outcome(outcome: Outcome) -> None:
    """Write the table for a person, and below it what was published."""
    comparison = outcome.comparison
    rows = table_rows(comparison)
    print_table(rows, list(rows[0]))
    print(f"\n{_legend(comparison)}")
    for sentence in sentences(comparison):
        print(f"\n{sentence}")
    print(f"\ncomparison {outcome.path}")
    if outcome.publication is not None:
        print()
        print_publication(outcome.publication)


def print_search(outcome: Outcome, command: Sequence[str]) -> None:
    """Write the table of a search for a person; ``command`` runs the run file that was searched."""
    print_outcome(outcome)
    best = winning_command(outcome.comparison, command)
    if best is not None:
        print(f"\npublish its rows, nothing is trained again: {shlex.join(best)}")
    elif outcome.comparison.best is not None:
        print("\nIts rows harm, so there is nothing to publish.")


def as_search_document(outcome: Outcome, command: Sequence[str]) -> dict[str, Any]:
    """What ``--json`` prints of a search: ``command`` as a list of words that runs the best settings."""
    return {**as_document(outcome), "command": winning_command(outcome.comparison, command)}


def winning_command(comparison: Comparison, command: Sequence[str]) -> list[str] | None:
    """``command`` with the settings of the winner; null where there is none, or its rows harm."""
    if comparison.best is None or (comparison.worth is not None and comparison.worth.verdict == "harms"):
        return None
    return [*command, *set_options(comparison.best)]


def set_options(entry: Entry) -> list[str]:
    """The options that give a run file the settings of ``entry``."""
    chosen = [("--set", f"{key}={json.dumps(value)}") for key, value in entry.settings.items()]
    return [word for pair in chosen for word in pair]


def as_document(outcome: Outcome) -> dict[str, Any]:
    """What ``--json`` prints."""
    published = None if outcome.publication is None else outcome.publication.model_dump(mode="json")
    return {**outcome.comparison.model_dump(mode="json"), "path": outcome.path, "publication": published}


def _row(entry: Entry) -> dict[str, Any]:
    cost = entry.cost
    values = (
        entry.rank,
        entry.name,
        _gates(entry),
        _lift(entry.validation),
        _percent(entry.coverage),
        entry.frechet_of_floor and round(entry.frechet_of_floor, 2),
        _percent(entry.farther),
        _percent(entry.label_agreement),
        None if cost.parameters is None else f"{cost.parameters:,}",
        cost.training_seconds and round(cost.training_seconds, 1),
        cost.evaluations_per_sample,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _search_row(entry: Entry, searched: dict[str, Any]) -> dict[str, Any]:
    """A trial; a setting that it has from the run file is left empty."""
    values = (entry.rank, entry.name.removeprefix("trial-"), _gates(entry), _lift(entry.validation))
    names = {key: short_name(key, searched) for key in searched}
    return dict(zip(SEARCH_COLUMNS, values, strict=True)) | {
        names[key]: json.dumps(entry.settings[key]).strip('"') if key in entry.settings else None for key in searched
    }


def short_name(key: str, keys: Iterable[str]) -> str:
    """The end of ``key``, ``beta`` of ``model.beta``, that is the end of no other of ``keys``."""
    words, others = key.split("."), [other.split(".") for other in keys if other != key]
    length = next(n for n in range(1, len(words) + 1) if all(words[-n:] != other[-n:] for other in others))
    return ".".join(words[-length:])


def _gates(entry: Entry) -> str:
    if entry.refused_by:
        return f"refused: {', '.join(entry.refused_by)}"
    return f"{entry.verdict}, warned: {', '.join(entry.warned_by)}" if entry.warned_by else entry.verdict


def _legend(comparison: Comparison) -> str:
    columns = SEARCH_COLUMNS if comparison.searched else COLUMNS
    said = "; ".join(f"{column}: {text}" for column, text in LEGEND.items() if column in columns)
    return said.format(metric=comparison.metric.replace("_", " "), seeds=comparison.seeds) + "."


def _lift(lift: ValidationLift | None) -> str:
    if lift is None:
        return "not measured"
    error = "" if lift.standard_error is None else f" +- {100 * lift.standard_error:.1f}"
    return f"{100 * lift.mean:+.1f}{error}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"
