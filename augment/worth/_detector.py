"""How generated a row looks: the score of a detector that has not seen the row, and what it gives away of the class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment._seeding import derive_seed, numpy_generator
from augment.worth._classifier import Design, fit_classifier
from models._contract import Batch, TensorSpec

FOLDS = 5  # with ten rows in a class, eight to learn from; with three folds six, and the others look synthetic
NET = Design(width=0.5, depth=1, dropout=0.1, steps=200)
ROUNDS = 80
TREES = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.1,
    "min_child_samples": 5,
    "feature_fraction": 0.5,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
SYNTHETIC = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """The score ``(N,)`` of each real and synthetic row, by a detector that was not trained on it; synthetic above 0.

    ``unseen`` is the share of detectors to which a row of nobody's training looks synthetic. ``auc`` is the chance that
    a synthetic row scores higher than a real one, with the rows' weights.
    """

    real: Floats
    synthetic: Floats
    unseen: Floats
    auc: float


class Seen(NamedTuple):
    """Rows as detectors see them: ``x`` ``(N, *shape)``, measures of them ``(N, F)``, and their classes ``y``."""

    x: Tensor
    measures: Floats
    y: Tensor

    @property
    def numbers(self) -> Floats:
        """All numbers of each row."""
        return np.column_stack([self.x.flatten(1).double().numpy(), self.measures])


def detect(spec: TensorSpec, real: Seen, synthetic: Seen, unseen: Seen, seed: int) -> Scores:
    """The scores of ``real`` and ``synthetic`` rows and of ``unseen`` real ones.

    Two detectors are trained, a net of the form that suits the rows, which sees textures, and boosted trees, which see
    a single number that is always off, also by less than an encoded row shows; the one with the larger ``auc`` counts.
    Each learns from the classes that have both sides, with the same mass on either, so that it learns what looks
    generated and not which classes are. Rows are split into five folds within class and side. Each detector judges the
    unseen rows by itself, as it does those of its own fold: all of them together would know real rows better. Where no
    class has both sides all classes are learned from, since what looks generated cannot be told from class then.
    """
    y = torch.cat([real.y, synthetic.y])
    side = torch.cat([torch.zeros(len(real.y)), torch.ones(len(synthetic.y))]).long()
    weight = side_weights(y.numpy(), side.numpy())
    taught = _of_both_sides(y, side)
    fold = _folds(y, side, seed)
    net = partial(_net_scores, spec, torch.cat([real.x, synthetic.x]), unseen.x)
    trees = partial(_tree_scores, np.concatenate([real.numbers, synthetic.numbers]), unseen.numbers)
    best: Scores | None = None
    for name, fit in (("net", net), ("trees", trees)):
        own, of_unseen = np.zeros(len(y)), np.zeros(len(unseen.y))
        for number in range(FOLDS):
            out = fold == number
            seen = taught & ~out
            scores = fit(side, seen, weight, derive_seed(seed, name, number))
            own[out.numpy()] = scores[0][out.numpy()]
            of_unseen += (scores[1] > 0) / FOLDS
        found = own[: len(real.y)], own[len(real.y) :]
        counted = np.where(taught.numpy(), weight, 0.0)
        auc = weighted_auc(found[1], counted[len(real.y) :], found[0], counted[: len(real.y)])
        if best is None or auc > best.auc:
            best = Scores(*found, of_unseen, auc)
    assert best is not None
    return best


def side_weights(y: NDArray[np.int64], side: NDArray[np.int64]) -> Floats:
    """Weights with which each class has the same mass, and where it has both, real and synthetic rows half of it."""
    weight = np.zeros(len(y))
    for label in np.unique(y):
        here = [np.flatnonzero((y == label) & (side == which)) for which in (0, 1)]
        present = [rows for rows in here if len(rows)]
        for rows in present:
            weight[rows] = 1 / (len(present) * len(rows))
    return weight


def weighted_auc(high: Floats, high_weight: Floats, low: Floats, low_weight: Floats) -> float:
    """The chance that a value of ``high`` is above one of ``low``, both drawn by their weights; ties count half."""
    order = np.argsort(low, kind="stable")
    ordered, mass = low[order], np.concatenate([[0.0], np.cumsum(low_weight[order])])
    below = mass[np.searchsorted(ordered, high, "left")]
    not_above = mass[np.searchsorted(ordered, high, "right")]
    return float(np.dot(high_weight, below + not_above) / (2 * mass[-1] * high_weight.sum()))


def _of_both_sides(y: Tensor, side: Tensor) -> Tensor:
    """Which rows are of a class that has rows on both sides; all where there is no such class."""
    both = torch.isin(y, y[side == 0]) & torch.isin(y, y[side == SYNTHETIC])
    return both if bool(both.any()) else torch.ones_like(both)


def _folds(y: Tensor, side: Tensor, seed: int) -> Tensor:
    """The fold of each row, in turn within each class and side after a seeded shuffle."""
    fold = np.zeros(len(y), dtype=np.int64)
    draw = numpy_generator(seed, "detector", "folds")
    for label in np.unique(y.numpy()):
        for which in (0, 1):
            rows = draw.permutation(np.flatnonzero((y.numpy() == label) & (side.numpy() == which)))
            fold[rows] = (np.arange(len(rows)) + draw.integers(FOLDS)) % FOLDS
    return torch.from_numpy(fold)


def _net_scores(
    spec: TensorSpec, x: Tensor, unseen: Tensor, side: Tensor, seen: Tensor, weight: Floats, seed: int
) -> list[Floats]:
    """The log odds that rows are synthetic, by a net that learned the ``side`` of those that are ``seen``."""
    rows = Batch(x[seen], side[seen])
    net = fit_classifier(replace(spec, num_classes=2), rows, NET, seed, torch.from_numpy(weight[seen.numpy()]))
    logits = [net.logits(rows).double().numpy() for rows in (x, unseen)]
    return [found[:, SYNTHETIC] - found[:, 0] for found in logits]


def _tree_scores(
    numbers: Floats, unseen: Floats, side: Tensor, seen: Tensor, weight: Floats, seed: int
) -> list[Floats]:
    """The same by boosted trees over the numbers of a row."""
    import lightgbm

    own = weight[seen.numpy()]
    data = lightgbm.Dataset(numbers[seen.numpy()], side[seen].numpy(), weight=own * len(own) / own.sum())
    trees = lightgbm.train({**TREES, "seed": seed % 2**31}, data, num_boost_round=ROUNDS)
    return [np.asarray(trees.predict(x, raw_score=True)) if len(x) else np.zeros(0) for x in (numbers, unseen)]
