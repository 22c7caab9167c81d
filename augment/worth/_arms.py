"""The arms that are compared: which learner and method each is, and which rows with which weights it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from augment._seeding import numpy_generator
from augment._weights import class_weights, row_weights
from augment.worth._downstream import PLAIN, Chosen, Downstream, Places

Role = Literal["without", "with", "alone", "scarce", "more", "part", "unselected", "random", "selected"]
REAL_ROLES: tuple[Role, ...] = ("without", "more")  # which no generator has a part in
NO_PLACES: Places = np.empty(0, np.int64)
COMPARED: dict[Role, str] = {
    "unselected": "synthetic, unselected",
    "random": "synthetic, a random part",
    "selected": "synthetic, selected",
}
TITLES = {PLAIN: "real rows"}


class Arm(BaseModel):
    """One arm. ``role`` says what it gets:

    ==========  =============================================================
    without     real rows
    with        and synthetic ones, with the weights of the published dataset
    alone       synthetic rows alone
    scarce      real rows, and synthetic ones of the scarce classes alone
    more        real rows, and those that the split had cut off
    part        a part of the real rows of each scarce class, all of others
    unselected  real rows, and the synthetic ones of the first round that the
                gates accepted, whether they were selected or not
    random      as many of these at random, class by class, as were selected
    selected    those that were selected
    ==========  =============================================================

    Arms of the last three roles say what the selection does, and are never the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    learner: str
    method: str
    role: Role


class Given(NamedTuple):
    """Real and synthetic rows of an arm; null where it gets none."""

    real: Chosen | None
    synthetic: Chosen | None


class Sides(NamedTuple):
    """The classes of all real rows, and of the synthetic ones.

    Real rows from ``reserve`` on were cut off by the split; synthetic ones from ``spare`` on were drawn in the first
    round and not selected, while those at ``selected`` were. ``scarce`` are the classes that are small; with
    ``equal_mass`` published weights make all classes equal.
    """

    real_y: Places
    reserve: int
    synthetic_y: Places
    spare: int
    num_classes: int
    scarce: tuple[int, ...]
    equal_mass: bool
    selected: Places = NO_PLACES

    @property
    def first_round(self) -> Places:
        """The synthetic rows of the first round that the gates accepted."""
        return np.concatenate([self.selected, np.arange(self.spare, len(self.synthetic_y))])


def arms_of(downstream: Downstream, sides: Sides) -> list[Arm]:
    """All arms but those of a learning curve, learner after learner."""
    some = len(sides.scarce) < sides.num_classes
    arms = []
    for learner in downstream.learners:
        suffix = f" ({learner})" if len(downstream.learners) > 1 else ""

        def arm(name: str, method: str, role: Role, learner: str = learner, suffix: str = suffix) -> Arm:
            return Arm(name=name + suffix, learner=learner, method=method, role=role)

        arms += [arm(_titled(method), method, "without") for method in downstream.without]
        arms += [
            arm("synthetic" if method == PLAIN else f"{method} + synthetic", method, "with")
            for method in downstream.together
        ]
        arms.append(arm("synthetic alone", PLAIN, "alone"))
        if some:
            arms.append(arm("synthetic in scarce classes only", downstream.together[-1], "scarce"))
        if sides.reserve < len(sides.real_y):
            arms.append(arm("more real rows", downstream.without[-1], "more"))
        if len(sides.first_round):
            arms += [arm(name, downstream.together[-1], role) for role, name in COMPARED.items()]
    return arms


def scarce_classes(real_y: Places, num_classes: int) -> tuple[int, ...]:
    """The classes with fewer than half of the rows of the largest; all of them where there are none such."""
    counts = np.bincount(real_y[real_y >= 0], minlength=num_classes)
    scarce = tuple(int(y) for y in np.flatnonzero(counts < counts.max() / 2))
    return scarce or tuple(range(num_classes))


def rows_of(arm: Arm, sides: Sides, seed: int) -> Given:
    """The rows of an arm, those at random by ``seed``; see :func:`part_of` for those of a learning curve."""
    real = np.flatnonzero(sides.real_y[: sides.reserve] >= 0)
    synthetic = np.flatnonzero(sides.synthetic_y[: sides.spare] >= 0)
    if arm.role == "more":
        real = np.flatnonzero(sides.real_y >= 0)
    if arm.role in (*REAL_ROLES, "part"):
        return Given(Chosen(real, np.ones(len(real))), None)
    if arm.role == "scarce":
        synthetic = synthetic[np.isin(sides.synthetic_y[synthetic], sides.scarce)]
    if arm.role == "alone":
        real = real[:0]
    if arm.role in COMPARED:
        synthetic = _compared(arm.role, sides, seed)
    return _published(real, synthetic, sides)


def _compared(role: Role, sides: Sides, seed: int) -> Places:
    """The synthetic rows of an arm that says what the selection does."""
    if role == "selected":
        return sides.selected
    if role == "unselected":
        return np.sort(sides.first_round)
    draw, drawn, kept = numpy_generator(seed, "worth", "random"), sides.first_round, [NO_PLACES]
    for y, rows in enumerate(np.bincount(sides.synthetic_y[sides.selected], minlength=sides.num_classes)):
        kept.append(draw.permutation(drawn[sides.synthetic_y[drawn] == y])[:rows])
    return np.sort(np.concatenate(kept))


def part_of(share: float, sides: Sides, seed: int) -> tuple[Chosen, int]:
    """Real rows with a part of each scarce class, one at least, and how many these are in the mean of the classes.

    With the same seed, a smaller part is one of a larger.
    """
    kept = []
    for y in range(sides.num_classes):
        rows = np.flatnonzero(sides.real_y[: sides.reserve] == y)
        if y in sides.scarce:
            count = max(1, round(share * len(rows)))
            rows = np.sort(numpy_generator(seed, "worth", "part", y).permutation(rows)[:count])
        kept.append(rows)
    places = np.sort(np.concatenate(kept))
    return Chosen(places, np.ones(len(places))), mean_rows([len(kept[y]) for y in sides.scarce])


def mean_rows(counts: Sequence[int]) -> int:
    """The mean over classes that have rows, one at least."""
    present = [count for count in counts if count]
    return max(1, round(sum(present) / max(1, len(present))))


def _titled(method: str) -> str:
    return TITLES.get(method, method)


def _published(real: Places, synthetic: Places, sides: Sides) -> Given:
    """The rows with the sampling weights under which they would be published."""
    of_real, of_synthetic = (
        np.bincount(y, minlength=sides.num_classes).tolist() for y in (sides.real_y[real], sides.synthetic_y[synthetic])
    )
    weights = class_weights(of_real, of_synthetic, sides.equal_mass)
    found = [
        Chosen(places, row_weights(y[places], of_class)) if len(places) else None
        for places, y, of_class in zip((real, synthetic), (sides.real_y, sides.synthetic_y), weights, strict=True)
    ]
    return Given(*found)
