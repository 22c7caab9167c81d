"""The sections of docs/models.md that have a benchmark of their own, beside the comparison of all models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from _markdown import decimals, plural, rounded, table

SCARCE = """\
## Where a class has five rows

Five classes have five training rows each, the other five 300. A small convolutional net learns from them, in the same
number of steps and from the same first weights, with classical changes of the images drawn anew for every batch: alone,
or with {synthetic} rows of every class, for each seed drawn by a model of its own. Balanced accuracy on {test:,} real
test rows, mean over the seeds; the difference with its 95 % interval over them, in percentage points. The last row
compares the two that are the best on validation rows. `benchmarks/scarce_images.py` measures.
"""
BOUNDS = """\
## Likelihood

What `benchmarks/likelihood.py` reached in the minutes given, without labels: of test rows -ln p(x) where a model knows
it, else the bound on it with {samples} importance samples, with its standard error (less is better), beside a published
figure to compare. A short training is no claim, and no reproduction of them.
"""
PHOTO_FIGURES = {
    "coverage": "coverage",
    "frechet": "Fréchet",
    "label_agreement": "label agreement",
    "classifier_score": "classifier score",
    "accuracy": "accuracy",
}
EXACT = """\
## Exact likelihood

Bits per dimension of {test} held-out digits (8x8, 17 levels) after training on {train} others, and the share of them
whose own class makes them likeliest; mean over the seeds with its standard error. A model of each pixel by itself,
given the class, has 2.22. The defaults were chosen on the split of seed 0. `benchmarks/digits_likelihood.py` measures.
"""
KNOWN = """
What ln p(x|y) of a `{scorer}` says of {draws} sets of each fault of digits, and of rows that other models drew, beside
the gates that are on by default; `benchmarks/likelihood_gate.py` measures. Odd rows are less or more likely than is
usual, recognised ones are likeliest as what they are labelled. Refused by the check `likelihood` alone: {alone}.
"""
BESIDE = """
Bits per dimension of {judged} held-out images of MNIST (28x28, 256 levels) after as many steps as fit into the CPU
minutes of one thread, the net of a `pixelcnn` in our trainer, which also clips gradients and averages the weights, and
in pythae's, in 32 bits; `benchmarks/likelihood_beside_pythae.py` measures (1 seed). In brackets the steps and the
minutes that they took.
"""
DRAWING = """
Drawing value by value by caches of what the layers have heard, beside a pass over the whole image for every value with
the same weights, which was timed at a few values and multiplied; `benchmarks/sampling.py` measures, on a CPU with one
thread. On a GPU a few images take about as long as thousands. Fast PixelCNN++ (PrajitR/fast-pixel-cnn) reports up to
183 times for its own net in large batches on a K40; nets and devices differ, so the figures cannot be compared.
Memory is the most that was taken: on a GPU by tensors, on a CPU by the process beside what it had before the net.
"""
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
`benchmarks/adversarial_variants.py` measures. The best comes first, defaults are bold, and all figures are those of the
table above. What a default already has (R1, R2 and changes of what the critic sees, for a `gan`) stays where the
settings do not say otherwise. {note}
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
What each switch changes, of two variants that differ in nothing else, the most helpful first. The steps that fit into
the minutes follow from a short timing, which varies by a tenth or two: for that too, and
with {seeds}, a small difference is no evidence.

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


def bounds(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of the bounds that were reached; nothing where nothing was measured."""
    there = [row for row in rows if "absent" not in row]
    if not there:
        return ""
    lines = [
        [
            f"`{row['case'].partition(' ')[0]}`",
            row["data"],
            *_nats(row),
            row["unit"],
            f"{row['minutes']:.0f} min, {row['epochs']:.1f} epochs, {row['device']}",
            f"{row['target']:g} ({row['target_source']})",
        ]
        for row in there
    ]
    samples = " or ".join(sorted({str(row["importance_samples"]) for row in there if "iwae" in row})) or "so many"
    headings = ["kind", "data", "-ln p(x)", "ELBO", "unit", "trained for", "published"]
    return BOUNDS.format(samples=samples) + "\n" + table(headings, lines)


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
    return (
        EXACT.format(**there[0]["rows"])
        + "\n"
        + table(["kind", "bits per dimension", "recognised", "parameters", "trained for"], lines)
        + DRAWING
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
        note=f"Not measured: {'; '.join(lacking)}." if lacking else "",
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
