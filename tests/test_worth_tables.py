"""Classifiers of tables and what helps them without a generator: what they must survive, keep and not invent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from _judged_sets import IMAGES, TABLE, image_rows, replaced, table_rows
from numpy.typing import NDArray

from augment.columns._pictures import IMAGE_MEASURES
from augment.schema import ColumnSchema, DatasetSchema, class_indices
from augment.worth import _rebalancing
from augment.worth._rebalancing import METHODS, Rows, smote_rows
from augment.worth._scores import score
from augment.worth._tables import LEARNERS, BoostedTrees, Learner, LogisticRegression, known_categories, table_features

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

learners = pytest.mark.parametrize("learner", [kind(3) for kind in LEARNERS.values()], ids=[*LEARNERS])
methods = pytest.mark.parametrize("method", [*METHODS])
SHADES = ["amber", "blue", "coral", "drab"]


def made_rows(counts: tuple[int, ...], seed: int = 0, *, numbers: bool = True, names: bool = True) -> Rows:
    """Rows whose columns tell the class, with noise; some numbers and names are missing."""
    draw = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    n = len(y)
    columns: dict[str, Any] = {}
    if numbers:
        columns["feature.size"] = np.where(draw.random(n) < 0.1, np.nan, 2.0 * y + draw.normal(0, 1, n))
        columns["feature.weight"] = 1000 * draw.normal(0, 1, n)
    if names:
        shade = np.where(draw.random(n) < 0.7, y % 4, draw.integers(-1, 4, n))
        dtype = pd.CategoricalDtype(pd.Index(SHADES, dtype=object))
        columns["feature.shade"] = pd.Categorical.from_codes(shade, dtype=dtype)
        ripe = pd.CategoricalDtype(pd.Index(["no", "yes"], dtype=object))
        columns["feature.ripe"] = pd.Categorical.from_codes(draw.integers(0, 2, n), dtype=ripe)
    return Rows(pd.DataFrame(columns), y, np.ones(n))


class Memory:
    """A learner that remembers what it was given."""

    def __init__(self) -> None:
        self.rows: Rows | None = None

    def fit(self, frame: pd.DataFrame, y: Labels, weight: Floats, seed: int) -> Memory:
        self.rows = Rows(frame, y, weight)
        return self

    def probabilities(self, frame: pd.DataFrame) -> Floats:
        return np.tile([0.7, 0.2, 0.1], (len(frame), 1))


def given_to_learner(method: str, real: Rows, synthetic: Rows | None = None, seed: int = 0) -> Rows:
    memory = Memory()
    METHODS[method](memory, real, synthetic, seed)
    assert memory.rows is not None
    return memory.rows


def masses(rows: Rows) -> list[float]:
    return [float(mass) for mass in np.bincount(rows.y, weights=rows.weight)]


# Features


def test_numbers_become_floats_and_names_categories_of_the_training_rows() -> None:
    rows = table_rows(20, 1)
    frame = table_features(rows, TABLE, known_categories(rows, TABLE))
    assert list(frame.columns) == ["feature.size", "feature.count", "feature.shade", "feature.ripe"]
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "float64", "category", "category"]
    assert frame["feature.size"].isna().tolist() == [i % 10 == 3 for i in range(20)]
    assert frame["feature.count"].tolist() == rows["count"].to_pylist()
    assert frame["feature.shade"].tolist() == rows["shade"].to_pylist()


def test_categories_that_no_training_row_has_are_missing() -> None:
    train, other = table_rows(20, 1), table_rows(4, 2)
    other = replaced(other, "shade", ["green", "mauve", None, "red"])
    frame = table_features(other.to_batches()[0], TABLE, known_categories(train, TABLE))
    assert frame["feature.shade"].cat.categories.tolist() == ["green", "red"]
    assert frame["feature.shade"].cat.codes.tolist() == [0, -1, -1, 1]


def test_infinite_numbers_are_missing() -> None:
    rows = replaced(table_rows(3, 1), "size", [1.0, float("inf"), -float("inf")])
    assert table_features(rows, TABLE, known_categories(rows, TABLE))["feature.size"].isna().tolist() == [0, 1, 1]


def test_whole_numbers_declared_categorical_are_names_and_pictures_are_their_measures() -> None:
    codes = ColumnSchema(name="code", kind="categorical", type="int64", reason="declared")
    schema = DatasetSchema(columns=(codes,), label=None, classes=())
    rows = pa.table({"code": [3, 10, None]}, schema=schema.arrow_schema)
    assert known_categories(rows, schema) == {"code": ["10", "3"]}
    assert table_features(rows, schema, {"code": ["10", "3"]})["feature.code"].cat.codes.tolist() == [1, 0, -1]
    pictures = table_features(image_rows(3, 1), IMAGES, known_categories(image_rows(3, 1), IMAGES))
    assert list(pictures.columns) == [f"feature.image.{name}" for name in IMAGE_MEASURES]


def test_rows_of_a_dataset_go_from_arrow_to_probabilities() -> None:
    train, other = table_rows(80, 1), table_rows(10, 2)
    known = known_categories(train, TABLE)
    y = class_indices(train["fruit"], TABLE, 80)
    real = Rows(table_features(train, TABLE, known), y, np.ones(80))
    for kind in LEARNERS.values():
        for method in METHODS.values():
            found = method(kind(2), real, None, 0).probabilities(table_features(other, TABLE, known))
            assert found.shape == (10, 2)


# Learners


@learners
@methods
def test_probabilities_have_all_classes_and_sum_to_one_with_an_absent_class_too(learner: Learner, method: str) -> None:
    for counts in ((60, 20), (60, 0, 20), (60, 20, 20), (9,), (0, 9), (30, 1, 2)):
        rows = made_rows(counts)
        found = METHODS[method](learner, rows, None, 0).probabilities(rows.frame)
        assert found.shape == (len(rows.y), 3)
        assert found.sum(axis=1) == pytest.approx(1)
        absent = [y for y in range(3) if y >= len(counts) or counts[y] == 0]
        assert (found[:, absent] == 0).all()
        assert METHODS[method](learner, rows, None, 0).probabilities(rows.frame[:0]).shape == (0, 3)


@learners
def test_classes_are_told_apart(learner: Learner) -> None:
    train, other = made_rows((200, 200, 200)), made_rows((100, 100, 100), seed=1)
    fitted = learner.fit(train.frame, train.y, train.weight, 0)
    assert score(fitted.probabilities(other.frame), other.y).balanced_accuracy > 0.8


@learners
def test_missing_values_and_unseen_categories_are_survived(learner: Learner) -> None:
    rows = made_rows((60, 60))
    fitted = learner.fit(rows.frame, rows.y, rows.weight, 0)
    nothing = rows.frame[:3].copy()
    for name in nothing.columns:
        nothing[name] = pd.Series([None] * 3, dtype=nothing[name].dtype)
    assert np.isfinite(fitted.probabilities(nothing)).all()
    never = rows.frame["feature.size"].isna() | (rows.frame["feature.shade"] == "drab")
    some = rows.frame[~never]
    without = learner.fit(some, rows.y[~never], rows.weight[~never], 0)
    assert np.isfinite(without.probabilities(rows.frame)).all()
    empty = rows.frame.assign(**{"feature.size": np.nan})
    assert np.isfinite(learner.fit(empty, rows.y, rows.weight, 0).probabilities(rows.frame)).all()


@learners
@pytest.mark.parametrize(("numbers", "names"), [(True, False), (False, True)])
def test_tables_of_numbers_alone_and_of_names_alone_are_learned(learner: Learner, numbers: bool, names: bool) -> None:
    train, other = (made_rows((100, 100, 100), seed, numbers=numbers, names=names) for seed in (0, 1))
    fitted = learner.fit(train.frame, train.y, train.weight, 0)
    assert score(fitted.probabilities(other.frame), other.y).balanced_accuracy > 0.6


@learners
def test_rows_without_a_class_or_a_weight_do_not_count(learner: Learner) -> None:
    rows, other = made_rows((50, 50)), made_rows((20, 20), seed=3)
    y = np.concatenate([rows.y, np.full(20, -1), np.ones(20, np.int64)])
    weight = np.concatenate([rows.weight, np.ones(20), np.zeros(20)])
    more = learner.fit(pd.concat([rows.frame, other.frame], ignore_index=True), y, weight, 0)
    plain = learner.fit(rows.frame, rows.y, rows.weight, 0)
    assert (more.probabilities(other.frame) == plain.probabilities(other.frame)).all()
    with pytest.raises(ValueError, match="needs rows with a class and a weight"):
        learner.fit(rows.frame, rows.y, np.zeros(100), 0)


@learners
def test_weights_act_like_repeated_rows(learner: Learner) -> None:
    rows, other = made_rows((150, 50), seed=1), made_rows((100, 100), seed=2)
    # medians, which fill gaps, take no notice of weights
    frame, held_out = (r.frame.assign(**{"feature.size": r.frame["feature.size"].fillna(1.0)}) for r in (rows, other))
    weight = np.where(rows.y == 1, 3, 1)
    again = frame.loc[np.repeat(np.arange(200), weight)].reset_index(drop=True)
    weighted = learner.fit(frame, rows.y, weight.astype(np.float64), 0)
    repeated = learner.fit(again, np.repeat(rows.y, weight), np.ones(300), 0)
    plain = learner.fit(frame, rows.y, rows.weight, 0)
    gap, shift = (np.abs(weighted.probabilities(held_out) - p.probabilities(held_out)) for p in (repeated, plain))
    if isinstance(learner, LogisticRegression):
        assert gap.max() < 1e-4
    assert gap.mean() < 0.35 * shift.mean()


def test_a_seed_decides_the_trees_and_nothing_else_does() -> None:
    rows, other = made_rows((80, 40)), made_rows((30, 30), seed=1)
    np.random.seed(0)  # noqa: NPY002 what a caller does to the global generator
    first, again, different = (
        BoostedTrees(2).fit(rows.frame, rows.y, rows.weight, seed).probabilities(other.frame) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert np.abs(first - different).mean() > 1e-3


@learners
def test_nothing_is_printed(learner: Learner, capfd: pytest.CaptureFixture[str]) -> None:
    rows = made_rows((8, 3, 2))
    for method in METHODS.values():
        method(learner, rows, None, 0).probabilities(rows.frame)
    assert capfd.readouterr() == ("", "")


# Methods without a generator


def test_without_synthetic_rows_every_class_comes_to_the_same_mass_but_for_the_plain_method() -> None:
    real = made_rows((60, 20, 5))
    assert masses(given_to_learner("plain", real)) == masses(given_to_learner("threshold moving", real)) == [60, 20, 5]
    assert masses(given_to_learner("class weights", real)) == pytest.approx([85 / 3] * 3)
    for method in ("random oversampling", "SMOTE"):
        found = given_to_learner(method, real)
        assert np.bincount(found.y).tolist() == [60, 60, 60]
        assert found.weight == pytest.approx(1)


@pytest.mark.parametrize("method", ["random oversampling", "SMOTE"])
def test_rows_added_to_real_ones_leave_each_class_the_mass_of_its_real_rows(method: str) -> None:
    real = made_rows((60, 20, 5))
    real = real._replace(weight=np.repeat([1.0, 1.5, 6.0], (60, 20, 5)))
    synthetic = made_rows((0, 40, 55), seed=1)._replace(weight=np.repeat([0.75, 6 / 11], (40, 55)))
    found = given_to_learner(method, real, synthetic)
    assert masses(found) == pytest.approx([60, 60, 60])
    added = found._replace(frame=found.frame[:180], y=found.y[:180], weight=found.weight[:180])
    assert np.bincount(added.y).tolist() == [60, 60, 60]
    assert masses(added) == pytest.approx([60, 30, 30])
    pd.testing.assert_frame_equal(found.frame[180:].reset_index(drop=True), synthetic.frame)
    assert found.weight[180:] == pytest.approx(synthetic.weight)


@methods
def test_synthetic_rows_are_learned_from_together_with_real_ones(method: str) -> None:
    real, synthetic = made_rows((60, 4)), made_rows((0, 56), seed=1)
    found = given_to_learner(method, real, synthetic)
    assert len(found.y) >= 120
    assert masses(found)[1] > 0.4 * sum(masses(found))


def test_oversampling_repeats_rows_of_the_class_and_the_seed_decides_which() -> None:
    real = made_rows((40, 10))
    found, again, other = (given_to_learner("random oversampling", real, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(found.frame[:50], real.frame)
    scarce = set(real.frame["feature.weight"][real.y == 1])
    assert set(found.frame["feature.weight"][50:]) <= scarce
    pd.testing.assert_frame_equal(found.frame, again.frame)
    assert not found.frame.equals(other.frame)


@pytest.mark.parametrize(("numbers", "names"), [(True, True), (True, False), (False, True)])
def test_smote_makes_rows_of_values_between_and_of_categories_that_the_class_has(numbers: bool, names: bool) -> None:
    real = made_rows((80, 12, 2), numbers=numbers, names=names)
    frame, y = smote_rows(real, 0)
    assert np.bincount(y).tolist() == [0, 68, 78]
    for label in (1, 2):
        for name in frame.columns:
            had, made = real.frame[name][real.y == label], frame[name][y == label]
            if isinstance(made.dtype, pd.CategoricalDtype):
                assert made.dtype == had.dtype
                assert set(made.cat.codes) <= set(had.cat.codes)
            else:
                filled = had.fillna(real.frame[name].median())
                assert made.between(filled.min() - 1e-9, filled.max() + 1e-9).all()
                assert len(set(made)) > len(set(had)) or label == 2
    pd.testing.assert_frame_equal(smote_rows(real, 0)[0], frame)
    assert not smote_rows(real, 1)[0].equals(frame)


def test_smotes_neighbours_do_not_depend_on_the_units_of_a_column() -> None:
    real = made_rows((40, 12), names=False)
    metres = real._replace(frame=real.frame.assign(**{"feature.weight": real.frame["feature.weight"] / 1000}))
    made, in_metres = smote_rows(real, 0)[0], smote_rows(metres, 0)[0]
    assert in_metres["feature.size"].tolist() == pytest.approx(made["feature.size"].tolist())


def test_a_class_of_one_row_is_repeated_by_smote() -> None:
    real = made_rows((10, 1))
    frame, y = smote_rows(real, 0)
    assert y.tolist() == [1] * 9
    assert set(frame["feature.weight"].round(6)) == {round(real.frame["feature.weight"][10], 6)}


def test_moving_the_threshold_is_dividing_by_the_share_of_each_class() -> None:
    real = made_rows((60, 30, 10))
    memory = Memory()
    moved = METHODS["threshold moving"](memory, real, None, 0).probabilities(real.frame[:2])
    expected = np.array([0.7 / 0.6, 0.2 / 0.3, 0.1 / 0.1])
    assert moved == pytest.approx(np.tile(expected / expected.sum(), (2, 1)))


def test_moving_the_threshold_changes_nothing_where_all_classes_have_the_same_mass() -> None:
    real, synthetic = made_rows((60, 20, 10)), made_rows((0, 40, 50), seed=1)
    moved = METHODS["threshold moving"](Memory(), real, synthetic, 0).probabilities(real.frame[:2])
    assert moved == pytest.approx(Memory().probabilities(real.frame[:2]))


@learners
def test_every_method_finds_more_of_a_scarce_class_than_none(learner: Learner) -> None:
    real, other = made_rows((400, 12), seed=1), made_rows((300, 300), seed=2)

    def recall(method: str) -> float:
        return score(METHODS[method](learner, real, None, 0).probabilities(other.frame), other.y).recalls[1]

    found = {method: recall(method) for method in METHODS}
    assert min(value for method, value in found.items() if method != "plain") > found["plain"] + 0.05


def test_the_table_of_methods_in_the_text_is_the_one_in_the_code() -> None:
    assert _rebalancing.__doc__ is not None
    lines = _rebalancing.__doc__.splitlines()
    start, end = (place for place, line in enumerate(lines) if line.startswith("==="))
    assert [line[:21].strip() for line in lines[start + 1 : end]] == [*METHODS]
