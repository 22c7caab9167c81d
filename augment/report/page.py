"""One self-contained page about a version: the verdict first, then the rows themselves, then what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augment.classifying import ClassifierRecord
from augment.columns import KINDS
from augment.gates import GateResult, judged, plural
from augment.report import wording
from augment.report.drawings import Drawing, Figure, Panel, Poster, drawings_of
from augment.report.facts import audit_details, facts_of, run_file
from augment.report.poster import Heading, chart_poster
from augment.report.rejects import rejects_of
from augment.report.rows import RowTable, nearest_pairs, random_rows
from augment.report.sampling import sample_sides
from augment.report.structure import associations_of, gauges_of, map_of, measures_of
from augment.report.surprises import chance, surprises_of
from augment.report.training import last_spot_check, training_curves
from augment.report.traversals import Latents, latents_of
from augment.report.worth import worth_of
from augment.report.worth_words import METRICS, signed
from augment.schema import DatasetSchema, class_name

if TYPE_CHECKING:
    from jinja2 import Template

TABLE_VALUES = 4_000_000  # rows x columns held at once, so that very wide tables do not fill the memory
PANELS_SHOWN = 60
Counts = Mapping[str, Mapping[str, int]]
Panels = Mapping[Drawing, Sequence[Panel]]


def write_report(
    folder: Path,
    *,
    schema: DatasetSchema,
    gates: Sequence[GateResult],
    counts: Counts,
    lineage: Mapping[str, Any],
    metrics_path: Path | None,
    rejects_path: Path | None,
    audit_metrics_path: Path | None = None,
    latents_path: Path | None = None,
    classifier_path: Path | None = None,
    worth: Mapping[str, Any] | None = None,
    config: Mapping[str, Any],
    seed: int,
    dataset: str,
    version: str | None,
) -> None:
    """Write ``report/index.html``, ``report/samples.png`` and ``report/metrics.json`` of a staged version.

    ``folder`` holds ``data/real/train-*.parquet``, ``data/synthetic/train-*.parquet`` and ``eval/*.parquet``;
    ``counts`` are ``{class: {real, requested, synthetic}}``; the paths are those of the model's and the audit's files;
    ``worth`` is a worth record as JSON values, null where worth was not looked at.
    The same arguments and data give the same bytes, in memory bounded by the rows drawn.
    """
    counts = _every_class(schema, counts)
    panels, examples = _panels(folder, schema, seed)
    verdict = wording.verdict_of(gates, counts)
    report = folder / "report"
    report.mkdir(parents=True, exist_ok=True)
    latents = latents_of(latents_path, schema)
    (report / "metrics.json").write_text(_metrics(panels, counts, seed, latents, last_spot_check(metrics_path)))
    heading = Heading(f"{dataset}: real and synthetic", _subtitle(verdict, counts, panels, seed))
    (report / "samples.png").write_bytes(_poster(panels, heading))
    details = audit_details(audit_metrics_path)
    text = _template("page.html.j2").render(
        dataset=dataset,
        version=version,
        verdict=verdict,
        worth=worth_of(worth),
        **_bars(counts),
        **_checks(gates, details),
        **_comparison(panels, details),
        **_origin(lineage, config, dataset),
        **_rows(folder, schema, details, rejects_path, seed),
        examples=examples,
        schema=schema,
        **_training(metrics_path, classifier_path, latents),
    )
    (report / "index.html").write_text(text, encoding="utf-8")


def _training(metrics: Path | None, classifier: Path | None, latents: Latents | None) -> dict[str, Any]:
    """What became of the training: its curves, and what the model holds beside the drawing of rows."""
    told = None
    if classifier is not None and classifier.is_file():
        told = ClassifierRecord.model_validate_json(classifier.read_text())
    return {"curves": training_curves(metrics), "classifier": told, "latents": latents}


def _every_class(schema: DatasetSchema, counts: Counts) -> Counts:
    """The counts with a row for each class of the schema, in its order, before what else was counted."""
    none = {"real": 0, "requested": 0, "synthetic": 0}
    names = [class_name(value) for value in schema.classes]
    rest = {name: c for name, c in counts.items() if name not in names}
    return {name: {**none, **counts.get(name, {})} for name in names} | {n: {**none, **c} for n, c in rest.items()}


def _bars(counts: Counts) -> dict[str, Any]:
    """What the page says of the rows of each class; the longest bar is ``largest`` rows long."""
    largest = max([c["real"] + max(c["requested"], c["synthetic"]) for c in counts.values()] + [1])
    return {"counts": counts, "totals": _totals(counts), "largest": largest}


def _checks(gates: Sequence[GateResult], details: Mapping[str, Any]) -> dict[str, Any]:
    """The gates with a verdict and those without, and what the one on request kept to be drawn."""
    return {"gates": judged(gates), "silent": wording.silent_gates(gates), "surprises": surprises_of(details)}


def _rows(
    folder: Path, schema: DatasetSchema, details: Mapping[str, Any], rejects: Path | None, seed: int
) -> dict[str, Any]:
    """The rows that are shown for a reason: the nearest pairs, and some of those that were rejected."""
    pairs = nearest_pairs(folder, schema, details, rejects)
    return {"pairs": pairs, "rejects": rejects_of(rejects, schema, seed), "seed": seed}


def _origin(lineage: Mapping[str, Any], config: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Where the version comes from, how it is made again, and where it lies."""
    location = f"{config.get('store', './store')}/datasets/{dataset}"
    return {"lineage": facts_of(lineage), "run_file": run_file(config), "location": location}


def _totals(counts: Counts) -> dict[str, int]:
    return {key: sum(c[key] for c in counts.values()) for key in ("real", "requested", "synthetic")}


def _panels(folder: Path, schema: DatasetSchema, seed: int) -> tuple[Panels, RowTable | None]:
    """The panels of all columns that are drawn, by drawing, and some rows of the columns that have no grid."""
    drawings = drawings_of(schema.features)
    if not drawings:
        return {}, None
    rows = min(*(drawing.rows for drawing in drawings.values()), TABLE_VALUES // len(drawings))
    samples = sample_sides(folder, schema, list(drawings), rows, seed)
    shown = [c for c in schema.features if c.name in drawings]
    order = list(KINDS)  # the first kind that a dataset has makes the poster
    ordered = dict.fromkeys(drawings[c.name] for c in sorted(shown, key=lambda c: order.index(c.kind)))
    panels = {drawing: [drawing.panel(c, samples) for c in shown if drawings[c.name] == drawing] for drawing in ordered}
    gridded = {panel.title for panel in _grids(panels)}
    return panels, random_rows(samples, [c for c in shown if c.name not in gridded], drawings)


def _grids(panels: Panels) -> list[Panel]:
    """The panels that show values themselves, and not only what is measured of them."""
    return [panel for drawn in panels.values() for panel in drawn if panel.section == "pictures"]


def _comparison(panels: Panels, details: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the columns: grids of values, figures drawn and measured, what the gates kept of them."""
    measured = _measured(panels)
    known = {figure.title for _, figure in measured}
    return {
        "grids": _grids(panels),
        "charts": measured[:PANELS_SHOWN],
        "hidden": len(measured[PANELS_SHOWN:]),
        "measured": measured,
        "gauges": gauges_of(details),
        "measures": measures_of(details, known),
        "associations": associations_of(details),
        "map": map_of(details),
    }


def _poster(panels: Panels, heading: Heading) -> bytes:
    """The poster of the first drawing that has panels, with those of all drawings that make the same poster."""
    make: Poster = next((drawing.poster for drawing in panels), chart_poster)
    fitting = [panel for drawing, drawn in panels.items() if drawing.poster is make for panel in drawn]
    return make(sorted(fitting, key=_difference), heading)


def _difference(panel: Panel) -> float:
    """Orders panels by their largest distance, the most different first."""
    return -max(figure.distance.value or 0.0 for figure in panel.figures)


def _measured(panels: Panels) -> list[tuple[str, Figure]]:
    """Every measured figure with its name, most different first."""
    figures = [
        (panel.title if figure.title == panel.title else f"{panel.title}: {figure.title}", figure)
        for drawn in panels.values()
        for panel in drawn
        for figure in panel.figures
    ]
    return sorted(figures, key=lambda named: -(named[1].distance.value or 0.0))


def _metrics(
    panels: Panels, counts: Counts, seed: int, latents: Latents | None, spot_check: Mapping[str, float] | None
) -> str:
    """The figures that the page shows, as the text of ``metrics.json``."""
    columns = [
        {
            "column": panel.title,
            "figure": None if figure.title == panel.title else figure.title,
            "distance": figure.distance.name,
            "value": figure.distance.value,
            "held_out": figure.distance.held_out,
            "missing": {"real": round(figure.missing.real, 6), "synthetic": round(figure.missing.synthetic, 6)},
            "by_class": figure.distance.by_class,
        }
        for drawn in panels.values()
        for panel in drawn
        for figure in panel.figures
    ]
    figures = {"seed": seed, "classes": {name: dict(count) for name, count in counts.items()}, "columns": columns}
    more = {
        "latents": None if latents is None else latents.record.model_dump(),
        "last_spot_check": spot_check,
    }
    return json.dumps(figures | {name: found for name, found in more.items() if found is not None}, indent=1) + "\n"


def _subtitle(verdict: wording.Verdict, counts: Counts, panels: Panels, seed: int) -> str:
    totals = _totals(counts)
    text = f"{plural(totals['real'], 'real row')}, {totals['synthetic']:,} synthetic \u00b7 {verdict.word}"
    drawn = sum(map(len, panels.values()))
    return f"{text} \u00b7 random rows, seed {seed}" if drawn else f"{text} \u00b7 no columns to show"


@cache
def _template(name: str) -> Template:
    """The Jinja template ``name`` of this package; whatever it shows is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("augment.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.number, percent=wording.percent, chance=chance, plural=plural, pystring=json.dumps, signed=signed
    )
    environment.filters["two"] = wording.two_decimals
    environment.globals.update(
        metrics=METRICS, gate_word=wording.gate_word, gate_icons=wording.GATE_ICONS, gate_titles=wording.GATE_TITLES
    )
    return environment.get_template(name)
