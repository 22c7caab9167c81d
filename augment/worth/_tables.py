"""Classifiers of tables, from the columns as they are: boosted trees, and logistic regression.

They stand for what a user of the data would train, so each gets what it handles best: trees take missing values and
categories as such, a linear model takes standardised numbers, indicators of what is missing, and a 0 or 1 for each
category. Their settings are fixed, so that sets of rows are compared and not searches for settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from augment._features import feature_name, names, profile_of
from augment._seeding import derive_seed
from augment.schema import DatasetSchema
from augment.worth._scores import Floats, Labels

if TYPE_CHECKING:
    import pandas as pd

Categories = Mapping[str, Sequence[str]]  # by column, of the columns that hold names rather than numbers

# Chosen on validation rows of Adult, mammography and German credit. With 40 to 100 training rows of the scarce class
# average precision is 4 points above that of LightGBM's defaults and the log loss 40 % below; with 25 rows of each
# class average precision is 8 points above.
ROUNDS = 100  # of boosting, for every set of rows
TREES = {
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_child_samples": 5,
    "lambda_l2": 2.0,
    # what a category needs to be told from others; the defaults (100 rows, 10) tell few in small tables
    "min_data_per_group": 10,
    "cat_smooth": 5.0,
    # a seed is to train another model, as another draw of the rows would
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
}
QUIET_AND_REPEATABLE = {"verbose": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}


class Predictor(Protocol):
    """What :meth:`Learner.fit` gives."""

    def probabilities(self, frame: pd.DataFrame) -> Floats:
        """``(N, K)`` for rows of :func:`table_features`; K classes, of which those never seen have 0. Rows sum to 1."""


class Learner(Protocol):
    """A way to learn the classes of a table's rows."""

    def fit(self, frame: pd.DataFrame, y: Labels, weight: Floats, seed: int) -> Predictor:
        """Learn from rows of :func:`table_features` of the classes ``y`` ``(N,)``, which count as ``weight`` says.

        Rows without a class (-1) or without weight are left out.

        Raises:
            ValueError: no row is left.
        """


def known_categories(rows: pa.Table | pa.RecordBatch, schema: DatasetSchema) -> dict[str, list[str]]:
    """The categories that occur in ``rows``, the real training rows, of every column that holds names.

    A column holds names where its kind measures no number of a value.
    """
    texts = names(rows, schema)
    empty = rows.slice(0, 0)
    return {
        column.name: sorted(pc.unique(texts[column.name].drop_null()).to_pylist())
        for column in schema.features
        if not profile_of(column).inspect(_whole(empty.column(column.name)), None).measures
    }


def table_features(rows: pa.Table | pa.RecordBatch, schema: DatasetSchema, categories: Categories) -> pd.DataFrame:
    """The feature columns of rows as their kinds count them: numbers as floats, names as pandas categoricals.

    Missing is NaN, and so are infinite numbers and names that ``categories``, of the real training rows, do not have.
    """
    import pandas as pd

    texts = names(rows, schema)
    found: dict[str, Any] = {}
    for column in schema.features:
        if column.name in categories:
            listed = list(categories[column.name])
            codes = pc.fill_null(pc.index_in(texts[column.name], value_set=pa.array(listed, pa.string())), -1)
            dtype = pd.CategoricalDtype(pd.Index(listed, dtype=object))
            found[feature_name(column.name, "")] = pd.Categorical.from_codes(np.asarray(codes), dtype=dtype)
            continue
        for suffix, numbers in profile_of(column).inspect(_whole(rows.column(column.name)), None).measures.items():
            found[feature_name(column.name, suffix)] = np.where(np.isfinite(numbers), numbers, np.nan)
    return pd.DataFrame(found, index=pd.RangeIndex(rows.num_rows))


class Matrix(NamedTuple):
    """A frame as numbers ``(N, F)``; the places of categories, and NaN for missing, in the columns ``is_name``."""

    values: Floats
    is_name: NDArray[np.bool_]


def as_matrix(frame: pd.DataFrame) -> Matrix:
    """The numbers of a frame of :func:`table_features`."""
    import pandas as pd

    is_name = np.array([isinstance(dtype, pd.CategoricalDtype) for dtype in frame.dtypes], dtype=np.bool_)
    values = np.empty(frame.shape)
    for place, name in enumerate(frame.columns):
        values[:, place] = frame[name].cat.codes if is_name[place] else frame[name]
        if is_name[place]:
            values[values[:, place] < 0, place] = np.nan
    return Matrix(values, is_name)


@dataclass(frozen=True)
class BoostedTrees:
    """LightGBM, with as many rounds whatever it learns from; ``num_classes`` is K of the probabilities."""

    num_classes: int

    def fit(self, frame: pd.DataFrame, y: Labels, weight: Floats, seed: int) -> Predictor:
        """Trees of all classes; with two of them one tree a round, else one a class."""
        import lightgbm

        rows = _Rows.of(frame, y, weight)
        if len(rows.present) == 1:
            return _Fitted(self.num_classes, rows.present, lambda matrix: np.ones((len(matrix.values), 1)))
        several = {"objective": "multiclass", "num_class": len(rows.present)}
        objective = {"objective": "binary"} if len(rows.present) == 2 else several
        settings = TREES | QUIET_AND_REPEATABLE | objective | {"seed": derive_seed(seed, "trees") % 2**31}
        columns = [int(place) for place in np.flatnonzero(rows.matrix.is_name)]
        data = lightgbm.Dataset(rows.matrix.values, rows.y, weight=rows.weight, categorical_feature=columns)
        booster = lightgbm.train(settings, data, num_boost_round=ROUNDS)

        def predict(matrix: Matrix) -> Floats:
            found = np.asarray(booster.predict(matrix.values, num_threads=1))
            return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found

        return _Fitted(self.num_classes, rows.present, predict)


@dataclass(frozen=True)
class LogisticRegression:
    """Scikit-learn's; the seed changes nothing, since there is one best fit."""

    num_classes: int

    def fit(self, frame: pd.DataFrame, y: Labels, weight: Floats, seed: int) -> Predictor:
        """One linear function a class."""
        from sklearn import linear_model
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        rows = _Rows.of(frame, y, weight)
        if len(rows.present) == 1:
            return _Fitted(self.num_classes, rows.present, lambda matrix: np.ones((len(matrix.values), 1)))
        encode = _LinearInputs(rows.matrix, rows.weight)
        model = linear_model.LogisticRegression(max_iter=1_000, tol=1e-6)
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # a thousand steps are near enough
            model.fit(encode(rows.matrix), rows.y, sample_weight=rows.weight)
        return _Fitted(self.num_classes, rows.present, lambda matrix: model.predict_proba(encode(matrix)))


LEARNERS: dict[str, Callable[[int], Learner]] = {
    "boosted trees": BoostedTrees,
    "logistic regression": LogisticRegression,
}


class _Rows(NamedTuple):
    """Rows to learn from; ``y`` are places in ``present``, the classes that there are."""

    matrix: Matrix
    y: Labels
    weight: Floats
    present: Labels

    @classmethod
    def of(cls, frame: pd.DataFrame, y: Labels, weight: Floats) -> _Rows:
        matrix, kept = as_matrix(frame), (y >= 0) & (weight > 0)
        if not kept.any():
            raise ValueError("a classifier needs rows with a class and a weight to learn from")
        present, places = np.unique(y[kept], return_inverse=True)
        return cls(Matrix(matrix.values[kept], matrix.is_name), places, weight[kept], present)


@dataclass(frozen=True)
class _Fitted:
    """Probabilities of all classes from those of the classes that were seen."""

    num_classes: int
    present: Labels
    predict: Callable[[Matrix], Floats]

    def probabilities(self, frame: pd.DataFrame) -> Floats:
        found = np.zeros((len(frame), self.num_classes))
        if len(frame):
            found[:, self.present] = self.predict(as_matrix(frame))
        return found


class _LinearInputs:
    """Numbers for a linear model: imputed by medians and standardised, what is missing, and which category it is."""

    def __init__(self, matrix: Matrix, weight: Floats) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        self._imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        self._scaler = StandardScaler()
        self._encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self._some = not matrix.is_name.all(), bool(matrix.is_name.any())
        if self._some[0]:
            self._scaler.fit(self._imputer.fit_transform(matrix.values[:, ~matrix.is_name]), sample_weight=weight)
        if self._some[1]:
            self._encoder.fit(matrix.values[:, matrix.is_name])

    def __call__(self, matrix: Matrix) -> Floats:
        parts = [np.empty((len(matrix.values), 0))]
        if self._some[0]:
            parts.append(self._scaler.transform(self._imputer.transform(matrix.values[:, ~matrix.is_name])))
        if self._some[1]:
            parts.append(self._encoder.transform(matrix.values[:, matrix.is_name]))  # missing is a category
        return np.concatenate(parts, axis=1)


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
