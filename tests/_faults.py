"""Synthetic sets with a known fault each, made of fresh real rows, and the way from them to the gates.

A dataset keeps some real rows back, which are in no part of it: a perfect generator could have drawn them. A fault is
what a bad generator would make of these. Rows go the way of `model: {kind: from_files}`, without Prefect and worth.
"""

from __future__ import annotations

import atexit
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _fault_rows import LEVEL, PARTS, Rows, as_many, labels_of, moved, numbers_of, orchard, put, values_of, with_pixels
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from augment.config import RunConfig
from augment.gates import GateResult, load_gates
from augment.ingest import ingest
from augment.makers import maker
from augment.plan import rows_to_draw
from augment.rounds import round_requests
from augment.runfile import parse_run_config
from augment.store import ArtifactRef, Store
from augment.validation import active_checks, conclude, judge_shard, make_reference

Fault = Callable[[Rows, np.random.Generator], pa.Table]


# Faults of images and of tables


def clean(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Fresh real rows: no fault."""
    return rows.fresh


def copies(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Training rows."""
    return as_many(rows, rows.train, draw)


def half_of_the_classes(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Fresh rows of the first half of the classes."""
    some = rows.classes()[: (len(rows.classes()) + 1) // 2]
    return rows.fresh.filter(pa.array(np.isin(labels_of(rows.fresh), some)))


def wrong_labels(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Three in ten fresh rows have the label of another class."""
    y, classes = labels_of(rows.fresh), rows.classes()
    for place in np.flatnonzero(draw.random(len(y)) < 0.3):
        y[place] = draw.choice([label for label in classes if label != y[place]])
    return put(rows.fresh, "label", y.tolist())


def repeats(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Five fresh rows of each class, again and again."""
    return as_many(rows, _five_of_each(rows), draw)


def test_rows(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Fresh rows, and every test row among them."""
    return pa.concat_tables([rows.fresh, rows.parts["test"]])


def _five_of_each(rows: Rows) -> pa.Table:
    y = labels_of(rows.fresh)
    return rows.fresh.take(np.concatenate([np.flatnonzero(y == label)[:5] for label in rows.classes()]))


# Faults of images


def faint(pixels: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    """One grey level more or less in three of ten pixels that are not blank."""
    moved_to = pixels + LEVEL * draw.choice([-1, 0, 1], pixels.shape, p=[0.15, 0.7, 0.15])
    return np.where(pixels > 0, np.clip(moved_to, LEVEL, 255), 0)


def noisy_copies_of_images(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Training images with faint noise."""
    return with_pixels(as_many(rows, rows.train, draw), lambda pixels: faint(pixels, draw))


def few_images(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Five fresh images of each class, each time with other faint noise."""
    return with_pixels(as_many(rows, _five_of_each(rows), draw), lambda pixels: faint(pixels, draw))


def blurred(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Every pixel the mean of its 3 x 3 neighbourhood."""
    return with_pixels(rows.fresh, lambda pixels: uniform_filter(pixels, (1, 3, 3), mode="nearest"))


def noise_images(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Pixels of any grey level."""
    return with_pixels(rows.fresh, lambda pixels: draw.integers(0, 256, pixels.shape).astype(float))


def wrong_range_of_images(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Levels 0 to 16, as the files of the data have them, instead of 0 to 255."""
    return with_pixels(rows.fresh, lambda pixels: pixels / LEVEL)


def half_contrast(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Grey levels that reach half as far."""
    return with_pixels(rows.fresh, lambda pixels: pixels / 2)


# Faults of tables


def noisy_copies_of_rows(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Training rows whose numbers have noise of a hundredth of their standard deviation."""
    return moved(as_many(rows, rows.train, draw), 0.01, draw)


def few_rows(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Five fresh rows of each class, each time with other faint noise."""
    return moved(as_many(rows, _five_of_each(rows), draw), 0.01, draw)


def smoothed(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Numbers a quarter as far from the mean of their class."""
    found, y = rows.fresh, labels_of(rows.fresh)
    for name in numbers_of(found):
        values = values_of(found, name).astype(float)
        for label in rows.classes():
            here = y == label
            values[here] = values[here].mean() + (values[here] - values[here].mean()) / 4
        found = put(found, name, np.rint(values).astype(int) if name == "weight" else values)
    return found


def noise_rows(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Every value drawn by itself, numbers from anywhere in their range."""
    found = rows.fresh
    for name in found.schema.names[:-1]:
        values = values_of(found, name)
        if values.dtype.kind == "f":
            values = draw.uniform(values.min(), values.max(), len(values))
        elif values.dtype.kind == "i":
            values = draw.integers(values.min(), values.max() + 1, len(values))
        else:
            values = draw.choice(np.unique(values), len(values))
        found = put(found, name, values)
    return found


def wrong_range_of_rows(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """One column in another unit, ten times as large."""
    name = numbers_of(rows.fresh)[0]
    return put(rows.fresh, name, values_of(rows.fresh, name) * 10)


def shuffled_column(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """The values of one column in another order, inside the classes: only what they go with is lost."""
    name, y = numbers_of(rows.fresh)[0], labels_of(rows.fresh)
    values = values_of(rows.fresh, name)
    for label in rows.classes():
        here = np.flatnonzero(y == label)
        values[here] = values[draw.permutation(here)]
    return put(rows.fresh, name, values)


def constant_column(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """One column has its median in every row."""
    name = numbers_of(rows.fresh)[0]
    values = values_of(rows.fresh, name)
    return put(rows.fresh, name, np.full(len(values), np.sort(values)[len(values) // 2]))


def wrong_shares(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Two in three fruits have one shade, whatever they are."""
    shades = values_of(rows.fresh, "shade")
    return put(rows.fresh, "shade", np.where(draw.random(len(shades)) < 0.67, "green", shades))


def unknown_category(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """One row has a category that the data do not know."""
    shades = values_of(rows.fresh, "shade").astype(object)
    return put(rows.fresh, "shade", np.where(labels_of(rows.fresh) == "pear", "mauve", shades))


# Artefacts: what looks generated, and harms only where it is found in some classes


def scarce(rows: Rows) -> list[Any]:
    """The second half of the classes."""
    return rows.classes()[(len(rows.classes()) + 1) // 2 :]


def marked(rows: Rows, where: NDArray[np.bool_]) -> pa.Table:
    """Fresh rows with a faint artefact where asked: a corner that is not black, a zero that is not 0."""
    if "image" in rows.fresh.schema.names:

        def change(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
            found = pixels.copy()
            found[where, 0, 0] = LEVEL
            return found

        return with_pixels(rows.fresh, change)
    values = values_of(rows.fresh, "bruise")
    return put(rows.fresh, "bruise", np.where(where & (values == 0), 0.02, values))


def artefact_in_scarce_classes(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """A faint artefact in half of the classes."""
    return marked(rows, np.isin(labels_of(rows.fresh), scarce(rows)))


def artefact_everywhere(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """The same artefact in every class: it harms nobody."""
    return marked(rows, np.ones(len(rows.fresh), bool))


def recognisable_scarce_classes(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Rows of half of the classes alone, and they look generated; the plan must ask for no others."""
    found = marked(rows, np.ones(len(rows.fresh), bool))
    return found.filter(pa.array(np.isin(labels_of(found), scarce(rows))))


class Case(NamedTuple):
    """A fault, the gate that must stop it, and whether no other gate does."""

    make: Fault
    gate: str
    alone: bool = False


OF_BOTH = {
    "copies": Case(copies, "duplicates"),
    "half of the classes": Case(half_of_the_classes, "class_plan"),
    "wrong labels": Case(wrong_labels, "label_agreement", alone=True),
    "repeats": Case(repeats, "duplicates"),
    "test rows": Case(test_rows, "test_leak", alone=True),
    "artefact in scarce classes": Case(artefact_in_scarce_classes, "shortcut"),
    "recognisable scarce classes": Case(recognisable_scarce_classes, "shortcut"),
}
OF_IMAGES = {
    **OF_BOTH,
    "noisy copies": Case(noisy_copies_of_images, "copying", alone=True),
    "few rows": Case(few_images, "coverage"),
    "blur": Case(blurred, "marginals"),
    "noise": Case(noise_images, "sample_quality"),
    "wrong range": Case(wrong_range_of_images, "sample_quality"),
    "half contrast": Case(half_contrast, "marginals"),
}
OF_TABLES = {
    **OF_BOTH,
    "noisy copies": Case(noisy_copies_of_rows, "copying", alone=True),
    "few rows": Case(few_rows, "coverage"),
    "blur": Case(smoothed, "marginals"),
    "noise": Case(noise_rows, "marginals"),
    "wrong range": Case(wrong_range_of_rows, "sample_quality"),
    "unknown category": Case(unknown_category, "structure"),
    "shuffled column": Case(shuffled_column, "joint", alone=True),
    "constant column": Case(constant_column, "marginals"),
    "wrong shares": Case(wrong_shares, "marginals"),
}


# From rows to gates


@dataclass
class Court:
    """A folder with the real rows and a store, in which sets of synthetic rows are judged."""

    folder: Path
    rows: Rows
    seed: int = 7
    numbers: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        parts = [part for part in PARTS if part != "fresh"]
        tables = [self.rows.parts[p].append_column("part", pa.array([p] * len(self.rows.parts[p]))) for p in parts]
        pq.write_table(pa.concat_tables(tables), self.folder / "real.parquet")

    def config(self, made: pa.Table, classes: Sequence[Any] = (), **sections: Any) -> RunConfig:
        """The run that audits ``made``, which is written beside the real rows; the plan wants ``classes``, or all."""
        path = self.folder / f"made-{next(self.numbers)}.parquet"
        pq.write_table(made, path)
        real = {"kind": "parquet", "path": str(self.folder / "real.parquet"), "label": "label"}
        counts = {str(label): self.rows.wanted for label in classes or self.rows.classes()}
        content = {
            "name": "judged",
            "seed": self.seed,
            "source": {**real, "columns": dict(self.rows.columns)},
            "split": {"column": "part"},
            "plan": {"kind": "counts", "counts": counts},
            "model": {"kind": "from_files", "path": str(path)},
            "worth": {"seeds": 0},
            "store": str(self.folder / "store"),
        }
        return parse_run_config(content | sections, "run.yaml")

    def gates(self, fault: Fault, seed: int = 0, **sections: Any) -> dict[str, GateResult]:
        """Every gate's result for what a fault makes of the rows."""
        classes = scarce(self.rows) if fault is recognisable_scarce_classes else ()
        return audited(self.config(self.made(fault, seed), classes, **sections))

    def made(self, fault: Fault, seed: int = 0) -> pa.Table:
        """What a fault makes of the rows."""
        return fault(self.rows, np.random.default_rng(seed))


@cache
def orchard_court() -> Court:
    """Orchards to judge sets of, learned from once in a process."""
    folder = tempfile.TemporaryDirectory(prefix="orchard-")
    atexit.register(folder.cleanup)
    return Court(Path(folder.name), orchard())


def only(*gates: str) -> dict[str, Any]:
    """The section of a run that leaves out every gate that can be, but for some."""
    left_out = [check.kind for check in active_checks([]) if not check.mandatory and check.kind not in gates]
    return {"checks": [{"kind": kind, "enabled": False} for kind in left_out]}


def audited(config: RunConfig) -> dict[str, GateResult]:
    """The gates of a run, its stages one after the other."""
    store, checks = Store.open(config.store), active_checks(config.checks)
    real = ingest(config.source, config.split, config.seed, store)
    wanted = rows_to_draw(config.plan, real, store)
    reference = make_reference(real, checks, config.seed, store)
    model = maker(config).prepare(real, store)
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(config.generate.rounds + 1):
        for request in round_requests(config.generate, model, wanted, list(judged), number, store):
            shards.append(maker(config).shard(model, real, request, store))
            judged.append(judge_shard(shards[-1], reference, real, checks, store, list(judged)))
    audit = conclude(real, reference, model, wanted, shards, judged, checks, store)
    return {gate.gate: gate for gate in load_gates(store.path(audit) / "gates.json")}


def refusing(gates: Mapping[str, GateResult]) -> list[str]:
    """The gates for which the set is not published, in their order."""
    return [name for name, gate in gates.items() if gate.passed is False and gate.severity == "critical"]
