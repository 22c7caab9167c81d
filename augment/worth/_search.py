"""The best classical policy for some images, searched on validation rows: the opponent that synthetic images must beat.

Policies are tried in the order of what they promise; then the best is grown by one part after another, as long as it
gets better; then the finalists are trained again from other seeds. Each trial of a seed has the same first weights and
sees the same rows.

A policy is better by its balanced accuracy, where that tells: among those within one standard error of the best, of
the difference row by row, the one with the smallest log-loss is taken. A few hundred validation rows rank policies by
accuracy hardly better than chance, while the loss is smooth. On subsets of 10 to 100 validation rows a class of MNIST,
Fashion-MNIST and digits, and 20 policies, the choice fell short of the best policy by 0.55 points of the balanced
accuracy on test rows, and by 0.71 without the loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from augment._seeding import derive_seed
from augment.progress import Progress, silent
from augment.worth._images import BATCH_SIZE, STEPS, LearningRows, fit, probabilities
from augment.worth._policies import AFFINE, MIXUP, PARTS, Policy
from models._contract import Batch, TensorSpec

BUDGET = 24  # fits
SMALLEST_SHARE = 1e-6  # of a probability, so that one row that is certainly wrong does not decide alone
MOST_PARTS = 3  # beside mixup
FINALISTS = 3

MOVES = ("shift", *(f"{name} affine" for name in AFFINE))
LIGHTS = ("gain", "light")
FIRST = tuple(
    Policy(parts)
    for parts in (
        ("shift",),
        ("medium affine", "gain"),
        ("wide affine", "gain"),
        ("trivial",),
        ("mild affine", "gain"),
        ("shift", "horizontal flip"),
        ("elastic",),
        ("shift", "gain"),
        ("shift", "trivial"),
        (),
        ("extreme affine", "gain"),
        ("shift", "erasing"),
    )
)
GROWN_BY = ("elastic", "trivial", MIXUP, "erasing", "horizontal flip", "gain", "light", "shift", "vertical flip")

Floats = npt.NDArray[np.float64]
# The probabilities (N, K) of the validation rows by a learner of a policy; its seed is the one of that number.
Attempt = Callable[[Policy, int], Floats]


@dataclass(frozen=True)
class Candidate:
    """A policy that was tried, with its figures on the validation rows for each seed it was trained from."""

    policy: Policy
    balanced_accuracy: tuple[float, ...]
    log_loss: tuple[float, ...]  # in nats a row, classes counting the same


@dataclass(frozen=True)
class PolicySearch:
    """All that were tried, in that order, and the one chosen.

    The figures of the chosen are those of the luckiest of many: what it is worth is measured on other rows.
    """

    chosen: Policy
    candidates: tuple[Candidate, ...]

    @property
    def fits(self) -> int:
        """How many learners were trained."""
        return sum(len(candidate.log_loss) for candidate in self.candidates)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; a policy is the list of its parts."""
        tried = [
            {
                "policy": c.policy.as_json(),
                "balanced_accuracy": list(c.balanced_accuracy),
                "log_loss": list(c.log_loss),
            }
            for c in self.candidates
        ]
        return {"chosen": self.chosen.as_json(), "fits": self.fits, "candidates": tried}


@dataclass(frozen=True)
class Shares:
    """How the fits of a budget are shared: policies tried as they are, grown ones, and rounds of finalists."""

    first: int
    grown: int
    finalists: int
    rounds: int


def shares_of(budget: int) -> Shares:
    """A quarter for finalists, three fifths of the rest for policies as they are."""
    finalists = min(FINALISTS, budget // 4)
    rounds = budget // 4 // finalists if finalists > 1 else 0
    left = budget - finalists * rounds
    first = min(len(FIRST), math.ceil(0.6 * left))
    return Shares(first, left - first, finalists, rounds)


def search_policies(
    spec: TensorSpec,
    train: LearningRows,
    validation: Batch,
    seed: int,
    budget: int = BUDGET,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    progress: Progress = silent,
) -> PolicySearch:
    """The policy with which a learner of ``train`` does best on ``validation``, after ``budget`` fits at most.

    Validation rows without a label are left out. The same for the same arguments.

    Raises:
        ValueError: the budget is below 1, no validation row has a label, or the rows cannot be learned from.
    """
    known = validation.y >= 0
    if budget < 1 or not bool(known.any()):
        raise ValueError("a search needs a budget of one fit at least, and validation rows with labels")
    held_out = validation.x[known]
    done = itertools.count(1)

    def attempt(policy: Policy, number: int) -> Floats:
        net = fit(spec, train, policy, derive_seed(seed, "policies", number), steps, batch_size)
        progress("policies", next(done), budget, "fit")
        return probabilities(net, held_out).astype(np.float64)

    return search_among(validation.y[known].cpu().numpy(), attempt, budget)


def search_among(y: npt.NDArray[np.int64], attempt: Attempt, budget: int) -> PolicySearch:
    """The policy whose attempts give rows the classes ``y`` best."""
    study = _Study(y, attempt)
    shares = shares_of(budget)
    for policy in FIRST[: shares.first]:
        study.run(policy)
    others = (policy for policy in FIRST if policy not in study.trials)
    for _, policy in zip(range(shares.grown), itertools.chain(_growing(study), others), strict=False):
        study.run(policy)
    finalists = study.ranked()[: shares.finalists if shares.rounds else 1]
    for _ in range(shares.rounds):
        for policy in finalists:
            study.run(policy)
    return PolicySearch(study.ranked(finalists)[0], study.candidates())


@dataclass(frozen=True)
class _Trial:
    """Of each validation row, ``(N,)``: whether it was recognised, and its loss in nats."""

    hit: Floats
    loss: Floats


class _Study:
    """The trials made so far, by policy."""

    def __init__(self, y: npt.NDArray[np.int64], attempt: Attempt) -> None:
        self.trials: dict[Policy, list[_Trial]] = {}
        self._attempt = attempt
        self._by_class = _ByClass(y)

    def run(self, policy: Policy) -> None:
        """One trial more of the policy."""
        before = self.trials.setdefault(policy, [])
        p, y = self._attempt(policy, len(before)), self._by_class.y
        loss = -np.log(p[np.arange(len(y)), y].clip(min=SMALLEST_SHARE))
        before.append(_Trial((p.argmax(axis=1) == y).astype(np.float64), loss))

    def candidates(self) -> tuple[Candidate, ...]:
        """The figures of every policy."""
        mean = self._by_class.mean
        return tuple(
            Candidate(policy, tuple(mean(trial.hit) for trial in trials), tuple(mean(trial.loss) for trial in trials))
            for policy, trials in self.trials.items()
        )

    def ranked(self, among: Sequence[Policy] | None = None) -> list[Policy]:
        """The policies, the best first: each is the one preferred among those that follow."""
        left = {policy: _averaged(self.trials[policy]) for policy in among or self.trials}
        order = []
        while left:
            order.append(self._preferred(left))
            del left[order[-1]]
        return order

    def _preferred(self, trials: dict[Policy, _Trial]) -> Policy:
        best = max(trials.values(), key=lambda trial: self._by_class.mean(trial.hit))

        def as_good(trial: _Trial) -> bool:
            behind = best.hit - trial.hit
            return self._by_class.mean(behind) <= self._by_class.error(behind)

        tied = [policy for policy, trial in trials.items() if as_good(trial)]
        return min(tied, key=lambda policy: self._by_class.mean(trials[policy].loss))


class _ByClass:
    """Means over rows in which classes count the same, however many rows each has."""

    def __init__(self, y: npt.NDArray[np.int64]) -> None:
        self.y = y
        self._rows = [np.flatnonzero(y == label) for label in np.unique(y)]

    def mean(self, values: Floats) -> float:
        return fmean(float(values[rows].mean()) for rows in self._rows)

    def error(self, values: Floats) -> float:
        """The standard error of the mean."""
        variances = (float(values[rows].var()) / max(1, len(rows) - 1) for rows in self._rows)
        return math.sqrt(sum(variances)) / len(self._rows)


def _averaged(trials: Sequence[_Trial]) -> _Trial:
    return _Trial(np.mean([trial.hit for trial in trials], axis=0), np.mean([trial.loss for trial in trials], axis=0))


def _growing(study: _Study) -> Iterator[Policy]:
    """Policies that were not tried, each the best one so far with one part more; the best is asked for anew whenever
    all of its own were tried."""
    while True:
        best = study.ranked()[0]
        grown_ones = (grown(best, part) for part in GROWN_BY)
        new = [policy for policy in grown_ones if policy is not None and policy not in study.trials]
        yield from new
        if not new or study.ranked()[0] == best:
            return


def grown(policy: Policy, part: str) -> Policy | None:
    """The policy with one part more, in the order of all parts; None where it has the part, or enough of them.

    One kind of light takes the place of another, and what moves an image as a whole is not moved a second time.
    """
    kept = [p for p in policy.parts if not (part in LIGHTS and p in LIGHTS)]
    moved_twice = part in MOVES and any(p in MOVES for p in kept)
    parts = tuple(sorted((*kept, part), key=PARTS.index))
    too_many = len([p for p in parts if p != MIXUP]) > MOST_PARTS
    return None if part in policy.parts or moved_twice or too_many else Policy(parts)
