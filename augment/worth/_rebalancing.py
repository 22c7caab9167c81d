"""What can be done about scarce classes of a table without a generator, alone or together with synthetic rows.

Each method takes real rows, and synthetic ones where there are any, and gives a fitted classifier:

===================  ==================================================================================================
plain                the rows and weights as they are
class weights        every class has the same mass, real and synthetic together
random oversampling  rows of each class are repeated until it has as many as the largest
SMOTE                rows are made between neighbours of a class instead (arXiv:1106.1813), as many
threshold moving     the plain classifier, each probability over the share of its class in what was learnt from
===================  ==================================================================================================

Where rows are added to real ones beside synthetic ones, each class keeps the mass that its real rows had: half of the
class, where the weights are those of a published dataset. Without synthetic rows all classes get the same mass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from augment._seeding import derive_seed, numpy_generator
from augment.worth._scores import Floats, Labels
from augment.worth._tables import Learner, Matrix, Predictor, as_matrix

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 5  # of SMOTE, or all others of a class where there are fewer


class Rows(NamedTuple):
    """Rows of :func:`augment.worth._tables.table_features`; their classes ``(N,)``, all known, and weights ``(N,)``."""

    frame: pd.DataFrame
    y: Labels
    weight: Floats


Method = Callable[[Learner, Rows, Rows | None, int], Predictor]


def plain(learner: Learner, real: Rows, synthetic: Rows | None, seed: int) -> Predictor:
    """What the learner makes of the rows as they are."""
    return learner.fit(*_together(real, synthetic), seed)


def class_weighted(learner: Learner, real: Rows, synthetic: Rows | None, seed: int) -> Predictor:
    """The same with all classes of one mass; within a class rows count as before, and all of them together too."""
    rows = _together(real, synthetic)
    mass = _mass(rows)
    equal = np.where(mass > 0, rows.weight.sum() / max(int((mass > 0).sum()), 1), 0)
    return learner.fit(*_with_mass(rows, equal), seed)


def oversampled(learner: Learner, real: Rows, synthetic: Rows | None, seed: int) -> Predictor:
    """The same after rows of the smaller classes are drawn once more until all classes have as many."""
    draw = numpy_generator(seed, "worth", "oversampling")
    places = [draw.choice(np.flatnonzero(real.y == y), more) for y, more in _missing_rows(real.y).items()]
    chosen = np.concatenate([np.empty(0, np.int64), *places])
    grown = _grown(real, real.frame.iloc[chosen], real.y[chosen], synthetic)
    return plain(learner, grown, synthetic, seed)


def smote(learner: Learner, real: Rows, synthetic: Rows | None, seed: int) -> Predictor:
    """The same with rows between neighbours of their class; a class of one row has no neighbours and is repeated."""
    frame, y = smote_rows(real, seed)
    return plain(learner, _grown(real, frame, y, synthetic), synthetic, seed)


def threshold_moved(learner: Learner, real: Rows, synthetic: Rows | None, seed: int) -> Predictor:
    """The plain classifier asked under equal shares of the classes: p(y|x) / p(y), over its sum."""
    mass = _mass(_together(real, synthetic))
    return _Moved(plain(learner, real, synthetic, seed), mass / mass.sum())


METHODS: dict[str, Method] = {
    "plain": plain,
    "class weights": class_weighted,
    "random oversampling": oversampled,
    "SMOTE": smote,
    "threshold moving": threshold_moved,
}


@dataclass(frozen=True)
class _Moved:
    fitted: Predictor
    prior: Floats

    def probabilities(self, frame: pd.DataFrame) -> Floats:
        found = self.fitted.probabilities(frame)
        prior = np.append(self.prior, np.zeros(found.shape[1] - len(self.prior)))
        found = np.divide(found, prior, out=np.zeros_like(found), where=prior > 0)
        moved: Floats = found / found.sum(axis=1, keepdims=True)
        return moved


def smote_rows(rows: Rows, seed: int) -> tuple[pd.DataFrame, Labels]:
    """The rows that SMOTE adds to those of each class but the largest, and their classes.

    SMOTENC where there are names beside numbers, SMOTEN where there are names alone. Distances are those of
    standardised numbers, in which missing ones are medians; missing names are a category of their own.
    """
    matrix = as_matrix(rows.frame)
    values, restore = _complete(matrix, rows.frame)
    made, classes = [np.empty((0, values.shape[1]))], [np.empty(0, np.int64)]
    for y, more in _missing_rows(rows.y).items():
        made.append(_between_neighbours(values, matrix.is_name, rows.y, y, more, seed))
        classes.append(np.full(more, y))
    return _as_frame(restore(np.concatenate(made)), rows.frame), np.concatenate(classes)


def _between_neighbours(
    values: Floats, is_name: NDArray[np.bool_], labels: Labels, y: int, more: int, seed: int
) -> Floats:
    """``more`` rows of the class ``y``, from values without gaps."""
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
    from threadpoolctl import threadpool_limits

    own = np.flatnonzero(labels == y)
    if len(own) == 1:
        return values[own].repeat(more, axis=0)
    settings: dict[str, Any] = {
        "sampling_strategy": {y: len(own) + more},
        "k_neighbors": min(NEIGHBOURS, len(own) - 1),
        "random_state": derive_seed(seed, "worth", "smote", y) % 2**32,
    }
    if is_name.all():
        sampler = SMOTEN(**settings)
    elif is_name.any():
        sampler = SMOTENC(np.flatnonzero(is_name).tolist(), **settings)
    else:
        sampler = SMOTE(**settings)
    with threadpool_limits(1):
        grown, _ = sampler.fit_resample(values, labels)
    added: Floats = np.asarray(grown, dtype=np.float64)[len(values) :]
    return added


def _complete(matrix: Matrix, frame: pd.DataFrame) -> tuple[Floats, Callable[[Floats], Floats]]:
    """The values ``(N, F)`` standardised and without gaps, and the way back, in which missing names are NaN again."""
    values, missing = matrix.values.copy(), np.isnan(matrix.values)
    centre, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    gap = np.full(values.shape[1], np.nan)  # the place of the category "missing"
    for place, is_name in enumerate(matrix.is_name):
        there = values[~missing[:, place], place]
        if is_name:
            gap[place] = len(frame.iloc[:, place].cat.categories)
            values[missing[:, place], place] = gap[place]
        elif len(there):
            values[missing[:, place], place] = np.median(there)
            centre[place], scale[place] = there.mean(), there.std() or 1.0
        else:
            values[:, place] = 0

    def restore(made: Floats) -> Floats:
        return np.where(made == gap, np.nan, made * scale + centre)

    return (values - centre) / scale, restore


def _as_frame(values: Floats, like: pd.DataFrame) -> pd.DataFrame:
    """A frame with the columns of ``like``, from numbers as :func:`as_matrix` gives them."""
    import pandas as pd

    found: dict[str, Any] = {}
    for place, name in enumerate(like.columns):
        dtype = like[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            codes = np.nan_to_num(values[:, place], nan=-1).astype(np.int64)
            found[name] = pd.Categorical.from_codes(codes, dtype=dtype)
        else:
            found[name] = values[:, place]
    return pd.DataFrame(found, index=pd.RangeIndex(len(values)))


def _missing_rows(y: Labels) -> dict[int, int]:
    """How many rows each class that occurs lacks to the largest."""
    classes, counts = np.unique(y, return_counts=True)
    return {int(c): int(counts.max() - n) for c, n in zip(classes, counts, strict=True) if n < counts.max()}


def _grown(real: Rows, frame: pd.DataFrame, y: Labels, synthetic: Rows | None) -> Rows:
    """Real rows and what was made of them, with the masses that the module promises."""
    before = _mass(real)
    counts = np.bincount(real.y, minlength=len(before))
    typical = np.divide(before, counts, out=np.zeros_like(before), where=counts > 0)
    rows = _together(real, Rows(frame, y, typical[y]))
    equal = np.where(before > 0, len(rows.y) / max(int((before > 0).sum()), 1), 0)
    return _with_mass(rows, equal if synthetic is None else before)


def _with_mass(rows: Rows, mass: Floats) -> Rows:
    """The same rows with other weights, in proportion within each class, that sum to ``mass`` ``(classes,)``."""
    before = _mass(rows)
    factor = np.divide(mass, before, out=np.zeros_like(before), where=before > 0)
    return rows._replace(weight=rows.weight * factor[rows.y])


def _mass(rows: Rows) -> Floats:
    """The sum of the weights of each class, up to the last that occurs."""
    return np.bincount(rows.y, weights=rows.weight).astype(np.float64)


def _together(real: Rows, synthetic: Rows | None) -> Rows:
    import pandas as pd

    if synthetic is None:
        return real
    frame = pd.concat([real.frame, synthetic.frame], ignore_index=True)
    return Rows(frame, np.append(real.y, synthetic.y), np.append(real.weight, synthetic.weight))
