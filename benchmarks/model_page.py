"""Writes docs/models.md from the models that there are and from what was measured of them.

    python benchmarks/model_page.py [--check]

The figures come from those files in benchmarks/results that `BENCHMARKS` names, the pictures from docs/pictures. With
`--check` nothing is written, and the exit status is 1 where the page is not what would be written.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _likelihood_sections import beside_pythae, bounds, exact, known
from _markdown import decimals, plural, rounded, table
from _measured_sections import photos, scarce_classes, variants
from _run_sections import step_choices, whole_runs
from adversarial_variants import VARIANTS

from augment.config import MODELS
from augment.operators import OPERATORS
from models._contract import ModelConfig

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
PICTURES = ROOT / "docs" / "pictures"
RESULTS = ROOT / "benchmarks" / "results"
BENCHMARKS = (
    "families",
    "blessings",
    "scarce_images",
    "likelihood",
    "digits_likelihood",
    "likelihood_beside_pythae",
    "likelihood_gate",
    "sampling",
    "colour_photos",
    "adversarial_variants",
    "whole_runs",
    "step_choices",
)
FORMS = {"vector": "tables", "grid": "images"}
LIKELIHOODS = {"exact": "exact", "bound": "a lower bound", "none": "none"}
SAMPLING = {"rows": "as many as it has rows", "root": "by the root of its rows", "equal": "equally often"}
NOT_MEASURED = "not measured"
AUDITED = {"digits": ("packaged example", "grid"), "wine": ("wine", "vector")}  # heading, and form of the rows
DATA = {
    "digits": "digits: 8x8, five classes of 10 rows, five of about 125",
    "fashion-mnist": "Fashion-MNIST: 28x28, 5,000 rows",
    "wine": "wine: 13 columns, 107 rows",
    "breast_cancer": "breast cancer: 30 columns, 341 rows",
}
FIGURES = {  # name in the results: heading and decimals
    "coverage": ("coverage", 3),
    "density": ("density", 2),
    "frechet": ("Fréchet", 2),
    "label_agreement": ("label agreement", 3),
    "classifier_score": ("classifier score", 2),
    "accuracy": ("accuracy trained on them", 3),
    "novelty": ("novelty", 2),
}
NO_FIGURE = {"mean": None, "se": None, "floor": None, "floor_se": None}  # of a row that older code measured
SCORE = """
- **classifier score**: the Inception score with our own classifier (arXiv:1606.03498, section 4), from 1 to the number
  of classes; no published score compares. It sees neither labels nor copies, nor how alike the rows of a class are."""
COSTS = {"samples_per_second": "drawn / s", "training_rows_per_second": "trained / s"}
INTRODUCTION = """\
<!-- Written by `python benchmarks/model_page.py` from the models and benchmarks/results. Do not edit. -->

# Models

Every model is chosen by `model.kind` in the run file and brings its own training; whatever it draws passes the same
audit. `augment models` lists the same kinds, and `--set model.SETTING=VALUE` changes a setting. What their rows were
worth to a classifier is on [a page of its own](worth.md).
"""
BLESSINGS = """
*Value by value*: each value of a row is drawn once those before it are, so that one evaluation is many small steps, one
after the other. The last two columns say whether a run with the model's defaults is blessed by all gates but worth, in
how many of the seeds, and what it takes in CPU seconds of one thread, worth apart. `benchmarks/blessings.py` measures.
"""
REFUSALS = """
What a gate said of the first seed that it refused:

"""
READING = """\
Each figure is the mean over the seeds, with its standard error where there were several. The rows *real rows* are the
floor: training rows in the place of the synthetic ones, as many of each class, in the features of classifiers that have
not seen them. Classes count the same. Small differences to the floor say nothing.

- **coverage**: share of held-out rows near which some synthetic row lies; **density**: in how many neighbourhoods of
  held-out rows a synthetic row lies, over 5. Both within a class, in the features of classifiers that were trained on
  real rows (arXiv:2002.09797). Rows that all look alike have much density and little coverage.
- **Fréchet**: squared Fréchet distance in the same features; less is better, and no other paper's figure compares.
- **label agreement**: share of rows to which another classifier of real rows gives their label; of real rows, held-out
  ones.{score}
- **accuracy trained on them**: balanced accuracy on held-out rows of a classifier that was trained on the synthetic
  rows alone (arXiv:1905.10887); of real rows, on all training rows.
- **novelty**: chance that a row lies farther from its nearest training row than a held-out row does: 0 for copies, 0.5
  for real rows, 1 for noise.
- **drawn / s**, **trained / s**: rows a CPU second of one thread; drawing includes loading, decoding and writing.
"""


def page(measured: Mapping[str, Mapping[str, Any]], pictures: Path = PICTURES) -> str:
    """The whole page in Markdown; ``measured`` has what each benchmark of :data:`BENCHMARKS` kept, by its name."""
    families = measured["families"]
    parts = [
        INTRODUCTION,
        overview(measured["blessings"]["rows"]),
        whole_runs(measured["whole_runs"]["rows"]),
        "## Quality and cost at equal CPU minutes\n",
        measured_on(families),
        comparison(families["rows"]),
        READING.format(score=SCORE if "classifier_score" in shown_figures(families["rows"]) else ""),
        scarce_classes(measured["scarce_images"]["rows"]),
        bounds(measured["likelihood"]["rows"]),
        variants(measured["adversarial_variants"], VARIANTS),
        exact(measured["digits_likelihood"]["rows"], measured["sampling"]["rows"]),
        beside_pythae(measured["likelihood_beside_pythae"]),
        known(measured["likelihood_gate"]["rows"]),
        photos(measured["colour_photos"]),
        step_choices(measured["step_choices"]),
        *(section(kind, config, pictures) for kind, config in MODELS.items()),
    ]
    return "\n".join(part for part in parts if part)


def overview(rows: Iterable[Mapping[str, Any]]) -> str:
    """What each model takes, offers and costs, and whether its defaults pass the audit."""
    audits = {(row["data"], row["kind"]): row for row in rows}
    lines = [
        [
            f"[`{kind}`](#{kind})",
            title(config),
            taken(config),
            LIKELIHOODS[config.likelihood],
            evaluations(config),
            *(verdict(audits.get((data, kind)), config, form) for data, (_, form) in AUDITED.items()),
        ]
        for kind, config in MODELS.items()
    ]
    titles = [heading for heading, _ in AUDITED.values()]
    headings = ["kind", "what", "takes", "likelihood", "net evaluations a row", *titles]
    return table(headings, lines) + BLESSINGS + refusals(audits)


def evaluations(config: type[ModelConfig]) -> str:
    """How often the net is evaluated for a row, and whether that is spread over its values."""
    one_by_one = config().drawing_order() is not None
    return f"{config.evaluations_per_sample}{', value by value' * one_by_one}"


def verdict(row: Mapping[str, Any] | None, config: type[ModelConfig], form: str) -> str:
    """Whether the defaults are blessed, and which gates refuse them where not, each in how many seeds."""
    if form not in config.accepts:
        return f"takes no {FORMS[form]}"
    if row is None:
        return NOT_MEASURED
    if "absent" in row:
        return f"fails: {row['absent']}"
    seconds = row["train_cpu_seconds"]["mean"] + row["rest_cpu_seconds"]["mean"]
    if not row["refused_by"]:
        return f"yes ({plural(row['seeds'])}, {seconds:.0f} s)"
    counted = row["seeds"] > 1
    gates = ", ".join(
        gate["gate"] + (f" in {gate['seeds']}" if counted and "seeds" in gate else "") for gate in row["refused_by"]
    )
    word = f"yes with {row['blessed']} of {plural(row['seeds'])}, else refused" if row["blessed"] else "refused"
    return f"{word} by {gates} ({plural(row['seeds'])}, {seconds:.0f} s)"


def refusals(audits: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The sentence of every gate that refused a seed, a line each; nothing where none did.

    A gate may look at several figures, and its value is the first alone: what failed is in its sentence.
    """
    lines = [
        f"- `{kind}`, {heading}, {gate['gate']}: {gate['sentence']}{unrounded(gate)}\n"
        for kind in MODELS
        for data, (heading, _) in AUDITED.items()
        for gate in audits.get((data, kind), {}).get("refused_by", [])
    ]
    return REFUSALS + "".join(lines) if lines else ""


def unrounded(gate: Mapping[str, Any]) -> str:
    """The gate's figure and its limit where a sentence in whole per cent would show them as the same."""
    value, limit = gate["value"], gate["limit"]
    if value is None or limit is None or f"{value:.0%}" != f"{limit:.0%}":
        return ""
    return f" Not rounded, {value:.4g} where {limit:.4g} is the limit."


def measured_on(families: Mapping[str, Any]) -> str:
    """The minutes, seeds and machine of the comparison."""
    rows = [row for row in families["rows"] if "absent" not in row]
    if not rows:
        return f"{NOT_MEASURED.capitalize()} yet: run `benchmarks/families.py`.\n"
    budgets = {row["data"]: f"{row['data']} {row['minutes']:g} min, {plural(row['seeds'])}" for row in rows}
    by_machine: dict[str, set[str]] = {}
    for cell in families["cells"]:
        where = cell.get("measured_on", families)
        title = f"{where['machine']['cpu']} with torch {where['versions']['torch']}"
        by_machine.setdefault(title, set()).add(f"`{cell['kind']}` of {cell['data']}")
    usual, *others = sorted(by_machine, key=lambda title: -len(by_machine[title]))
    elsewhere = "".join(f" ({', '.join(sorted(by_machine[title]))}: {title})" for title in others)
    unequal = "One machine does more in a minute than another.\n" if others else ""
    return (
        f"Each model was trained for the same CPU minutes of one thread ({'; '.join(budgets.values())}) on\n"
        f"{usual}{elsewhere}, with everything else by default; `benchmarks/families.py` measures.\n"
        f"{unequal}"
    )


def shown_figures(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """The headings and decimals of the figures that some row has."""
    names = {name for row in rows if "absent" not in row for name in row}
    return {name: style for name, style in FIGURES.items() if name in names}


def comparison(rows: Iterable[Mapping[str, Any]]) -> str:
    """The one table to choose a model by: per data set the real rows, then every model that was measured."""
    there = [row for row in rows if "absent" not in row]
    shown = shown_figures(there)
    lines = []
    for data, title in DATA.items():
        own = [row for row in there if row["data"] == data]
        if own:
            floor = {name: own[0].get(name, NO_FIGURE) for name in shown}
            floors = [decimals(floor[name]["floor"], floor[name]["floor_se"], n) for name, (_, n) in shown.items()]
            lines.append([f"**{title}**", "*real rows*", *floors, *["" for _ in COSTS], ""])
        for row in own:
            found = {name: row.get(name, NO_FIGURE) for name in shown}
            values = [decimals(found[name]["mean"], found[name]["se"], n) for name, (_, n) in shown.items()]
            costs = [rounded(row[name]["mean"]) for name in COSTS]
            lines.append(["", f"`{row['kind']}`", *values, *costs, f"{row['parameters']:,}"])
    headings = ["data", "rows", *(heading for heading, _ in shown.values()), *COSTS.values(), "parameters"]
    return table(headings, lines) if lines else ""


def section(kind: str, config: type[ModelConfig], pictures: Path) -> str:
    """What there is to know about one model, and its pictures."""
    default, training = config(), config.training
    offered = default.offered()
    other = [name for name in config.operators if name not in offered]
    operators = "; ".join(f"`{name}`: {OPERATORS[name].sentence}" for name in offered)
    facts = [
        f"- **takes** {taken(config)}" + (f" alone: {config.refuses}" if config.refuses else ""),
        f"- **likelihood** {LIKELIHOODS[config.likelihood]}; **objectives** {', '.join(config.objective_names)}",
        f"- **operators** {operators}"
        + (f"; with other settings {', '.join(f'`{n}`' for n in other)}" if other else ""),
        f"- **net evaluations a row** {evaluations(config)}",
        f"- **training** {training.steps:,} steps of {training.batch_size} rows, each class "
        f"{SAMPLING[training.sampling]}; weights averaged with {training.ema_decay}, {training.schedule} schedule",
    ]
    settings = [
        [f"`{name}`", f"`{plain(getattr(default, name))}`", field.description or ""]
        for name, field in config.model_fields.items()
        if name != "kind"
    ]
    shown = [data for data in DATA if (pictures / f"{kind}-{data}.png").exists()]
    images = [f"![{kind} on {data}: real left, synthetic right](pictures/{kind}-{data}.png)\n" for data in shown]
    legend = "Each row a class: eight real training rows, then eight synthetic ones, not picked.\n"
    return "\n".join(
        [
            f"## {kind}\n",
            f"{title(config)} {config.paper}.\n",
            *facts,
            "",
            table(["setting", "default", "what"], settings),
            *([legend, *images] if images else []),
        ]
    )


def taken(config: type[ModelConfig]) -> str:
    """The forms of rows that a model accepts, as people call them."""
    return " and ".join(name for form, name in FORMS.items() if form in config.accepts)


def title(config: type[ModelConfig]) -> str:
    """The first sentence of the model's file."""
    text = inspect.getdoc(importlib.import_module(config.__module__)) or ""
    return " ".join(text.split("\n\n")[0].split())


def plain(value: Any) -> str:
    """A setting's default as a run file would say it."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return json.dumps(value).replace('"', "")


def results() -> dict[str, dict[str, Any]]:
    """What each benchmark kept, or nothing measured."""
    paths = {name: RESULTS / f"{name}.json" for name in BENCHMARKS}
    return {name: json.loads(path.read_text()) if path.exists() else {"rows": []} for name, path in paths.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is up to date")
    args = parser.parse_args()
    written = page(results())
    if args.check:
        same = PAGE.exists() and PAGE.read_text() == written
        print("up to date" if same else f"{PAGE} is out of date; run python benchmarks/model_page.py", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
