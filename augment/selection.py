"""Selection: which of the rows that the gates accept are kept, by limits that real validation rows set.

================  =====================================================================================================
label_confidence  probability of a row's own label, in the mean of two classifiers, each of which learned from one half
                  of the training rows (after arXiv:1912.03837 and arXiv:2305.10118)
nearest_ratio     distance to the nearest training row of the class over that to the nearest validation row
density           neighbourhoods of training rows of the class in which a row lies, over k, in the features of the
                  classifier that has not seen these (after arXiv:2002.09797)
================  =====================================================================================================

A row is kept where it scores no less than all but a share of the validation rows of its class do. Selection refuses
nothing: rows that are left out are drawn again. The judge of `label_agreement` takes no part in it, since what chooses
a row must not be what judges it. `copying` and `coverage` look at the same distances and features: of rows selected by
`nearest_ratio` or `density` they say less, and what these rows are worth is for classifiers to show.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment._devices import cpu_threads
from augment.checks._contract import Choice, Flags
from augment.checks._encoded import nets_of
from augment.checks._real import RealRows
from augment.errors import InputError
from augment.schema import class_titles
from augment.worth._neighbours import densities, nearest_of_parts

if TYPE_CHECKING:
    from augment.worth.encoders import Encoders

GATE = "selection"
SURPLUS_GATE, SURPLUS = "class_plan", "drawn beyond the rows that the plan asks for"
HELD_OUT = 1_000  # validation rows of a class: the 1 % quantile rests on ten
FEWEST = 10  # validation rows by which a class has a limit of its own; of fewer, all classes share one
REASONS = {
    "label_confidence": "not selected: a classifier of real rows believes its label less than that of real rows",
    "nearest_ratio": "not selected: nearer to training rows, beside validation rows, than real rows are",
    "density": "not selected: in fewer neighbourhoods of real rows than real rows are",
}

Floats = NDArray[np.float64]


class _Scored(NamedTuple):
    """Rows of one class ``y``: encoded ``x`` ``(M, *shape)``, ``positions`` ``(M, size)``, and what they are held
    against, the positions ``held`` ``(N, size)`` of validation rows. With ``own`` these are the rows themselves.
    """

    encoders: Encoders
    y: int
    x: Tensor
    positions: Tensor
    held: Tensor
    own: bool


def _label_confidence(rows: _Scored) -> Tensor:
    found = [fold.encoder.confidence(rows.x)[:, rows.y] for fold in rows.encoders.real.folds]
    return torch.stack(found).mean(dim=0)


def _nearest_ratio(rows: _Scored) -> Tensor:
    if not len(rows.held):
        return torch.full((len(rows.positions),), torch.nan)  # nothing to hold them against
    places = torch.arange(len(rows.held))
    to_held = nearest_of_parts(rows.positions, [(places, rows.held)], places if rows.own else None).distance
    to_train = nearest_of_parts(rows.positions, rows.encoders.train_positions(rows.y)).distance
    return torch.where(to_held.isinf(), torch.nan, to_train / to_held.clamp(min=1e-12))


def _density(rows: _Scored) -> Tensor:
    found = [
        densities(fold.train[rows.y], fold.encoder.features(rows.x))
        for fold in rows.encoders.real.folds
        if rows.y in fold.train
    ]
    known = [of_fold for of_fold in found if of_fold is not None]
    return torch.stack(known).mean(dim=0) if known else torch.full((len(rows.x),), torch.nan)


SCORES: Mapping[str, Callable[[_Scored], Tensor]] = {
    "label_confidence": _label_confidence,
    "nearest_ratio": _nearest_ratio,
    "density": _density,
}


def learn_selection(real: RealRows, shares: Mapping[str, float], folder: Path) -> dict[str, Any]:
    """The limit of each criterion in each class, by class name, as JSON; what rows are held against goes to ``folder``.

    ``shares`` says of each criterion which share of the validation rows would be left out too.

    Raises:
        InputError: there is no label to be confident of, or there are too few validation rows to learn a limit from.
    """
    names = class_titles(real.schema)
    if "label_confidence" in shares and len(names) < 2:
        raise InputError("generate.select.label_confidence needs a label of two classes at least; leave it out.")
    encoders = nets_of(real)
    x, positions = _validation_rows(real, encoders)
    for y, held in positions.items():
        np.save(folder / f"positions-{y}.npy", held.numpy())
    limits = {}
    for name, share in shares.items():
        scores = {y: _scores(name, _Scored(encoders, y, x[y], at, at, own=True)) for y, at in positions.items()}
        limits[name] = dict(zip(names, _limits(name, share, scores, len(names)), strict=True))
    return {"shares": dict(shares), "limits": limits, "held_out": sorted(positions)}


def _validation_rows(real: RealRows, encoders: Encoders) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Some validation rows of each class: encoded, and their positions."""
    found: tuple[dict[int, list[Tensor]], dict[int, list[Tensor]]] = ({}, {})
    for batch in real.few_of_each_class(HELD_OUT, "validation"):
        encoded, positions = encoders.encode(batch), encoders.positions(batch)
        for y in torch.unique(encoded.y[encoded.y >= 0]).tolist():
            for part, values in zip(found, (encoded.x, positions), strict=True):
                part.setdefault(y, []).append(values[encoded.y == y])
    x, positions_of = ({y: torch.cat(parts[y]) for y in sorted(parts)} for parts in found)
    return x, positions_of


def _scores(name: str, rows: _Scored) -> Floats:
    """What the rows score by one criterion, not a number or infinite where they cannot be held against anything."""
    with cpu_threads(1):
        return SCORES[name](rows).double().numpy()


def _limits(name: str, share: float, scores: Mapping[int, Floats], num_classes: int) -> list[float]:
    """The limit of each class ``y``: the score that all but ``share`` of the validation rows reach."""
    finite = {y: values[np.isfinite(values)] for y, values in scores.items()}
    pooled = np.concatenate([*finite.values(), np.empty(0)])
    if not len(pooled):
        raise InputError(
            f"generate.select.{name} takes its limit from validation rows, and there are too few; "
            "raise split.validation."
        )
    found = []
    for y in range(num_classes):
        own = finite.get(y, pooled)
        ordered = np.sort(own if len(own) >= FEWEST else pooled)
        found.append(float(ordered[math.floor(share * len(ordered))]))
    return found


class Chosen(NamedTuple):
    """Gate and reason of each row of a shard that is left out, empty texts for others; columns of the row table."""

    gates: NDArray[Any]
    reasons: NDArray[Any]
    columns: dict[str, NDArray[Any]]
    choice: Choice


@dataclass(frozen=True)
class Selection:
    """What :func:`learn_selection` learned: ``limits`` by criterion and class name, ``held`` positions by ``y``."""

    encoders: Encoders
    names: list[str]
    shares: Mapping[str, float]
    limits: Mapping[str, Mapping[str, float]]
    held: Mapping[int, Tensor]

    @classmethod
    def load(cls, content: Mapping[str, Any], folder: Path, encoders: Encoders, names: list[str]) -> Selection:
        """The selection of the JSON ``content`` and the arrays in ``folder``."""
        held = {y: torch.from_numpy(np.load(folder / f"positions-{y}.npy")) for y in content["held_out"]}
        return cls(encoders, names, content["shares"], content["limits"], held)

    def choose(
        self, table: pa.Table, labels: NDArray[Any], asked: Flags, room: Mapping[str, int] | None = None
    ) -> Chosen:
        """Which of the rows that are ``asked`` for are left out, and why.

        ``labels`` are the class names of the rows. Of the selected rows of a class the first are kept, no more than
        ``room`` says: rows are asked for in excess, since only some are selected.
        """
        scores = self._scores(table, labels, asked)
        gates, reasons = np.full(len(labels), "", dtype=object), np.full(len(labels), "", dtype=object)
        for name, values in scores.items():
            limits = np.array([self.limits[name].get(label, -np.inf) for label in labels], dtype=np.float64)
            below = asked & (values < limits) & (gates == "")
            gates[below], reasons[below] = GATE, REASONS[name]
        selected = asked & (gates == "")
        choice = Choice(
            asked=_counts(labels[asked]),
            selected=_counts(labels[selected]),
            left_out={name: int((reasons == REASONS[name]).sum()) for name in scores},
        )
        room = choice.selected if room is None else room
        for name in np.unique(labels[selected]):
            beyond = np.flatnonzero(selected & (labels == name))[max(0, room.get(name, 0)) :]
            gates[beyond], reasons[beyond] = SURPLUS_GATE, SURPLUS
        columns = {f"{GATE}.{name}": values for name, values in scores.items()}
        return Chosen(gates, reasons, {**columns, f"{GATE}.asked": asked, f"{GATE}.selected": selected}, choice)

    def _scores(self, table: pa.Table, labels: NDArray[Any], asked: Flags) -> dict[str, Floats]:
        """What each row that is asked for scores by each criterion, not a number for others."""
        found = {name: np.full(len(labels), np.nan) for name in self.limits}
        for y, name in enumerate(self.names):
            places = np.flatnonzero(asked & (labels == name))
            if not len(places):
                continue
            rows = table.take(pa.array(places))
            x, at = self.encoders.encode(rows).x, self.encoders.positions(rows)
            scored = _Scored(self.encoders, y, x, at, self.held.get(y, at[:0]), own=False)
            for criterion, values in found.items():
                values[places] = _scores(criterion, scored)
        return found


def _counts(labels: NDArray[Any]) -> dict[str, int]:
    return dict(sorted(Counter(labels.tolist()).items()))
