"""A few rows that are drawn now and then while a model is trained: do they reach the real variety, or copy rows?

Three figures go to ``metrics.jsonl`` beside the losses. Rows are compared as the model sees them, within their class:

================  =====================================================================================================
coverage          share of held-out rows that have a drawn row within the distance of their k-th nearest held-out one
                  (Reliable Fidelity and Diversity Metrics for Generative Models, arXiv:2002.09797, equation 4)
coverage_of_real  the same of as many training rows in the place of the drawn ones: what a model can hope for
near_copies       share of drawn rows that the gate ``copying`` calls near copies of training rows
================  =====================================================================================================

What is drawn follows from the seed and the step alone and no other draw depends on it, so that training is the same
with these figures and without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from augment._seeding import torch_generator
from augment.codec import Codec
from augment.operators import OPERATORS, draw_function
from augment.training._batches import Rows
from augment.worth._chosen_rows import places_by_class
from augment.worth._classical import mild_variants
from augment.worth._encoded_rows import held_out_places, rows_at
from augment.worth._nearness import Stratum, nearness
from augment.worth._neighbours import NEIGHBOURS, density_and_coverage, nearest_of_parts
from models._contract import GenerativeModel, TensorSpec

MOMENTS = 25  # of a training at most
FEWEST_ROWS, MOST_ROWS = 64, 256  # of all classes that are drawn at a moment
SHARE = 0.02  # of all passes of a training that may be spent on drawing
PASSES = 3  # of one row through a net in training: forwards, and backwards at twice the cost
FEWEST_OF_CLASS = 2  # rows of each side, without which there is no neighbour
TRAIN_VALUES = 1 << 24  # of all training rows that are compared with: 64 MiB
ROWS_PER_NEIGHBOUR = 4  # k is a quarter of the rows of a class, and 5 at most


class Moments(NamedTuple):
    """How many rows are drawn at a moment, and the steps from one to the next; the last step is one too."""

    rows: int
    every: int


def moments(steps: int, batch_size: int, evaluations: int) -> Moments:
    """As many moments as 2 % of the passes of a training allow, up to 25, and one at least.

    ``evaluations`` are the passes that one drawn row takes.
    """
    affordable = SHARE * PASSES * steps * batch_size / evaluations
    rows = min(MOST_ROWS, max(FEWEST_ROWS, int(affordable / MOMENTS)))
    count = min(MOMENTS, max(1, int(affordable / rows)))
    return Moments(rows, math.ceil(steps / count))


def rows_of_classes(train: Mapping[int, int], held_out: Mapping[int, int], rows: int) -> dict[int, int]:
    """How many rows are drawn of each class of which there are so many training and held-out rows, ``rows`` of all.

    Classes count that have two rows on both sides, every n-th where they are too many; none has more than either side.
    """
    scarcer = {y: min(count, held_out.get(y, 0)) for y, count in sorted(train.items())}
    both = [y for y, count in scarcer.items() if count >= FEWEST_OF_CLASS]
    both = both[:: math.ceil(len(both) * FEWEST_OF_CLASS / rows) or 1]
    return {y: min(scarcer[y], rows // len(both)) for y in both}


class _OfClass(NamedTuple):
    """Real rows ``(N, size)`` of a class, and what does not change from one moment to the next."""

    train: Tensor
    held_out: Tensor
    reference: Tensor  # distances to training rows over those to held-out ones, of rows that are no copies
    twins: float

    @property
    def neighbours(self) -> int:
        """The k of its coverage."""
        return min(NEIGHBOURS, max(1, len(self.held_out) // ROWS_PER_NEIGHBOUR))


class SpotChecks:
    """The figures of a training; ``train`` and ``held_out`` are real rows ``(N, size)`` by class in a random order.

    Of a class as many rows are drawn as are held out beside them and as stand for them in ``coverage_of_real``, as more
    would cover more. A class whose held-out rows are all the same, as in a table of categories, is left out: its
    figures could only be 0 or 1. Rows that an operator draws from real ones are meant to be like these: near copies are
    then told by mild variants of training rows, and not by held-out ones.
    """

    def __init__(
        self,
        spec: TensorSpec,
        operator: str,
        train: Mapping[int, Tensor],
        held_out: Mapping[int, Tensor],
        when: Moments,
        seed: int,
    ) -> None:
        self._spec = spec
        self._operator = operator
        self._when = when
        self._seed = seed
        counts = rows_of_classes(_lengths(train), _lengths(held_out), when.rows)
        beside = {y: held_out[y][:count] for y, count in counts.items()}
        differing = [y for y, rows in beside.items() if bool((rows != rows[0]).any())]
        self._classes = {y: self._known(y, train[y], beside[y]) for y in differing}
        real_side = {y: known.train[: len(known.held_out)] for y, known in self._classes.items()}
        self._of_real = self._coverage(real_side)

    def due(self, step: int, steps: int) -> bool:
        """Whether rows are drawn after ``step`` of ``steps`` steps; never where no class has rows to compare with."""
        return bool(self._classes) and (step % self._when.every == 0 or step == steps)

    @torch.no_grad()
    def figures(self, model: GenerativeModel, step: int) -> dict[str, float]:
        """The figures by name of rows that ``model``, in evaluation mode, draws after ``step`` steps."""
        drawn = self._drawn(model, step)
        strata = []
        for y, (train, held_out, reference, twins) in self._classes.items():
            ratios = _ratios(drawn[y], train, held_out)
            strata.append(Stratum(str(y), ratios, 0, reference, 0, twins))
        near = nearness(strata, 0.0)
        assert near is not None
        return {
            "coverage": round(self._coverage(drawn), 4),
            "coverage_of_real": round(self._of_real, 4),
            "near_copies": round(near.near_share, 4),
        }

    def _drawn(self, model: GenerativeModel, step: int) -> dict[int, Tensor]:
        """Flat rows by class on the CPU, of each as many as there are held-out ones."""
        device = next(model.parameters()).device
        parents, draw = OPERATORS[self._operator].parents, draw_function(model, self._operator)
        picks = torch_generator(self._seed, "train", "spot check", "parents", step)
        sides = [(known.train, len(known.held_out)) for known in self._classes.values()]
        exemplars = [
            torch.cat([train[torch.randint(len(train), (count,), generator=picks)] for train, count in sides])
            for _ in range(parents)
        ]
        counts = [count for _, count in sides]
        y = torch.tensor([*self._classes]).repeat_interleave(torch.tensor(counts))
        noise = torch_generator(self._seed, "train", "spot check", step, device=device.type)
        shaped = [rows.reshape(-1, *self._spec.shape).to(device) for rows in exemplars]
        rows = draw(y.to(device), shaped, noise).flatten(1).float().cpu()
        return dict(zip(self._classes, torch.split(rows, counts), strict=True))

    def _coverage(self, drawn: Mapping[int, Tensor]) -> float:
        """The share of all held-out rows that are covered."""
        covered = total = 0.0
        for y, known in self._classes.items():
            found = density_and_coverage(known.held_out, drawn[y], known.neighbours)
            assert found is not None
            covered += found.coverage * len(known.held_out)
            total += len(known.held_out)
        return covered / max(1.0, total)

    def _known(self, y: int, train: Tensor, held_out: Tensor) -> _OfClass:
        reference = _ratios(held_out, train, held_out, own=torch.arange(len(held_out)))
        if OPERATORS[self._operator].parents:
            noise = torch_generator(self._seed, "train", "spot check", "variants", y)
            chosen = torch.arange(len(held_out))
            reference = _ratios(mild_variants(self._spec, train, chosen, noise), train, held_out)
        _, counts = torch.unique(train, dim=0, return_counts=True)
        return _OfClass(train, held_out, reference, float(counts[counts > 1].sum()) / len(train))


def _lengths(rows: Mapping[int, Tensor]) -> dict[int, int]:
    return {y: len(of_class) for y, of_class in rows.items()}


def _ratios(rows: Tensor, train: Tensor, held_out: Tensor, own: Tensor | None = None) -> Tensor:
    """The distance of each row to its nearest training row over that to its nearest held-out one, ``(N,)``.

    ``own`` are the places among the held-out rows that a row is not compared with.
    """
    to_train = nearest_of_parts(rows, [(torch.arange(len(train)), train)])
    to_held = nearest_of_parts(rows, [(torch.arange(len(held_out)), held_out)], own)
    return to_train.distance / to_held.distance.clamp(min=1e-12)


def spot_checks(rows: Rows, validation: Path, codec: Codec, operator: str, when: Moments, seed: int) -> SpotChecks:
    """The checks of a training on ``rows``, beside rows of the Parquet file ``validation``.

    Training rows beyond 2,000 of a class, or 64 MiB of all, are left out by a seeded choice; copies of these pass.
    """
    places = places_by_class(torch.from_numpy(rows.labels), seed, "spot check")
    held_out_at = held_out_places(validation, codec, seed)
    counts = rows_of_classes(_lengths(places), _lengths(held_out_at), when.rows)
    most = max(FEWEST_OF_CLASS, TRAIN_VALUES // (codec.spec.size * max(1, len(counts))))
    chosen = {y: places[y][: max(most, count)].numpy() for y, count in counts.items()}
    train = {y: rows.batch(of_class).x.flatten(1).float().cpu() for y, of_class in chosen.items()}
    held_out = rows_at(validation, codec, seed, {y: held_out_at[y][:count] for y, count in counts.items()})
    return SpotChecks(codec.spec, operator, train, held_out, when, seed)
