"""Artefact shortcut: looking generated gives nothing away of a row's class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from augment._seeding import derive_seed, numpy_generator
from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, bounded
from augment.checks._encoded import DrawnRows, as_matrix, drawn_of, nets_of
from augment.checks._real import SEEN, Part, RealRows
from augment.schema import class_titles
from augment.worth._chosen_rows import ALL_ROWS
from augment.worth._detector import Floats, Seen, detect, side_weights
from augment.worth.fidelity import RealSide

GATE = "shortcut"
MOST = 500  # rows of a class on either side
HALVES = 2
DRAWS = 200


class Shortcut(Check):
    """Refuses a set in which a classifier could learn "looks generated, so it is of those classes".

    A detector learns to tell synthetic from real training rows of the same class, and says of rows that it has not
    seen whether they look generated. It sees numbers as they are, too: a value next to one that most real rows have is
    plain to a classifier, and equal to that one for a model. Classes are cut in two groups: those of which a larger
    share of the weighted training rows looks generated than of real rows, in which nothing is, and the others. The
    figure is the difference between the groups, of weighted training rows less that of real ones (held-out and
    training); groups are chosen on one half of the rows and measured on the other. With weights that give real and
    synthetic rows half of each class, a set whose artefacts are the same in every class has a figure of 0, however
    easily it is told from real rows; where recognisable synthetic rows are in one group only it is 1/2, and real rows
    of that group will be lost to the other. Two standard errors are granted beyond the margin, which is several itself.
    """

    kind: Literal["shortcut"] = "shortcut"
    summary: ClassVar[str] = "how generated a row looks tells nothing about its class that real rows do not tell"
    needs_encoders: ClassVar[bool] = True
    better: ClassVar[Literal["high", "low"] | None] = "low"

    margin: float = Field(
        0.15, gt=0, le=0.5, allow_inf_nan=False, description="Largest difference between groups of classes."
    )

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """Some training and validation rows of each class, as detectors see them."""
        for part in SEEN:
            found = _some_of_each_class(real, part)
            arrays = (found.x.numpy(), found.measures, found.y.numpy())
            for name, values in zip(Seen._fields, arrays, strict=True):
                np.save(folder / f"{part}-{name}.npy", values)
        return {}

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """How much more of some classes' rows looks generated than of the others', above what it does on real rows."""
        side, names = nets_of(evidence).real, class_titles(evidence.schema)
        synthetic = _some(drawn_of(evidence), side)
        real, held = (_learned(learned, part) for part in SEEN)
        if len(names) < 2 or not len(synthetic.y) or not len(held.y):
            return Finding(
                "There are no two classes with synthetic rows and held-out real rows to compare.", applies=False
            )
        scores = detect(side.spec, real, synthetic, held, derive_seed(side.seed, GATE))
        y = torch.cat([real.y, synthetic.y]).numpy()
        weight = side_weights(y, np.repeat([0, 1], [len(real.y), len(synthetic.y)]))
        ours = _Side(np.concatenate([scores.real > 0, scores.synthetic > 0]), y, weight)
        of_real = np.concatenate([held.y.numpy(), real.y.numpy()])
        theirs = _Side(np.concatenate([scores.unseen, scores.real > 0]), of_real, np.ones(len(of_real)))
        found = _apart(ours, theirs, side.seed)
        limit = self.margin + 2 * found.error
        group = [names[label] for label in found.group]
        said = f"Of {', '.join(group)}, beside the other classes, a share larger by {found.ours:.2f} of the weighted "
        said += (
            f"training rows looks generated, and by {found.real:.2f} of real rows: {found.excess:.2f} more (at most "
        )
        said += f"{limit:.2f} is allowed; a detector tells synthetic from real rows with a chance of {scores.auc:.0%})."
        return Finding(
            said,
            value=found.excess,
            floor=0.0,
            limit=limit,
            metrics={"excess": found.excess, "detected": scores.auc},
            set_expectations=bounded(f"{GATE}.excess", None, limit),
            details={"group": group, "of_training": found.ours, "of_real": found.real, "detected": scores.auc},
        )


class _Side:
    """How far rows look generated, from 0 to 1, their classes and their weights within the class, each ``(N,)``."""

    def __init__(self, generated: Floats | NDArray[np.bool_], y: NDArray[np.int64], weight: Floats) -> None:
        self.generated, self.y = generated, y
        self.weight = np.zeros(len(y))
        for label in np.unique(y):
            here = y == label
            self.weight[here] = weight[here] / weight[here].sum()

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> _Side:
        """Some of the rows."""
        return _Side(self.generated[rows], self.y[rows], self.weight[rows])

    def shares(self) -> dict[int, float]:
        """The share of each class that looks generated."""
        return {int(y): float(np.dot(self.generated, self.weight * (self.y == y))) for y in np.unique(self.y)}

    def difference(self, group: Sequence[int]) -> float:
        """How much larger the mean share is of ``group`` than of the other classes."""
        shares = self.shares()
        inside = [share for y, share in shares.items() if y in group]
        outside = [share for y, share in shares.items() if y not in group]
        return float(np.mean(inside) - np.mean(outside)) if inside and outside else 0.0


class _Apart(NamedTuple):
    """The difference between a group of classes and the others, of our rows and of real ones; the excess's error."""

    ours: float
    real: float
    error: float
    group: list[int]

    @property
    def excess(self) -> float:
        """How much more our rows differ than real ones do."""
        return self.ours - self.real


def _apart(ours: _Side, theirs: _Side, seed: int) -> _Apart:
    """The groups that differ most, chosen on either half of our rows and measured on the other."""
    draw = numpy_generator(seed, GATE, "halves")
    half = _halves(ours.y, draw)
    found = []
    for number in range(HALVES):
        group = _best_group(ours.take(half == number), theirs)
        found.append((ours.take(half != number).difference(group), theirs.difference(group), group))
    value, real = (float(np.mean([row[part] for row in found])) for part in (0, 1))
    return _Apart(value, real, _error(ours, theirs, found[0][2], draw), sorted(found[0][2]))


def _halves(y: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
    half = np.zeros(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = draw.permutation(np.flatnonzero(y == label))
        half[rows] = np.arange(len(rows)) % HALVES
    return half


def _best_group(ours: _Side, theirs: _Side) -> list[int]:
    """The classes that look more generated than their real rows do, as many as makes the excess largest."""
    shares, real = ours.shares(), theirs.shares()
    classes = sorted(shares, key=lambda label: shares[label] - real.get(label, 0.0), reverse=True)
    groups = [classes[:count] for count in range(1, len(classes))]
    return max(groups, key=lambda group: ours.difference(group) - theirs.difference(group), default=classes)


def _error(ours: _Side, theirs: _Side, group: Sequence[int], draw: np.random.Generator) -> float:
    """The standard error of the excess, by resampling the rows of each class."""
    excess = [
        _resampled(ours, draw).difference(group) - _resampled(theirs, draw).difference(group) for _ in range(DRAWS)
    ]
    return float(np.std(excess))


def _resampled(side: _Side, draw: np.random.Generator) -> _Side:
    rows = [draw.choice(np.flatnonzero(side.y == label), int((side.y == label).sum())) for label in np.unique(side.y)]
    return side.take(np.concatenate(rows))


def _some_of_each_class(real: RealRows, part: Part) -> Seen:
    """A few labelled rows of each class, a seeded choice."""
    encoders = nets_of(real)
    found: list[Seen] = []
    for batch in real.few_of_each_class(min(MOST, max(50, ALL_ROWS // max(1, encoders.spec.num_classes))), part):
        y = encoders.labels(batch)
        x = encoders.positions(batch).reshape(-1, *encoders.spec.shape)
        found.append(Seen(x[y >= 0], as_matrix(real.measure(batch))[y.numpy() >= 0], y[y >= 0]))
    if not found:
        return Seen(torch.empty(0, *encoders.spec.shape), np.empty((0, 0)), torch.empty(0, dtype=torch.int64))
    return Seen(
        torch.cat([rows.x for rows in found]),
        np.concatenate([rows.measures for rows in found]),
        torch.cat([rows.y for rows in found]),
    )


def _learned(learned: Learned, part: Part) -> Seen:
    x, measures, y = (np.array(learned.array(f"{part}-{name}")) for name in Seen._fields)
    return Seen(torch.from_numpy(x), measures, torch.from_numpy(y))


def _some(drawn: DrawnRows, side: RealSide) -> Seen:
    """At most 500 accepted rows of each class, a seeded choice."""
    draw = numpy_generator(side.seed, GATE, "rows")
    y = np.where(drawn.accepted, drawn.rows.y.numpy(), -1)
    kept = [draw.permutation(np.flatnonzero(y == label))[:MOST] for label in np.unique(y[y >= 0])]
    places = np.sort(np.concatenate([*kept, np.zeros(0, dtype=np.int64)]))
    x = drawn.positions[places].reshape(-1, *side.spec.shape)
    return Seen(x, drawn.measures[places], drawn.rows.y[places])
