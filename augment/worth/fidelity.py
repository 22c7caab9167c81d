"""How like real rows synthetic ones are, how much of the real variety they hold, and whether they are what they say.

Every figure stands beside a *floor*: what real training rows score in the place of the synthetic ones, against the same
held-out real rows (for label_agreement, what the held-out rows themselves score; for novelty, 1/2). No figure means
much without it, since all of them depend on the net, the data and the number of rows. The rows are encoded as a model
sees them. Classes count the same, however many rows each has.

The floor is no upper bound. Its rows were seen by the encoder in training, and lie in the features where held-out rows
lie less: fresh real rows can score better (with 60 rows a side a coverage of .98 against a floor of .81, with 300 .97
against .92). So a ratio slightly above one is possible, and small differences to the floor say nothing.

=================  ====================================================================================================
density, coverage  in the features of an encoder trained on real training rows, within each class (arXiv:2002.09797)
frechet            the squared Fréchet distance in the same features (arXiv:1706.08500)
label_agreement    share of rows that a second classifier, trained on real training rows, gives the label they carry
accuracy           of a classifier trained on the synthetic rows alone, on held-out real rows (arXiv:1905.10887)
novelty            chance that a synthetic row is farther from its nearest training row than a held-out one is from its
                   own: 0 for copies, 1/2 for real rows, 1 for noise (after arXiv:2004.05675)
=================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from augment._devices import cpu_threads
from augment._seeding import derive_seed, torch_generator
from augment.worth._classifier import ENCODER, JUDGE, Classifier, Design, fit_classifier
from augment.worth._frechet import frechet_distance
from augment.worth._neighbours import chance_of_larger, density_and_coverage, nearest_distances
from models._contract import Batch, TensorSpec

LARGEST_CLASS = 2_000  # rows of a class that are looked at, so that time and memory do not grow with the data
SUBSETS = 10  # of equal size, over whose draws figures are averaged


@dataclass(frozen=True)
class Figure:
    """A figure of the synthetic rows, and its floor; None where there are too few rows to measure it."""

    value: float | None
    floor: float | None


@dataclass(frozen=True)
class ClassFidelity:
    """The figures of one class; each side lent ``compared`` rows at a time for density and coverage."""

    compared: int
    density: Figure
    coverage: Figure
    label_agreement: Figure


@dataclass(frozen=True)
class Fidelity:
    """The figures of all classes together, and ``classes`` by ``y``."""

    density: Figure
    coverage: Figure
    frechet: Figure
    label_agreement: Figure
    accuracy: Figure
    novelty: Figure
    classes: Mapping[int, ClassFidelity]


@dataclass(frozen=True)
class RealSide:
    """Real training and held-out rows by class, with the nets that were trained on the former.

    A class has features ``(N, 64)`` and rows ``(N, size)``; :func:`learn_real` makes it.
    """

    spec: TensorSpec
    train: Mapping[int, Tensor]
    held_out: Mapping[int, Tensor]
    train_features: Mapping[int, Tensor]
    held_out_features: Mapping[int, Tensor]
    encoder: Classifier
    judge: Classifier
    learner: Design
    seed: int


def learn_real(
    spec: TensorSpec, train: Batch, held_out: Batch, seed: int, encoder: Design = ENCODER, judge: Design = JUDGE
) -> RealSide:
    """What :func:`measure_fidelity` compares with; the same for the same arguments.

    Rows without a label are left out, and so are rows beyond 2,000 of a class, by a seeded choice.

    Raises:
        ValueError: there are no training rows.
    """
    with cpu_threads(1):
        seen, held = (_by_class(rows, seed, part) for rows, part in ((train, "train"), (held_out, "held-out")))
        net = fit_classifier(spec, _joined(seen, spec), encoder, seed)
        return RealSide(
            spec=spec,
            train=seen,
            held_out=held,
            train_features={y: net.features(_shaped(x, spec)) for y, x in seen.items()},
            held_out_features={y: net.features(_shaped(x, spec)) for y, x in held.items()},
            encoder=net,
            judge=fit_classifier(spec, _joined(seen, spec), judge, derive_seed(seed, "judge")),
            learner=encoder,
            seed=seed,
        )


def measure_fidelity(real: RealSide, synthetic: Batch) -> Fidelity:
    """All figures of ``synthetic``, which is bounded as the real rows are; the same for the same arguments.

    Density, coverage and the Fréchet distance depend on the number of rows. For them both sides lend as many rows of a
    class as the smaller has, and what the larger side lends is drawn ten times. A figure of all classes is the mean
    over those that have both a value and a floor.
    """
    with cpu_threads(1):
        return _measured(real, synthetic)


def _measured(real: RealSide, synthetic: Batch) -> Fidelity:
    rows = _by_class(synthetic, real.seed, "synthetic")
    features = {y: real.encoder.features(_shaped(x, real.spec)) for y, x in rows.items()}
    neighbours, frechet = _compared(real, features)
    agreement = {y: _agreement(real, rows, y) for y in sorted(rows)}
    classes = {
        y: ClassFidelity(
            compared=_lent(real.train_features, features, y),
            density=neighbours[y][0],
            coverage=neighbours[y][1],
            label_agreement=agreement.get(y, Figure(None, None)),
        )
        for y in neighbours
    }
    return Fidelity(
        density=_mean(c.density for c in classes.values()),
        coverage=_mean(c.coverage for c in classes.values()),
        frechet=frechet,
        label_agreement=_mean(agreement.values()),
        accuracy=_accuracy(real, rows),
        novelty=_mean(_novelty(real, rows, y) for y in sorted(rows)),
        classes=classes,
    )


def balanced_accuracy(net: Classifier, spec: TensorSpec, rows: Mapping[int, Tensor]) -> float | None:
    """The mean over classes of the share of their rows that ``net`` recognises; None without rows."""
    shares = [_recognised(net, spec, x, y) for y, x in rows.items()]
    return sum(shares) / len(shares) if shares else None


def balanced_frechet(first: Mapping[int, Tensor], second: Mapping[int, Tensor]) -> float | None:
    """The Fréchet distance of two sets of features by class, where every class of a side has the same mass."""
    if not first or not second:
        return None
    sides = [torch.cat([*side.values()]) for side in (first, second)]
    masses = [torch.cat([torch.full((len(f),), 1 / len(f)) for f in side.values()]) for side in (first, second)]
    return frechet_distance(sides[0], sides[1], masses[0].to(sides[0].device), masses[1].to(sides[1].device))


def _compared(real: RealSide, features: Mapping[int, Tensor]) -> tuple[dict[int, tuple[Figure, Figure]], Figure]:
    """Density and coverage of each class that is held out, and the Fréchet distance, on subsets of equal sizes."""
    found: dict[int, list[tuple[Figure, Figure]]] = {y: [] for y in real.held_out_features}
    distances = []
    for number in range(SUBSETS):
        generator = torch_generator(real.seed, "fidelity", "subset", number)
        sides: list[dict[int, Tensor]] = [{}, {}]
        for y in sorted({*features, *real.train_features}):
            lent = _lent(real.train_features, features, y)
            for side, source in zip(sides, (features, real.train_features), strict=True):
                if y in source:
                    chosen = torch.randperm(len(source[y]), generator=generator)[:lent]
                    side[y] = source[y][chosen.to(source[y].device)]
        for y, reference in real.held_out_features.items():
            found[y].append(_density_coverage(reference, sides[0].get(y), sides[1].get(y)))
        held = real.held_out_features
        distances.append(Figure(balanced_frechet(sides[0], held), balanced_frechet(sides[1], held)))
    averaged = {y: (_mean(f[0] for f in figures), _mean(f[1] for f in figures)) for y, figures in found.items()}
    return averaged, _mean(distances)


def _density_coverage(held_out: Tensor, synthetic: Tensor | None, train: Tensor | None) -> tuple[Figure, Figure]:
    """Density and coverage of a class; where no synthetic rows are, nothing is covered and density says nothing."""
    of_real = None if train is None else density_and_coverage(held_out, train)
    found = None if synthetic is None else density_and_coverage(held_out, synthetic)
    coverage = found.coverage if found else 0.0 if synthetic is None and len(held_out) > 1 else None
    return (
        Figure(found.density if found else None, of_real.density if of_real else None),
        Figure(coverage, of_real.coverage if of_real else None),
    )


def _agreement(real: RealSide, rows: Mapping[int, Tensor], y: int) -> Figure:
    if real.spec.num_classes == 1:
        return Figure(None, None)
    held = real.held_out.get(y)
    floor = None if held is None else _recognised(real.judge, real.spec, held, y)
    return Figure(_recognised(real.judge, real.spec, rows[y], y), floor)


def _accuracy(real: RealSide, rows: Mapping[int, Tensor]) -> Figure:
    """Of the encoder's design, trained as the encoder was; the encoder itself is the floor."""
    if real.spec.num_classes == 1 or not rows:
        return Figure(None, None)
    learner = fit_classifier(real.spec, _joined(rows, real.spec), real.learner, real.seed)
    value, floor = (balanced_accuracy(net, real.spec, real.held_out) for net in (learner, real.encoder))
    return Figure(value, floor)


def _novelty(real: RealSide, rows: Mapping[int, Tensor], y: int) -> Figure:
    seen, held = real.train.get(y), real.held_out.get(y)
    if seen is None or held is None:
        return Figure(None, None)
    return Figure(chance_of_larger(nearest_distances(rows[y], seen), nearest_distances(held, seen)), 0.5)


def _recognised(net: Classifier, spec: TensorSpec, x: Tensor, y: int) -> float:
    return float((net.predict(_shaped(x, spec)) == y).double().mean())


def _lent(train: Mapping[int, Tensor], synthetic: Mapping[int, Tensor], y: int) -> int:
    """Rows of a class that each side lends: all of the smaller; where one side has none, all of the other."""
    return min((len(side[y]) for side in (train, synthetic) if y in side), default=0)


def _mean(figures: Iterable[Figure]) -> Figure:
    """The means over the figures that have a value and a floor; of what there is where none has both."""
    listed = list(figures)
    both = [f for f in listed if f.value is not None and f.floor is not None] or listed
    values = [f.value for f in both if f.value is not None]
    floors = [f.floor for f in both if f.floor is not None]
    return Figure(sum(values) / len(values) if values else None, sum(floors) / len(floors) if floors else None)


def _by_class(rows: Batch, seed: int, part: str) -> dict[int, Tensor]:
    """The flat rows of each class in order of ``y``, at most 2,000 of each, in a random order that the seed decides."""
    generator = torch_generator(seed, "fidelity", part)
    order = torch.randperm(len(rows.y), generator=generator).to(rows.y.device)
    shuffled = rows.y[order]
    found: dict[int, Tensor] = {}
    for y in sorted(int(label) for label in torch.unique(rows.y) if label >= 0):
        found[y] = rows.x[order[shuffled == y][:LARGEST_CLASS]].flatten(1).float()
    return found


def _joined(rows: Mapping[int, Tensor], spec: TensorSpec) -> Batch:
    """The rows of all classes as a batch."""
    if not rows:
        return Batch(torch.empty(0, *spec.shape), torch.empty(0, dtype=torch.int64))
    y = torch.cat([torch.full((len(x),), label, dtype=torch.int64, device=x.device) for label, x in rows.items()])
    return Batch(_shaped(torch.cat([*rows.values()]), spec), y)


def _shaped(x: Tensor, spec: TensorSpec) -> Tensor:
    return x.reshape(-1, *spec.shape)
