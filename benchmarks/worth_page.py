"""Writes docs/worth.md and its plot from what benchmarks/worth.py measured.

    python benchmarks/worth_page.py [--check]

With `--check` nothing is written, and the exit status is 1 where the page is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _cells import RESULTS
from _markdown import table
from _worth_data import SCARCE, SOURCES
from scipy.stats import ttest_1samp
from worth import KINDS

from augment.worth.statistics import holm

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "worth.md"
PLOT = ROOT / "docs" / "pictures" / "worth.png"
NAMES = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "adult": "Adult",
    "mammography": "mammography",
    "german-credit": "German credit",
}
INTRODUCTION = """\
<!-- Written by `python benchmarks/worth_page.py` from benchmarks/results/worth.json. Do not edit. -->

# What synthetic rows were worth

Classes of real data sets were cut to a few training rows, and classifiers learned with and without the rows of our
models, drawn and judged by the product's own stages. Beside the best model stands the best that can be done without
one: of images the winner of a search over classical augmentation policies, of tables class weights, oversampling, SMOTE
or threshold moving, with boosted trees or logistic regression. Model, arms and policies are all chosen on validation
rows; the figures are balanced accuracy on test rows in points, means over seeds that draw real rows, model and
classifiers anew. `benchmarks/worth.py` measures, with every model at its defaults.

[models.md](models.md#where-a-class-has-five-rows) has MNIST and Fashion-MNIST with five rows in a class too, under
"Where a class has five rows". There another classifier learns, in as many steps, and beside the rows stands the best of
five augmentations that were given. Here it is a policy that was searched for, and beside that, as
[README](../README.md) says, nothing is left of what the rows add there.
"""
READING = """\
An interval holds 95 %, by Student's t over the seeds. The verdict is that of the interval, unadjusted: *helps* where it
lies above 0, *harms* where it lies below. p is adjusted for all rows of the table (Holm), so a row that helps or harms
may have a large p. *Models compared* counts those with seeds enough to be chosen. *Refused* says for how many of the
seeds a gate, as it was when this was measured, would have kept the rows from being published: they are counted here all
the same, since this page is about what rows are worth. *More real rows* is what is reached with the real rows too that
the cut set aside, of tables by the classifier that is better on validation rows: what is left to gain.
"""
PLOT_TEXT = "![Lift of the best model beside the best without one, by rows in a scarce class](pictures/worth.png)\n"
EVERY = """\
## Every model

The same for each model that was tried, its arm chosen on validation rows. Models with less than half the seeds of the
most measured one take no part in the choice above.
"""
NOTHING = "No model is measured with two seeds of a case, so nothing is compared yet.\n"
STOPPED = """\
## Runs that ended early

They were not finished, and count in no mean above. Runs of a model that ended for the same reason stand together, with
what the first of them said; the others may have other steps and figures.
"""
# what a training that stopped itself says of its own steps and figures, and not of the reason
OWN = re.compile(r" \((?:step \d+ is kept|no checkpoint was saved before)\)|\d+(?:\.\d+)?")
MEASURED = """\
## Seeds measured

Of each model at each number of rows in a scarce class, in the order of the heading; a whole measurement has 8. The
default run of `benchmarks/worth.py` measures what is lacking.
"""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole page in Markdown, from the rows that the benchmark kept."""
    there = [row for row in rows if "absent" not in row]
    best = chosen(there)
    compared = [READING, PLOT_TEXT, best_table(best), summary(best), EVERY, every_table(there)] if best else [NOTHING]
    return "\n".join([INTRODUCTION, *compared, *stopped(rows), MEASURED, measured_table(rows)])


def chosen(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each case the model whose best arm scores most on validation rows, in the order of the data sets.

    Models take part that have half as many seeds as another or more: means over fewer vary too much to be the best.
    ``compared`` says how many did.
    """
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["seeds"] > 1:
            by_case.setdefault(row["data"], []).append(row)
    best: list[Mapping[str, Any]] = []
    for own in by_case.values():
        most = max(row["seeds"] for row in own)
        enough = [row for row in own if 2 * row["seeds"] >= most]
        first = max(enough, key=lambda row: on_validation(row, row["with"]))
        best.append({**first, "compared": len(enough)})
    return sorted(best, key=lambda row: place(row["data"]))


def place(case: str) -> tuple[int, int]:
    """Where a case such as ``mnist, 5 rows`` stands: by its data set, then by its rows."""
    return list(SOURCES).index(data_of(case)), rows_of(case)


def data_of(case: str) -> str:
    """The data set of a case."""
    return case.partition(",")[0]


def rows_of(case: str) -> int:
    """The rows of a scarce class in a case."""
    return int(case.partition(", ")[2].split()[0])


def titled(case: str) -> str:
    """``German credit, 5 rows``: a case as the page calls it."""
    return f"{NAMES[data_of(case)]}, {rows_of(case)} rows"


def adjusted(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The p-values of the rows' lifts by Student's t over seeds, adjusted for there being several."""
    return holm([p_value(row["lifts"]) for row in rows])


def p_value(lifts: Sequence[float]) -> float:
    """The chance of lifts whose mean is as far from 0 if it were 0, by Student's t; of equal ones 1 or 0."""
    if statistics.pstdev(lifts) == 0:
        return float(lifts[0] == 0)
    return float(ttest_1samp(lifts, 0).pvalue)


def best_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a case: the best without, the best with, and what lies between them."""
    lines = []
    for row, p in zip(rows, adjusted(rows), strict=True):
        lines.append(
            [
                f"{NAMES[data_of(row['data'])]}, {rows_of(row['data'])}",
                f"{row['without']}: {mean(row, row['without'])}",
                f"`{row['kind']}`, {row['with']}: {mean(row, row['with'])}",
                str(row["compared"]),
                lift(row),
                f"{p:.2g}",
                row["verdict"],
                f"{row['refused']} of {row['seeds']}",
                more_real(row),
            ]
        )
    headings = [
        "rows in a scarce class",
        "best without",
        "best with",
        "models compared",
        "lift",
        "p",
        "verdict",
        "refused",
        "more real rows",
    ]
    return table(headings, lines)


def every_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """One line a case and model."""
    lines = [
        [
            f"{NAMES[data_of(row['data'])]}, {rows_of(row['data'])}",
            f"`{row['kind']}`",
            str(row["seeds"]),
            row["with"],
            lift(row),
            f"{row['refused']} of {row['seeds']}" + (f": {', '.join(row['refused_by'])}" if row["refused_by"] else ""),
        ]
        for row in sorted(rows, key=lambda row: (*place(row["data"]), row["kind"]))
    ]
    return table(["rows in a scarce class", "model", "seeds", "best with", "lift", "refused by gates"], lines)


def mean(row: Mapping[str, Any], arm: str) -> str:
    """The mean score of an arm on test rows, in points."""
    return f"{100 * row['arms'][arm]['test']['mean']:.1f}"


def on_validation(row: Mapping[str, Any], arm: str) -> float:
    """The mean score of an arm on validation rows, by which arms and models are chosen."""
    return float(row["arms"][arm]["validation"]["mean"])


def more_real(row: Mapping[str, Any]) -> str:
    """The mean score with more real rows, by the learner that is the best on validation rows; blank if unmeasured."""
    names = [name for name in row["arms"] if name.startswith("more real rows")]
    return mean(row, max(names, key=lambda name: on_validation(row, name))) if names else ""


def lift(row: Mapping[str, Any]) -> str:
    """The lift with its interval, in points."""
    found = row["lift"]
    said = f"{100 * found['mean']:+.1f}"
    return said if found["low"] is None else f"{said} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many cases each verdict has and how many are left after all were counted, and what to keep in mind."""
    counts = {word: sum(row["verdict"] == word for row in rows) for word in ("helps", "no clear difference", "harms")}
    verdicts = ", ".join(f"{count} {word}" for word, count in counts.items())
    pairs = zip(rows, adjusted(rows), strict=True)
    sure = [f"{titled(row['data'])} ({lift(row)})" for row, p in pairs if p <= 0.05]
    cases = f"{len(rows)} case{'s' * (len(rows) != 1)}"
    said = [f"Of {cases}: {verdicts}. With p adjusted to 0.05 at most: {'; '.join(sure) or 'none'}."]
    refused = [
        f"{titled(row['data'])}, with {row['refused']} of {row['seeds']} seeds"
        for row in rows
        if row["verdict"] == "helps" and row["refused"]
    ]
    if refused:
        said.append(f"Gates refused rows that help: {'; '.join(refused)}.")
    alone = sum(row["compared"] == 1 for row in rows)
    if alone:
        said.append(f"In {alone} of {cases} one model alone had seeds enough to be compared.")
    return "\n".join(said) + "\n"


def stopped(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The runs that ended early, under a heading; nothing where there are none.

    Those of a data set and a model that ended for the same reason are one entry.
    """
    groups: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: (*place(row["data"]), row["kind"])):
        for cell in row["stopped"]:
            group = (data_of(row["data"]), row["kind"], OWN.sub("", cell["why"]))
            groups.setdefault(group, []).append((row["data"], cell))
    lines = [f"- {NAMES[name]}, `{kind}`, {ended(runs)}\n" for (name, kind, _), runs in groups.items()]
    return [STOPPED, "".join(lines)] if lines else []


def ended(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """``2 rows (seeds 0, 1), 5 rows (seed 0): why``, of runs that ended for one reason: what the first of them said."""
    seeds: dict[int, list[int]] = {}
    for case, cell in runs:
        seeds.setdefault(rows_of(case), []).append(cell["seed"])
    which = [f"{count} rows (seed{'s' * (len(own) > 1)} {', '.join(map(str, own))})" for count, own in seeds.items()]
    return f"{', '.join(which)}: {runs[0][1]['why']}"


def measured_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many seeds of each model and case are measured, a line a model and a column a data set."""
    seeds = {(row["data"], row["kind"]): row["seeds"] for row in rows}
    lines = []
    for kind in sorted({kind for kinds in KINDS.values() for kind in kinds}):
        done = [
            " ".join(str(seeds.get((f"{name}, {scarce} rows", kind), 0)) for scarce in SCARCE[name])
            if kind in KINDS[source.form]
            else ""
            for name, source in SOURCES.items()
        ]
        lines.append([f"`{kind}`", *done])
    headings = [f"{NAMES[name]}: {', '.join(map(str, SCARCE[name]))}" for name in SOURCES]
    return table(["model", *headings], lines)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The lifts of the best models with their intervals, a panel for each data set."""
    from matplotlib.figure import Figure

    names = [name for name in SOURCES if any(data_of(row["data"]) == name for row in rows)]
    figure = Figure(figsize=(2.1 * len(names), 3))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for name, panel in zip(names, panels[0], strict=True):
        own = [row for row in rows if data_of(row["data"]) == name]
        for x, row in enumerate(own):
            low, high = (100 * row["lift"][end] for end in ("low", "high"))
            colour = {"helps": "tab:green", "harms": "tab:red"}.get(row["verdict"], "tab:gray")
            panel.plot([x, x], [low, high], color=colour, linewidth=2)
            panel.plot(x, 100 * row["lift"]["mean"], "o", color=colour)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set_xticks(range(len(own)), [str(rows_of(row["data"])) for row in own])
        panel.set_xlim(-0.6, len(own) - 0.4)
        panel.set_title(NAMES[name], fontsize=10)
        panel.set_xlabel("rows in a scarce class", fontsize=8)
    panels[0][0].set_ylabel("lift in points")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is up to date")
    args = parser.parse_args()
    kept = RESULTS / "worth.json"
    measured = json.loads(kept.read_text())["rows"] if kept.exists() else []
    written = page(measured)
    if args.check:
        same = PAGE.exists() and PAGE.read_text() == written
        print("up to date" if same else f"{PAGE} is out of date; run python benchmarks/worth_page.py", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(written)
    best = chosen(row for row in measured if "absent" not in row)
    if best:
        draw(best, PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
