"""How like real rows synthetic ones are, how much of the real variety they hold, and whether they are what they say.

Every figure stands beside a *floor*: what real training rows score in the place of the synthetic ones, against the same
held-out real rows (for label_agreement and classifier_score, what the held-out rows themselves score; for novelty,
1/2). No figure means much without it, since all of them depend on the net, the data and the number of rows. The rows
are encoded as a model sees them. Classes count the same, however many rows each has.

Rows that an encoder was trained on lie in its features where other rows do not. So features are taken twice, each time
by an encoder that was trained on one half of the training rows, and the other half, which it has not seen, gives the
floor: fresh real rows score as it does, in the mean. Small differences to the floor say nothing.

=================  ====================================================================================================
density, coverage  in the features of encoders trained on real training rows, within each class (arXiv:2002.09797)
frechet            the squared Fréchet distance in the same features (arXiv:1706.08500)
label_agreement    share of rows that a second classifier, trained on real training rows, gives the label they carry
classifier_score   the Inception score with our own classifier, the second one: of 1 to the number of classes
                   (arXiv:1606.03498, section 4); the held-out rows score the floor
accuracy           of a classifier trained on the synthetic rows alone, on held-out real rows (arXiv:1905.10887)
novelty            chance that a synthetic row is farther from its nearest training row than a held-out one is from its
                   own: 0 for copies, 1/2 for real rows, 1 for noise (after arXiv:2004.05675)
=================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from augment._devices import cpu_threads
from augment._seeding import derive_seed, torch_generator
from augment.worth._chosen_rows import rows_by_class
from augment.worth._classifier import ENCODER, JUDGE, Classifier, Design, fit_classifier
from augment.worth._classifier_score import balanced_score
from augment.worth._frechet import frechet_distance
from augment.worth._neighbours import chance_of_larger, default_radii, density_and_coverage, nearest_distances
from models._contract import Batch, TensorSpec

SUBSETS = 5  # of equal size and for each encoder, over whose draws figures are averaged


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
    classifier_score: Figure
    accuracy: Figure
    novelty: Figure
    classes: Mapping[int, ClassFidelity]


@dataclass(frozen=True)
class Fold:
    """An encoder, and the features ``(N, 64)`` by class of real rows that it has not seen."""

    encoder: Classifier
    train: Mapping[int, Tensor]
    held_out: Mapping[int, Tensor]


@dataclass(frozen=True)
class RealSide:
    """Real training and held-out rows ``(N, size)`` by class, with the nets that were trained on the former.

    ``learned`` is the floor of the accuracy, null where none is wanted, and ``learner`` its design; :func:`learn_real`
    makes all.
    """

    spec: TensorSpec
    train: Mapping[int, Tensor]
    held_out: Mapping[int, Tensor]
    folds: Sequence[Fold]
    judge: Classifier
    learned: Classifier | None
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
    seen, held = (rows_by_class(rows, seed, part) for rows, part in ((train, "train"), (held_out, "held-out")))
    return learn_from(spec, seen, held, seed, encoder, judge)


def learn_from(
    spec: TensorSpec,
    train: Mapping[int, Tensor],
    held_out: Mapping[int, Tensor],
    seed: int,
    encoder: Design = ENCODER,
    judge: Design = JUDGE,
    *,
    accuracy: bool = True,
) -> RealSide:
    """The same of rows that are chosen already, flat ``(N, size)`` by class in a random order.

    Without ``accuracy`` its floor is not learned.

    Raises:
        ValueError: there are no training rows.
    """
    with cpu_threads(1):
        return RealSide(
            spec=spec,
            train=train,
            held_out=held_out,
            folds=_folds(spec, train, held_out, encoder, seed),
            judge=fit_classifier(spec, joined(train, spec), judge, derive_seed(seed, "judge")),
            learned=fit_classifier(spec, joined(train, spec), encoder, seed) if accuracy else None,
            learner=encoder,
            seed=seed,
        )


def _folds(
    spec: TensorSpec, train: Mapping[int, Tensor], held_out: Mapping[int, Tensor], design: Design, seed: int
) -> list[Fold]:
    """Every second training row of each class, then the others; one alone where no class has two rows."""
    first, second = ({y: x[half::2] for y, x in train.items() if len(x) > half} for half in (0, 1))
    found = []
    for number, (own, other) in enumerate(((first, second), (second, first))):
        if own or not number:
            net = fit_classifier(spec, joined(own, spec), design, derive_seed(seed, "encoder", number))
            found.append(Fold(net, _features(net, other, spec), _features(net, held_out, spec)))
    return found


def measure_fidelity(real: RealSide, synthetic: Batch) -> Fidelity:
    """All figures of ``synthetic``, which is bounded as the real rows are; the same for the same arguments.

    Density, coverage and the Fréchet distance depend on the number of rows. For them both sides lend as many rows of a
    class as the smaller has, and what the larger side lends is drawn five times for each encoder. A figure of all
    classes is the mean over those that have both a value and a floor.
    """
    with cpu_threads(1):
        return _measured(real, synthetic)


def _measured(real: RealSide, synthetic: Batch) -> Fidelity:
    rows = rows_by_class(synthetic, real.seed, "synthetic")
    density, coverage, frechet = _compared(real, rows)
    agreement = {y: _agreement(real, rows, y) for y in sorted(rows)}
    classes = {
        y: ClassFidelity(
            compared=_least_lent(real, rows, y),
            density=density[y],
            coverage=coverage[y],
            label_agreement=agreement.get(y, Figure(None, None)),
        )
        for y in real.held_out
    }
    return Fidelity(
        density=mean_figure(density.values()),
        coverage=mean_figure(coverage.values()),
        frechet=frechet,
        label_agreement=mean_figure(agreement.values()),
        classifier_score=_classifier_score(real, rows),
        accuracy=_accuracy(real, rows),
        novelty=mean_figure(_novelty(real, rows, y) for y in sorted(rows)),
        classes=classes,
    )


@dataclass(frozen=True)
class Diversity:
    """Density and coverage by class ``y``, of ``compared`` rows of either side at a time, and the Fréchet distance."""

    density: Mapping[int, Figure]
    coverage: Mapping[int, Figure]
    frechet: Figure
    compared: Mapping[int, int]


def measure_diversity(real: RealSide, synthetic: Batch) -> Diversity:
    """The part of :func:`measure_fidelity` that says how much of the real variety the rows hold; no net is trained."""
    with cpu_threads(1):
        rows = rows_by_class(synthetic, real.seed, "synthetic")
        density, coverage, frechet = _compared(real, rows)
        return Diversity(density, coverage, frechet, {y: _least_lent(real, rows, y) for y in real.held_out})


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


def _compared(real: RealSide, rows: Mapping[int, Tensor]) -> tuple[dict[int, Figure], dict[int, Figure], Figure]:
    """Density and coverage of each class that is held out, and the Fréchet distance, on subsets of equal sizes."""
    found: dict[int, list[tuple[Figure, Figure]]] = {y: [] for y in real.held_out}
    distances = []
    for number, fold in enumerate(real.folds):
        features = _features(fold.encoder, rows, real.spec)
        radii = {y: default_radii(reference) for y, reference in fold.held_out.items()}  # the same for all subsets
        for subset in range(SUBSETS):
            generator = torch_generator(real.seed, "fidelity", "subset", number, subset)
            drawn, floor = _subsets(features, fold.train, generator)
            for y, reference in fold.held_out.items():
                found[y].append(_density_coverage(reference, radii[y], drawn.get(y), floor.get(y)))
            distances.append(Figure(balanced_frechet(drawn, fold.held_out), balanced_frechet(floor, fold.held_out)))
    density, coverage = ({y: mean_figure(f[part] for f in figures) for y, figures in found.items()} for part in (0, 1))
    return density, coverage, mean_figure(distances)


def _subsets(
    synthetic: Mapping[int, Tensor], train: Mapping[int, Tensor], generator: torch.Generator
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """What each side lends of each class, drawn anew."""
    sides: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})
    for y in sorted({*synthetic, *train}):
        lent = _lent(train, synthetic, y)
        for side, source in zip(sides, (synthetic, train), strict=True):
            if y in source:
                chosen = torch.randperm(len(source[y]), generator=generator)[:lent]
                side[y] = source[y][chosen.to(source[y].device)]
    return sides


def _density_coverage(
    held_out: Tensor, radii: Tensor | None, synthetic: Tensor | None, train: Tensor | None
) -> tuple[Figure, Figure]:
    """Density and coverage of a class; where no synthetic rows are, nothing is covered and density says nothing."""
    of_real = None if train is None else density_and_coverage(held_out, train, radii=radii)
    found = None if synthetic is None else density_and_coverage(held_out, synthetic, radii=radii)
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


def _classifier_score(real: RealSide, rows: Mapping[int, Tensor]) -> Figure:
    """Of as many rows of a class as both sides have, since few rows of a set score less than many."""
    if real.spec.num_classes == 1:
        return Figure(None, None)
    sides = ({y: x[: _lent(real.held_out, rows, y)] for y, x in side.items()} for side in (rows, real.held_out))
    value, floor = (balanced_score(real.judge, real.spec, side) for side in sides)
    return Figure(value, floor)


def _accuracy(real: RealSide, rows: Mapping[int, Tensor]) -> Figure:
    """Of a classifier of the encoders' design; one that was trained on all real training rows is the floor."""
    if real.spec.num_classes == 1 or not rows or real.learned is None:
        return Figure(None, None)
    learner = fit_classifier(real.spec, joined(rows, real.spec), real.learner, real.seed)
    value, floor = (balanced_accuracy(net, real.spec, real.held_out) for net in (learner, real.learned))
    return Figure(value, floor)


def _novelty(real: RealSide, rows: Mapping[int, Tensor], y: int) -> Figure:
    seen, held = real.train.get(y), real.held_out.get(y)
    if seen is None or held is None:
        return Figure(None, None)
    return Figure(chance_of_larger(nearest_distances(rows[y], seen), nearest_distances(held, seen)), 0.5)


def _recognised(net: Classifier, spec: TensorSpec, x: Tensor, y: int) -> float:
    return float((net.predict(_shaped(x, spec)) == y).double().mean())


def _least_lent(real: RealSide, synthetic: Mapping[int, Tensor], y: int) -> int:
    lent = (_lent(fold.train, synthetic, y) for fold in real.folds if y in fold.train)
    return min(lent, default=_lent({}, synthetic, y))


def _lent(train: Mapping[int, Tensor], synthetic: Mapping[int, Tensor], y: int) -> int:
    """Rows of a class that each side lends: all of the smaller; where one side has none, all of the other."""
    return min((len(side[y]) for side in (train, synthetic) if y in side), default=0)


def mean_figure(figures: Iterable[Figure]) -> Figure:
    """The means over the figures that have a value and a floor; of what there is where none has both."""
    listed = list(figures)
    both = [f for f in listed if f.value is not None and f.floor is not None] or listed
    values = [f.value for f in both if f.value is not None]
    floors = [f.floor for f in both if f.floor is not None]
    return Figure(sum(values) / len(values) if values else None, sum(floors) / len(floors) if floors else None)


def joined(rows: Mapping[int, Tensor], spec: TensorSpec) -> Batch:
    """The rows of all classes as a batch."""
    if not rows:
        return Batch(torch.empty(0, *spec.shape), torch.empty(0, dtype=torch.int64))
    y = torch.cat([torch.full((len(x),), label, dtype=torch.int64, device=x.device) for label, x in rows.items()])
    return Batch(_shaped(torch.cat([*rows.values()]), spec), y)


def _features(net: Classifier, rows: Mapping[int, Tensor], spec: TensorSpec) -> dict[int, Tensor]:
    return {y: net.features(_shaped(x, spec)) for y, x in rows.items()}


def _shaped(x: Tensor, spec: TensorSpec) -> Tensor:
    return x.reshape(-1, *spec.shape)
