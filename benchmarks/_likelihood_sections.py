"""The sections of docs/models.md on likelihoods: bounds, exact ones, what they find, and what drawing by them costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from _markdown import decimals, plural, rounded, table
from pydantic import BaseModel

from augment.config import MODELS

BOUNDS = """\
## Likelihood

What `benchmarks/likelihood.py` reached in the minutes given, without labels: of test rows -ln p(x) where a model knows
it, else the bound on it with {samples} importance samples, with its standard error (less is better), beside a published
figure to compare. A short training is no claim, and no reproduction of them. *Settings* are those that differ from the
model's defaults; a `gated_pixelcnn` with `head: logistics` and `scales: 3` has what PixelCNN++ adds.
"""
EXACT = """\
## Exact likelihood

Bits per dimension of {test} held-out digits (8x8, 17 levels) after training on {train} others, and the share of them
whose own class makes them likeliest; mean over the seeds with its standard error. A model of each pixel by itself,
given the class, has 2.22. The defaults were chosen on the split of seed 0, but for `width` and `dropout` of
`diagonal_bilstm`: with these the packaged example is blessed, which was tried with seed 7.
`benchmarks/digits_likelihood.py` measures.
"""
KNOWN = """\
### What a likelihood finds beside the gates

What ln p(x|y) of a `{scorer}` says of {draws} sets of each fault of digits, and of rows that other models drew, beside
the gates that are on by default; `benchmarks/likelihood_gate.py` measures. Odd rows are less or more likely than is
usual, recognised ones are likeliest as what they are labelled. Refused by the check `likelihood` alone: {alone}.

The rows come from files. A model's are as many of each class as the plan wants and none to spare, so `class_plan`
refuses a set in which a class loses two to the checks of single rows; a run draws such rows again.
"""
BESIDE = """\
### At equal minutes beside pythae

Bits per dimension of {judged} held-out images of MNIST (28x28, 256 levels) after as many steps as fit into the CPU
minutes of one thread, the net of a `pixelcnn` in our trainer, which also clips gradients and averages the weights, and
in pythae's, in 32 bits; `benchmarks/likelihood_beside_pythae.py` measures (1 seed). In brackets the steps and the
minutes that they took.
"""
DRAWING = """
### Drawing value by value

Drawing value by value by caches of what the layers have heard, beside a pass over the whole image for every value with
the same weights, which was timed at a few values and multiplied; `benchmarks/sampling.py` measures, on a CPU with one
thread. Nets are as wide as by default, but `diagonal_bilstm` as a `row_lstm`: `width: 24`. On a GPU a few images take
about as long as thousands. Fast PixelCNN++ (PrajitR/fast-pixel-cnn) reports up to 183 times for its own net in large
batches on a K40; nets and devices differ, so the figures cannot be compared.
Memory is the most that was taken: on a GPU by tensors, on a CPU by the process beside what it had before the net.
"""
COLD = """
The first whole pass on {devices}, which also gets the device ready, was counted: that favours the caches.
"""


def bounds(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of the bounds that were reached; nothing where nothing was measured."""
    there = [row for row in rows if "absent" not in row]
    if not there:
        return ""
    lines = [
        [
            f"`{row['model']}`",
            _settings(row),
            row["data"],
            *_nats(row),
            row["unit"],
            f"{row['rows']['test']:,}",
            f"{row['minutes']:.0f} min, {row['epochs']:.1f} epochs, {row['device']}",
            f"{row['target']:g} ({row['target_source']})",
        ]
        for row in there
    ]
    samples = " or ".join(sorted({str(row["importance_samples"]) for row in there if "iwae" in row})) or "so many"
    headings = ["kind", "settings", "data", "-ln p(x)", "ELBO", "unit", "test rows", "trained for", "published"]
    return BOUNDS.format(samples=samples) + "\n" + table(headings, lines)


def _settings(row: Mapping[str, Any]) -> str:
    """What a model was set to beside its defaults, by the names that a run file has for it."""
    default = MODELS[row["model"]]()
    differing = {}
    for name, value in row["settings"].items():
        told = "head_width" if name == "head" and isinstance(value, int) else name  # as some cells call it
        differing[told] = _beside(getattr(default, name, None), value)
    return f"`{json.dumps(differing)[1:-1]}`".replace('"', "") if differing else ""


def _beside(usual: Any, value: Any) -> Any:
    """Of a group, what is not as the model has it; a cell leaves out what is usual to groups of all models."""
    if not isinstance(usual, BaseModel):
        return value
    whole, own = type(usual)(**value).model_dump(mode="json"), usual.model_dump(mode="json")
    return {name: found for name, found in whole.items() if found != own[name]}


def _nats(row: Mapping[str, Any]) -> list[str]:
    """What the test rows have, exactly or at most, and the ELBO of a model that only bounds it."""
    if "exact" in row:
        return [f"{row['exact']:.2f} ± {row['exact_standard_error']:.2f}", "exact"]
    return [f"{row['iwae']:.2f} ± {row['iwae_standard_error']:.2f}, at most", f"{row['elbo']:.2f}"]


def exact(digits: Iterable[Mapping[str, Any]], drawing: Iterable[Mapping[str, Any]]) -> str:
    """Tables of exact likelihoods and of what drawing by them costs; nothing where nothing was measured."""
    there, drawn = ([row for row in rows if "absent" not in row] for rows in (digits, drawing))
    if not there or not drawn:
        return ""
    lines = [
        [
            f"`{row['kind']}`",
            decimals(row["bits_per_dimension"]["mean"], row["bits_per_dimension"]["se"], 3),
            decimals(row["accuracy"]["mean"], row["accuracy"]["se"], 3),
            f"{row['parameters']:,}",
            f"{row['steps']:,} steps, {row['train_cpu_seconds']['mean']:.0f} CPU s ({plural(row['seeds'])})",
        ]
        for row in there
    ]
    costs = [
        [
            f"{row['case']}, {row['blocks']} blocks",
            row["device"],
            rounded(row["images_per_second"]),
            f"{row['ratio']:.0f}x",
            f"{row['memory_gib']:g} GiB" if "memory_gib" in row else "",
        ]
        for row in drawn
    ]
    cold = sorted({row["device"] for row in drawn if not row["warmed_up"]})
    return (
        EXACT.format(**there[0]["rows"])
        + "\n"
        + table(["kind", "bits per dimension", "recognised", "parameters", "trained for"], lines)
        + DRAWING
        + (COLD.format(devices=" and ".join(cold)) if cold else "")
        + "\n"
        + table(["images", "device", "drawn / s", "faster than whole passes", "memory"], costs)
    )


def known(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of what an exact likelihood finds beside the gates; nothing where nothing was measured."""
    there = [row for row in rows if "absent" not in row]
    if not there:
        return ""
    lines = [
        [
            row["case"],
            f"{row['refused_by_gates']} of {row['draws']}" + (f": {', '.join(row['gates'])}" if row["gates"] else ""),
            f"{row['refused_by_likelihood']} of {row['draws']}",
            *(" ".join(f"{share:.2f}" for share in row[name]) for name in ("odd", "recognised")),
        ]
        for row in there
    ]
    alone = ", ".join(row["case"] for row in there if row["likelihood_alone"]) or "none"
    said = KNOWN.format(scorer=there[0]["scorer"], draws=max(row["draws"] for row in there), alone=alone)
    return said + "\n" + table(["rows", "refused by gates", "by likelihood", "odd", "recognised"], lines)


def beside_pythae(document: Mapping[str, Any]) -> str:
    """A table of likelihoods at equal minutes beside another trainer; nothing where nothing was measured."""
    there = [row for row in document["rows"] if "absent" not in row]
    if not there:
        return ""
    sides = {"ours": "ours", "ours, bf16": "ours, `precision: bf16-mixed`", "theirs": "pythae"}
    lines = [
        [
            f"{row['minutes']:g}",
            *(
                f"{row['bits_per_dim'][side]:.3f} ({row['steps'][side]:,}, {row['cpu_minutes'][side]:.2f})"
                for side in sides
            ),
        ]
        for row in there
    ]
    return BESIDE.format(judged=there[0]["judged"]) + "\n" + table(["CPU minutes", *sides.values()], lines)
