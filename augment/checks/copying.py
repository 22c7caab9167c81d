"""Copying: synthetic rows are as far from the training rows as other real rows are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from augment._seeding import torch_generator
from augment.checks._contract import Check, Evidence, Figures, Finding, Learned, bounded
from augment.checks._encoded import DrawnRows, drawn_of, nets_of
from augment.checks._real import RealRows
from augment.schema import class_titles
from augment.worth._classical import mild_variants
from augment.worth._nearness import Nearness, Stratum, nearness
from augment.worth._neighbours import nearest_of_parts

if TYPE_CHECKING:
    from augment.worth.encoders import Encoders

GATE = "copying"
HELD_OUT = 300  # rows of a class
CLASS_NEAR = 0.5  # the largest share of near copies in a class
VARIANTS = 200  # of a class, whose distances stand for those of classical augmentation
PAIRS = 24  # of which the report shows the nearest
REFERENCES = ("held_out", "variants")


class Copying(Check):
    """Refuses rows that lie nearer to training rows than fresh real rows do.

    What is looked at is the distance of a row to the nearest training row of its class over that to the nearest
    validation row, which the generator has not seen. A smooth or blurred row is near to both, a copy to one alone.
    Three figures stand beside those of validation rows, each compared with the others of its kind:

    * the chance that a synthetic row is farther than a validation row is (after arXiv:2004.05675): 1/2 for real rows,
      0 for copies; each class that has ten validation rows is looked at too, and refused where most of its rows are
      near copies: nearer than half of what is usual;
    * the share of near copies among all rows: nearer than half of what all but 1 % of the validation rows are, since
      copies of a part of the rows hide in the first (arXiv:2302.13181);
    * authenticity, the share that is farther from its nearest training row than that is from its own nearest
      (arXiv:2102.08921). It is shown and refuses nothing: blurred rows are near to all others.

    Rows that name the real rows they were drawn from are meant to be like these. They are held against mild classical
    variants of training rows instead, whose strength is drawn from none to mild, and required to move as far in a part
    of the cases only; exact copies of them are refused by
    ``duplicates`` all the same. Passing says that rows are no copies; it does not say that they are private
    (arXiv:2505.01524).
    """

    kind: Literal["copying"] = "copying"
    summary: ClassVar[str] = "synthetic rows are no nearer to training rows than held-out real rows are"
    needs_encoders: ClassVar[bool] = True
    better: ClassVar[Literal["high", "low"] | None] = "high"

    farther: float = Field(
        0.35, ge=0, le=0.5, allow_inf_nan=False, description="Least chance of lying farther than a held-out row."
    )
    variant_farther: float = Field(
        0.15, ge=0, le=0.5, allow_inf_nan=False,
        description="Least chance of lying farther than a mild variant, of rows drawn from real ones.",
    )  # fmt: skip
    near: float = Field(0.03, ge=0.01, le=1, allow_inf_nan=False, description="Largest share of near copies.")

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """How near validation rows and mild variants of training rows are to training rows."""
        encoders, names = nets_of(real), class_titles(real.schema)
        figures: dict[str, Any] = {}
        for y, rows_of_class in _positions_by_class(real, encoders).items():
            held = torch.unique(rows_of_class, dim=0)  # of equal rows each would have the other at distance 0
            if y not in encoders.train_places or len(held) < 2:
                continue
            np.save(folder / f"positions-{y}.npy", held.numpy())
            found = {}
            for title, rows in {"held_out": held, "variants": self._variants(encoders, y)}.items():
                own = torch.arange(len(held)) if title == "held_out" else None
                nearest = _to_train(encoders, y, rows)
                ratio = nearest.distance / nearest_of_parts(rows, [(torch.arange(len(held)), held)], own).distance
                np.save(folder / f"{title}-{y}.npy", np.sort(ratio.numpy()))
                found[title] = {"rows": len(rows), "authentic": nearest.authentic}
            figures[names[y]] = {"y": y, "twins": _twins(encoders, y), **found}
        return {"classes": figures}

    def _variants(self, encoders: Encoders, y: int) -> Tensor:
        """Mild variants of training rows of a class, of each as often as of another."""
        rows = encoders.real.train[y]
        generator = torch_generator(encoders.real.seed, GATE, "variants", y)
        order = torch.randperm(len(rows), generator=generator)
        chosen = order.repeat(math.ceil(VARIANTS / len(rows)))[:VARIANTS]
        return mild_variants(encoders.spec, rows, chosen, generator)

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The three figures over all classes, and the first of each class that has rows enough."""
        drawn, encoders = drawn_of(evidence), nets_of(evidence)
        strata: list[Stratum] = []
        pairs: list[dict[str, Any]] = []
        for name, figures in learned.figures["classes"].items():
            for stratum, near in self._strata(name, figures, drawn, encoders, learned):
                strata.append(stratum)
                pairs += near
        found = nearness(strata, self.near)
        if found is None:
            return Finding(
                "No class has both synthetic rows and two real validation rows to compare distances with; "
                "raise split.validation.",
                applies=False,
            )
        return Finding(
            _sentence(found),
            value=found.farther,
            floor=0.5,
            limit=found.farther_limit,
            metrics={
                "farther": found.farther,
                "near_share": found.near_share,
                "authenticity": found.authenticity,
                "worst_near_share": found.worst_near_share,
            },
            class_metrics={"farther": [found.classes.get(name, math.nan) for name in evidence.wanted]},
            set_expectations=[
                *bounded(f"{GATE}.farther", found.farther_limit, None),
                *bounded(f"{GATE}.near_share", None, found.near_limit),
                *bounded(f"{GATE}.worst_near_share", None, CLASS_NEAR),
            ],
            details={
                "near_limit": found.near_limit,
                "authenticity_floor": found.authenticity_floor,
                "with_parents": int(drawn.parents.sum()),
                "nearest_pairs": sorted(pairs, key=lambda pair: pair["distance"])[:PAIRS],
            },
        )

    def _strata(
        self, name: str, figures: Mapping[str, Any], drawn: DrawnRows, encoders: Encoders, learned: Learned
    ) -> Iterable[tuple[Stratum, Sequence[dict[str, Any]]]]:
        """The rows of a class without parents and those with them, each with its reference, and the nearest pairs."""
        y = figures["y"]
        of_class = drawn.rows.y.numpy() == y
        held = torch.from_numpy(np.array(learned.array(f"positions-{y}")))
        for title, own in zip(REFERENCES, (of_class & ~drawn.parents, of_class & drawn.parents), strict=True):
            if not own.any():
                continue
            rows = drawn.positions[torch.from_numpy(own)]
            nearest = _to_train(encoders, y, rows)
            from_held = nearest_of_parts(rows, [(torch.arange(len(held)), held)]).distance
            stratum = Stratum(
                name=name,
                ratios=nearest.distance / from_held.clamp(min=1e-12),
                authentic=nearest.authentic,
                reference=torch.from_numpy(np.array(learned.array(f"{title}-{y}"))),
                reference_authentic=figures[title]["authentic"],
                twins=figures["twins"],
                least=self.farther if title == "held_out" else self.variant_farther,
                strangers=title == "held_out",
            )
            yield stratum, _nearest_pairs(name, drawn, np.flatnonzero(own), nearest, from_held)


def _positions_by_class(real: RealRows, encoders: Encoders) -> dict[int, Tensor]:
    """The positions of some validation rows of each class."""
    found: dict[int, list[Tensor]] = {}
    for batch in real.few_of_each_class(HELD_OUT, "validation"):
        positions, y = encoders.positions(batch), encoders.labels(batch)
        for label in torch.unique(y[y >= 0]).tolist():
            found.setdefault(label, []).append(positions[y == label])
    return {y: torch.cat(found[y]) for y in sorted(found)}


class _ToTrain(NamedTuple):
    """The distance ``(N,)`` of each row to its nearest training row, that one's place, and how many are authentic."""

    distance: Tensor
    place: Tensor
    authentic: int


def _to_train(encoders: Encoders, y: int, rows: Tensor) -> _ToTrain:
    nearest = nearest_of_parts(rows, encoders.train_positions(y))
    authentic = int((nearest.distance > _own_nearest(encoders, y, nearest.place)).sum())
    return _ToTrain(nearest.distance, nearest.place, authentic)


def _own_nearest(encoders: Encoders, y: int, places: Tensor) -> Tensor:
    """The distance of the training rows at ``places`` to their nearest other training row of the class."""
    unique, back = torch.unique(places, return_inverse=True)
    parts = [positions[torch.isin(at, unique)] for at, positions in encoders.train_positions(y)]
    return nearest_of_parts(torch.cat(parts), encoders.train_positions(y), own=unique).distance[back]


def _twins(encoders: Encoders, y: int) -> float:
    """The share of training rows of a class that equal another one."""
    return float((_own_nearest(encoders, y, encoders.train_places[y]) == 0).double().mean())


def _nearest_pairs(
    name: str, drawn: DrawnRows, places: NDArray[np.intp], nearest: _ToTrain, from_held: Tensor
) -> list[dict[str, Any]]:
    """The rows nearest to a training row: who, to which row of train, how far, and how far from a held-out one."""
    order = torch.argsort(nearest.distance, stable=True)[:PAIRS].tolist()
    return [
        {
            "class": name,
            "sample_id": drawn.sample_ids[places[i]],
            "train_row": int(nearest.place[i]),
            "distance": round(float(nearest.distance[i]), 6),
            "from_held_out": round(float(from_held[i]), 6),
        }
        for i in order
    ]


def _sentence(found: Nearness) -> str:
    said = (
        f"A synthetic row is farther from the training rows than a held-out one with a chance of {found.farther:.0%} "
        f"(real rows: 50%; at least {found.farther_limit:.0%} is required), {found.near_share:.1%} are near copies (at "
        f"most {found.near_limit:.1%}), and {found.authenticity:.0%} are farther from their nearest training row than "
        f"that is from its own (held-out rows: {found.authenticity_floor:.0%})"
    )
    if found.worst_near_share > CLASS_NEAR:
        said += f"; of class {found.worst} {found.worst_near_share:.0%} are near copies"
    return said + "."
