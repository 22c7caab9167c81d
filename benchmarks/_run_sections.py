"""The sections of docs/models.md on whole runs of the example, and on how a training step is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from _markdown import decimals, table

WHOLE = """\
## The packaged example, worth included

`augment run --set model.kind=KIND` from the command to its end, on two cores: Prefect, all gates, and the worth that
the example asks for. *Refused by* names every gate that refused one of the seeds; worth is not measured of rows that
another gate refuses. `benchmarks/whole_runs.py` measures.

"""
CHOICES = """\
## Compiling, and a second thread

Training images a second beside those of the step as it is by default, eager and on one thread, each model with its
defaults on images of 256 grey levels (17 where the side is 8) on a CPU; what compiling takes before the first step is
not counted. A second thread pays where nothing else runs. Where others keep the cores busy, as a worker's other runs
do, threads wait for each other and a step takes longer than on one. By these figures `train.compile` is off and
`train.threads` 1 unless a run file says otherwise. `benchmarks/step_choices.py` measures.

"""


def whole_runs(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of runs of the example with each model; nothing where nothing was measured."""
    lines = [
        [
            f"`{row['kind']}`",
            f"{row['published']} of {row['seeds']}",
            ", ".join(row["refused_by"]),
            ", ".join(f"{verdict} ({count})" for verdict, count in row["worth"].items()),
            f"{row['longest_minutes']:.1f}",
            decimals(row["cpu_minutes"]["mean"], row["cpu_minutes"]["se"], 1),
        ]
        for row in rows
        if "absent" not in row
    ]
    headings = ["kind", "published", "refused by", "worth", "minutes at most", "CPU minutes"]
    return WHOLE + table(headings, lines) if lines else ""


def step_choices(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of what compiling and a second thread change; nothing where nothing was measured."""

    def said(row: Mapping[str, Any], name: str) -> str:
        if name not in row:
            return ""
        return row["ended"] if row[name] is None else f"{row[name]:.2f}x"

    lines = [
        [
            row["case"],
            f"{row['usual_images_per_second']:,.0f}",
            *(said(row, name) for name in ("compiled", "two_threads", "two_threads_busy")),
        ]
        for row in sorted(rows, key=lambda row: (row["side"], row["kind"]))
        if "usual_images_per_second" in row
    ]
    headings = ["step", "images a second", "compiled", "two threads", "two threads, cores busy"]
    return CHOICES + table(headings, lines) if lines else ""
