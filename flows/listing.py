"""What there is, as rows of a table: models, sources, checks, published datasets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augment.versions import DatasetSummary

Rows = list[dict[str, Any]]


def model_rows() -> Rows:
    """The generative models: what each accepts and offers, and what drawing costs."""
    from augment.config import MODELS

    return [
        {
            "kind": kind,
            "accepts": sorted(model.accepts),
            "likelihood": model.likelihood,
            "objectives": list(model.objective_names),
            "operators": list(model.operators),
            "evaluations_per_sample": model.evaluations_per_sample,
            "paper": model.paper,
        }
        for kind, model in MODELS.items()
    ]


def refused_forms() -> list[str]:
    """A sentence for each model that does not take both tables and images, with the reason."""
    from augment.config import MODELS

    names = {"vector": "tables", "grid": "images"}
    return [
        f"{kind} takes {' and '.join(names[form] for form in sorted(model.accepts))} alone: {model.refuses}."
        for kind, model in MODELS.items()
        if model.refuses
    ]


def source_rows() -> Rows:
    """The kinds of sources that rows are read from."""
    from augment.config import SOURCES

    return [{"kind": kind, "summary": source.summary} for kind, source in SOURCES.items()]


def check_rows() -> Rows:
    """The gates that there are checks for, in their order: which run by default, and which cannot be left out."""
    from augment.config import CHECKS
    from augment.gates import place_of

    return [
        {"kind": kind, "default": check.default_on, "mandatory": check.mandatory, "summary": check.summary}
        for kind, check in sorted(CHECKS.items(), key=lambda item: place_of(item[0]))
    ]


def dataset_rows(datasets: Iterable[DatasetSummary]) -> Rows:
    """Published datasets, each with its latest version and the rows of that."""
    rows: Rows = []
    for dataset in datasets:
        latest = dataset.latest
        row = {"dataset": dataset.dataset, "versions": dataset.versions, "latest": latest.version if latest else None}
        rows.append({**row, **(latest.rows if latest else {})})
    return rows
