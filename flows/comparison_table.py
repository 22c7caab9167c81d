"""The table of a comparison, for a terminal, for Prefect's interface and as one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.printing import print_publication, print_table

if TYPE_CHECKING:
    from augment.comparison import Comparison, Entry
    from augment.worth.validation import ValidationLift
    from flows.compare_generators import Outcome

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
LEGEND = (
    "lift on validation: points of {metric} beyond the best classifier without synthetic rows, +- standard error over "
    "{seeds} seeds; farther: chance that a synthetic row is farther from the training rows than a held-out one (real "
    "rows: 50%); calls a row: evaluations of the model to draw one."
)


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each model, in rank."""
    return [_row(entry) for entry in comparison.entries]


def as_markdown(comparison: Comparison) -> str:
    """The table and what is said of the winner."""
    cells = [COLUMNS, ["---"] * len(COLUMNS), *(row.values() for row in table_rows(comparison))]
    lines = [f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in cells]
    said = [_legend(comparison), *sentences(comparison)]
    return "\n".join([f"# Generators for {comparison.dataset}", "", *lines, *(f"\n{sentence}" for sentence in said)])


def sentences(comparison: Comparison) -> list[str]:
    """Why models were refused, and what the winner is worth on test rows."""
    found = [*comparison.refusals, *comparison.notes]
    if comparison.winner is None:
        return [*found, "No model passes the gates, so none is measured on test rows."]
    assert comparison.worth is not None
    return [*found, f"Winner, the only one measured on test rows: {comparison.winner}. {comparison.worth.sentence}"]


def print_outcome(outcome: Outcome) -> None:
    """Write the table for a person, and below it what was published."""
    comparison = outcome.comparison
    print_table(table_rows(comparison), COLUMNS)
    print(f"\n{_legend(comparison)}")
    for sentence in sentences(comparison):
        print(f"\n{sentence}")
    print(f"\ncomparison {outcome.path}")
    if outcome.publication is not None:
        print()
        print_publication(outcome.publication)


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


def _gates(entry: Entry) -> str:
    if entry.refused_by:
        return f"refused: {', '.join(entry.refused_by)}"
    return f"{entry.verdict}, warned: {', '.join(entry.warned_by)}" if entry.warned_by else entry.verdict


def _legend(comparison: Comparison) -> str:
    return LEGEND.format(metric=comparison.metric.replace("_", " "), seeds=comparison.seeds)


def _lift(lift: ValidationLift | None) -> str:
    if lift is None:
        return "not measured"
    error = "" if lift.standard_error is None else f" +- {100 * lift.standard_error:.1f}"
    return f"{100 * lift.mean:+.1f}{error}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"
