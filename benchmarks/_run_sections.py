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

A training step of each model with its defaults, eager and on one thread, beside the same compiled and on two threads:
images of 256 grey levels (17 where the side is 8), 30 steps after 20 that are not counted, on {cpu} with {cores} cores.
*Images a CPU second* are of the step as it is by default, and *compiled* is beside those, without what compiling takes
before the first step. *Two threads* is by the clock beside one thread, with nothing else to do or while one endless
process a core runs. What is blank was not measured. `benchmarks/step_choices.py` measures.

Compiled, these steps are {compiled} times as fast on a CPU: `train.compile` is off by default. A second thread that has
a core to itself makes them {alone} times as fast, and one that has not, as on a worker with other runs, {busy} times:
`train.threads` is 1 by default.

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


def step_choices(document: Mapping[str, Any]) -> str:
    """A table of what compiling and a second thread change; nothing where nothing was measured."""

    def said(row: Mapping[str, Any] | None, name: str) -> str:
        if row is None:
            return ""
        return row["ended"] if row[name] is None else f"{row[name]:.2f}x"

    def between(some: Iterable[Mapping[str, Any]], name: str) -> str:
        found = sorted(row[name] for row in some if row[name] is not None)
        return f"{found[0]:.2f} to {found[-1]:.2f}" if found else "an unknown number of"

    measured = sorted(
        (row for row in document["rows"] if "absent" not in row), key=lambda row: (row["side"], row["kind"])
    )
    quiet = [row for row in measured if not row["busy"]]
    busy = {(row["kind"], row["side"]): row for row in measured if row["busy"]}
    if not quiet:
        return ""
    lines = [
        [
            row["case"],
            f"{row['usual_images_per_second']:,.0f}",
            said(row, "compiled"),
            said(row, "two_threads"),
            said(busy.get((row["kind"], row["side"])), "two_threads"),
        ]
        for row in quiet
    ]
    headings = ["step", "images a CPU second", "compiled", "two threads", "two threads, cores busy"]
    said_of_all = {
        "compiled": between(quiet, "compiled"),
        "alone": between(quiet, "two_threads"),
        "busy": between(busy.values(), "two_threads"),
    }
    return CHOICES.format(**document["machine"], **said_of_all) + table(headings, lines)
