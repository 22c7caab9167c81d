"""The sections of docs/models.md that have a benchmark of their own, beside the comparison of all models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from _markdown import decimals, plural, table

SCARCE = """\
## Where a class has five rows

Five classes have five training rows each, the other five 300. A small convolutional net learns from them, in the same
number of steps and from the same first weights, with classical changes of the images drawn anew for every batch: alone,
or with {synthetic} rows of every class, for each seed drawn by a model of its own. Balanced accuracy on {test:,} real
test rows, mean over the seeds; the difference with its 95 % interval over them, in percentage points. The last row
compares the two that are the best on validation rows. `benchmarks/scarce_images.py` measures.

These are five fixed changes. Beside a policy that was searched for, as worth does it, no clear difference is left at
five rows of these data, and gates refused the rows of most seeds there: [what synthetic rows were worth](worth.md).
"""
PHOTO_FIGURES = {
    "coverage": "coverage",
    "frechet": "Fréchet",
    "label_agreement": "label agreement",
    "classifier_score": "classifier score",
    "accuracy": "accuracy",
}
PHOTOS = """\
## Colour photos on a GPU

CIFAR-10 (stored as JPEG once, so no figure can be held against a published one), {train:,} training photos, {device};
`benchmarks/colour_photos.py` measures by nets of its own that are larger than those of the gates. In brackets what
training photos score in the place of the drawn rows. {note}
"""
CURVES = """
What was set beside the defaults, and the Fréchet distance of fewer drawn rows along the way, which is larger the fewer
there are. Models without a row were not measured on these photos.

"""

VARIANTS = """\
## What holds an adversarial training

Every loss, hold and technique of the adversarial models on {rows:,} images of Fashion-MNIST, halved to 14x14, each
trained for {minutes:g} CPU minutes of one thread ({seeds}) on {cpu} with torch {torch};
`benchmarks/adversarial_variants.py` measures. The most accurate comes first, defaults are bold, and the figures mean
what they do in [quality and cost](#quality-and-cost-at-equal-cpu-minutes). What a default already has (R1, R2 and
changes of what the critic sees, for a `gan`) stays where the settings do not say otherwise.{note}

A variant above its default was more accurate with as many rows as these, in as little time, and no gate judged it. The
defaults are for scarce classes, whose few rows a critic soon knows by heart, and for rows that the gates accept.
"""

# What is switched on, by a variant that lacks it and one that has it.
SWITCHES = {
    "R1": ("no R1, no R2", "no R2"),
    "R2 besides R1": ("no R2", "gan"),
    "penalties at every 8th step": ("gan", "penalties every 8"),
    "spectral normalisation alone": ("no R1, no R2", "spectral norm alone"),
    "spectral normalisation besides R1 and R2": ("gan", "spectral norm besides"),
    "pairs of rows compared (relativistic)": ("non-saturating", "gan"),
    "what the critic sees is changed": ("no augmentation", "gan"),
    "batch normalisation by class instead of each row's": ("gan", "batch norm"),
    "virtual batch normalisation instead of each row's": ("gan", "virtual batch norm"),
    "feature matching": ("gan", "feature matching"),
    "minibatch discrimination": ("gan", "minibatch discrimination"),
    "historical averaging": ("gan", "historical averaging"),
    "one-sided label smoothing": ("non-saturating", "non-saturating, smoothed"),
    "K+1 classes": ("non-saturating", "non-saturating, K+1 classes"),
    "a multilayer perceptron, of its usual width, instead of a ResNet": ("gan", "mlp"),
}
EARNED = """
What each switch changes, of two variants that differ in nothing else, the most helpful first. *Ratio* is the Fréchet
distance with the switch over that without: below 1 the switch helps. The steps that fit into the minutes follow from a
short timing, which varies by a tenth or two: for that too, and with {seeds}, a small difference is no evidence.

"""


def scarce_classes(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of every classical change, alone and beside synthetic rows; nothing where nothing was measured."""
    there = [row for row in rows if "absent" not in row]
    if not there:
        return ""
    lines = []
    for row in there:
        accuracy = {arm: found["balanced_accuracy"]["mean"] for arm, found in row["test"].items()}
        lines.append([f"**{row['data']}, {plural(row['seeds'])}**", "", f"with `{row['kind']}`", ""])
        for arm, found in row["differences"].items():
            classical = arm.removesuffix(" + synthetic")
            lines.append(_compared(classical, accuracy[classical], accuracy[arm], found["balanced_accuracy"]))
        best = row["best"]
        title = f"*best: {best['without']}; {best['with']}*"
        lines.append(_compared(title, accuracy[best["without"]], accuracy[best["with"]], best["balanced_accuracy"]))
    settings = there[0]["settings"]
    headings = ["classical changes", "alone", "with synthetic rows", "difference"]
    return SCARCE.format(synthetic=settings["synthetic"], test=settings["test"]) + "\n" + table(headings, lines)


def _compared(title: str, alone: float, together: float, difference: Mapping[str, float | None]) -> list[str]:
    points = f"{100 * (difference['mean'] or 0.0):+.1f}"
    if difference["low"] is not None and difference["high"] is not None:
        points += f" [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    return [title, f"{alone:.3f}", f"{together:.3f}", points]


def photos(document: Mapping[str, Any]) -> str:
    """A table of what models make of colour photos; nothing where nothing was measured."""
    rows = document["rows"]
    there = [row for row in rows if "absent" not in row]
    if not there:
        return ""
    titles = {name: title for name, title in PHOTO_FIGURES.items() if any(name in row for row in there)}
    lines = [
        [
            f"`{row['case']}`",
            f"{row['minutes']:.1f} min, {row['steps']:,} steps",
            *(f"{row[name]['value']:.2f} [{row[name]['floor']:.2f}]" if name in row else "" for name in titles),
            f"{row['drawn_rows_per_second']:,.0f}",
        ]
        for row in there
    ]
    lines += [
        [f"`{row['case']}`", _ended(row), *[""] * (len(titles) + 1)]
        for row in rows
        if "curve" in row and row not in there
    ]
    headings = ["kind", "trained for", *titles.values(), "rows drawn a second"]
    said = PHOTOS.format(train=there[0]["train_rows"], device=there[0]["device"], note=document.get("note", ""))
    return said.rstrip() + "\n\n" + table(headings, lines) + CURVES + "".join(_curve(row) for row in there)


def _curve(row: Mapping[str, Any]) -> str:
    """What a training was set to beside the defaults, and its distance from real rows along the way, a line."""
    settings = json.dumps(row["model"]).replace('"', "")
    points = ", ".join(f"{point['minutes']:.1f} min {point['frechet']:.2f}" for point in row["curve"])
    return f"- `{row['case']}`, `{settings}`: {points}\n"


def _ended(row: Mapping[str, Any]) -> str:
    """What is known of a training that was ended before its rows were judged."""
    last = row["curve"][-1]
    return f"ended early: Fréchet {last['frechet']:.2f} after {last['minutes']:.1f} min, of fewer rows"


def variants(document: Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """A table of the variants of adversarial training, and why some stopped; nothing where nothing was measured.

    ``names`` are those of all variants, of which some may not have been measured.
    """
    there = [row for row in document["rows"] if "absent" not in row]
    if not there:
        return ""
    figures = {"frechet": 2, "coverage": 3, "density": 2, "label_agreement": 3, "accuracy": 3}
    floors = [decimals(there[0][name]["floor"], None, digits) for name, digits in figures.items()]
    lines = [["*real rows*", "", *floors, ""]]
    for row in sorted(there, key=lambda row: -(row["accuracy"]["mean"] or 0.0)):
        title = row["case"] if row["settings"] else f"**{row['case']}**"
        settings = json.dumps({"kind": row["kind"], **row["settings"]}).replace('"', "")[1:-1]
        values = [decimals(row[name]["mean"], row[name]["se"], digits) for name, digits in figures.items()]
        lines.append([title, f"`{settings}`", *values, _steps(row)])
    headings = ["variant", "settings", "Fréchet", "coverage", "density", "label agreement", "accuracy", "steps"]
    where = there[0].get("measured_on", document)
    lacking = [name for name in names if name not in {row["case"] for row in document["rows"]}]
    said = VARIANTS.format(
        rows=there[0]["training_rows"],
        minutes=there[0]["minutes"],
        seeds=plural(min(row["seeds"] for row in there)),
        cpu=where["machine"]["cpu"],
        torch=where["versions"]["torch"],
        note=f" Not measured: {'; '.join(lacking)}." if lacking else "",
    )
    stopped = [f"- {row['case']}: {why}\n" for row in there for why in row["stopped"]]
    stopped += [f"- {row['case']}: {row['absent']}\n" for row in document["rows"] if row not in there]
    ended = "\n† Stopped itself, and is judged as it stood:\n\n" + "".join(stopped) if stopped else ""
    return said.rstrip() + "\n\n" + table(headings, lines) + ended + _switches({row["case"]: row for row in there})


def _steps(row: Mapping[str, Any]) -> str:
    """How many steps a variant took, and whether it stopped itself."""
    return f"{row['steps']['mean']:,.0f}{' †' * bool(row['stopped'])}"


def _switches(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of what each switch changes, the most helpful first; nothing where no pair was measured."""
    there = {case: row for case, row in rows.items() if row["frechet"]["mean"]}
    pairs = {name: (there[a], there[b]) for name, (a, b) in SWITCHES.items() if a in there and b in there}
    if not pairs:
        return ""

    def change(name: str) -> float:
        without, own = (row["frechet"]["mean"] for row in pairs[name])
        return float(own / without)

    lines = []
    for name in sorted(pairs, key=change):
        figures = [decimals(row[figure]["mean"], None, 2) for figure in ("frechet", "accuracy") for row in pairs[name]]
        steps = map(_steps, pairs[name])
        lines.append([name, *(" → ".join(pair) for pair in (figures[:2], figures[2:], steps)), f"{change(name):.2f}x"])
    headings = ["switch", "Fréchet, without → with", "accuracy, without → with", "steps, without → with", "ratio"]
    seeds = min(row["seeds"] for pair in pairs.values() for row in pair)
    return EARNED.format(seeds=plural(seeds)) + table(headings, lines)
