"""Joint: columns that hang together otherwise than in the real rows are named, however the classes are shared out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _judged_sets import TABLE, Trial, replaced
from _linked_rows import linked_rows, shuffled, verdict
from pydantic import ValidationError
from scipy.stats import spearmanr
from scipy.stats.contingency import association
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info

from augment.checks._associations import Associations, numbers_first
from augment.checks._class_numbers import Numbers
from augment.checks._sides import Column, side_by_side
from augment.checks._telling_apart import telling_apart
from augment.checks.joint import Joint


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    sizes = {"train": (400, 1), "validation": (60, 2), "test": (60, 3)}
    parts = {part: linked_rows(rows, seed) for part, (rows, seed) in sizes.items()}
    return Trial.of(tmp_path_factory.mktemp("tables"), TABLE, parts)


def test_good_rows_pass_whatever_share_the_plan_gives_a_class(tables: Trial) -> None:
    result, details = verdict(tables, linked_rows(400, 50, pears=0.8), "joint")
    assert (result.passed, result.severity) == (True, "critical")
    assert details["c2st"]["auc"] < 0.6
    assert {pair["first"] for pair in details["pairs"]} | {pair["second"] for pair in details["pairs"]} == {
        "size", "count", "shade", "ripe", "fruit",
    }  # fmt: skip


@pytest.mark.parametrize("column", ["size", "shade"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_shuffled_column_is_refused_by_name(tables: Trial, column: str, inside: bool) -> None:
    rows = linked_rows(400, 50)
    groups = rows["fruit"].to_pylist() if inside else [0] * 400
    result, _ = verdict(tables, replaced(rows, column, shuffled(rows[column], groups)), "joint")
    assert (result.passed, result.severity) == (False, "critical")
    assert column in result.sentence.split(":")[0]
    assert "is refused" in result.sentence


def test_labels_that_were_shuffled_are_refused_by_name(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    result, _ = verdict(tables, replaced(rows, "fruit", shuffled(rows["fruit"], [0] * 400)), "joint")
    assert result.passed is False
    assert "fruit" in result.sentence.split(":")[0]


def test_between_the_two_limits_there_is_a_warning(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    counts = np.array(rows["count"]) + np.random.default_rng(0).normal(0, 900, 400)
    result, _ = verdict(tables, replaced(rows, "count", np.rint(counts).astype(int)), "joint", Joint(refuses=0.6))
    assert (result.passed, result.severity) == (False, "warning")
    assert "is warned of" in result.sentence


def test_rows_that_a_classifier_tells_apart_are_a_warning_only(tables: Trial) -> None:
    rows = linked_rows(400, 50)
    far = replaced(rows, "count", np.array(rows["count"]) + 3_000)
    result, details = verdict(tables, far, "joint")
    assert details["c2st"]["auc"] > 0.9
    assert (result.passed, result.severity) == (False, "warning")
    assert result.value is not None
    assert result.limit is not None
    assert result.value <= result.limit
    assert "AUC of " in result.sentence


def test_few_rows_allow_what_chance_makes_of_them(tmp_path: Path) -> None:
    sizes = {"train": (24, 1), "validation": (6, 2), "test": (6, 3)}
    trial = Trial.of(tmp_path, TABLE, {part: linked_rows(rows, seed) for part, (rows, seed) in sizes.items()})
    result, _ = verdict(trial, linked_rows(20, 51), "joint")
    assert result.passed
    assert result.floor is not None
    assert result.limit is not None
    assert result.limit > 0.15 + result.floor


def test_one_column_without_a_label_has_nothing_to_hang_together_with() -> None:
    one = Numbers(["feature.x"], {"": np.arange(20.0)[:, None]})
    sides = side_by_side(one, one, [Column("x", slice(0, 1))])
    assert len(Associations(sides.numbers, sides.of_class, sides.columns).of(sides.weights[0])) == 0


def test_absurd_limits_are_refused() -> None:
    for settings in ({"warns": 0.5}, {"refuses": 3.0}, {"auc": 0.4}, {"refuses_measured": 0.1}):
        with pytest.raises(ValidationError):
            Joint(**settings)


def test_associations_are_those_of_the_books() -> None:
    """Spearman's correlation, Cramer's V, the correlation ratio of ranks; in a row of one class."""
    draw = np.random.default_rng(0)
    x = np.round(draw.normal(size=80), 1)  # with ties
    y = x**3 + draw.normal(size=80)
    three, four = draw.integers(0, 3, 80), np.clip(draw.integers(0, 3, 80) + (x > 0), 0, 3)
    numbers = np.column_stack([x, y, np.eye(3)[three][:, :2], np.eye(4)[four]])
    columns = [
        Column("x", slice(0, 1)),
        Column("three", slice(2, 4), ("a", "b")),
        Column("y", slice(1, 2)),
        Column("four", slice(4, 8), ("a", "b", "c", "d")),
    ]
    found = Associations(numbers, np.zeros(80, np.int64), columns).of(np.full(80, 1 / 80))
    assert [column.name for column in numbers_first(columns)] == ["x", "y", "three", "four"]
    table = np.zeros((3, 4), int)
    np.add.at(table, (three, four), 1)
    grades = np.array([(x < value).mean() + (x == value).mean() / 2 for value in x])
    means = np.array([grades[four == k].mean() for k in range(4)])
    ratio = np.sqrt(((means[four] - grades.mean()) ** 2).mean() / grades.var())
    assert found[0] == pytest.approx(spearmanr(x, y)[0])  # x and y
    assert found[2] == pytest.approx(ratio)  # x and four
    assert found[5] == pytest.approx(association(table, method="cramer"))  # three and four


def test_inside_the_classes_nothing_of_what_is_between_them_is_left() -> None:
    draw = np.random.default_rng(1)
    classes = np.repeat([0, 1], 100)
    numbers = draw.normal(size=(200, 2)) + 6 * classes[:, None]
    columns = [Column("x", slice(0, 1)), Column("y", slice(1, 2))]
    together, x_label, y_label, inside = Associations(numbers, classes, columns).of(np.full(200, 1 / 200))
    assert together > 0.7
    assert min(x_label, y_label) > 0.8
    assert abs(inside) < 0.25


def test_a_column_that_does_not_vary_hangs_together_with_nothing() -> None:
    numbers = np.column_stack([np.arange(20.0), np.ones(20), np.full(20, np.nan)])
    columns = [Column(name, slice(i, i + 1)) for i, name in enumerate("xyz")]
    found = Associations(numbers, np.repeat([0, 1], 10), columns).of(np.full(20, 1 / 20))
    assert np.isfinite(found).all()
    assert found[[0, 1, 2]] == pytest.approx([0, 0, 0])


def test_the_classifier_knows_equal_sets_from_other_ones() -> None:
    draw = np.random.default_rng(0)

    def of(shift: float) -> Numbers:
        return Numbers(["x", "y"], {name: draw.normal(shift, 1, (150, 2)) for name in "ab"})

    columns = [Column("x", slice(0, 1)), Column("y", slice(1, 2))]
    same = telling_apart(side_by_side(of(0), of(0), columns), 0.8, "t")
    other = telling_apart(side_by_side(of(0), of(2), columns), 0.8, "t")
    assert same is not None
    assert other is not None
    assert 0.4 < same.auc < 0.6
    assert other.auc > 0.9
    assert (same.warned, other.warned) == (False, True)
    few = Numbers(["x"], {"a": np.zeros((6, 1))})
    assert telling_apart(side_by_side(few, few, columns[:1]), 0.8, "t") is None


def test_trees_that_tell_rows_apart_grow_on_one_thread_whatever_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []
    fit = HistGradientBoostingClassifier.fit

    def counted(self: HistGradientBoostingClassifier, *given: object, **named: object) -> object:
        threads.append(max(library["num_threads"] for library in threadpool_info()))
        return fit(self, *given, **named)

    monkeypatch.setattr(HistGradientBoostingClassifier, "fit", counted)
    real, synthetic = (Numbers(["x"], {"a": np.arange(60.0)[:, None] + shift}) for shift in (0, 1))
    assert telling_apart(side_by_side(real, synthetic, [Column("x", slice(0, 1))]), 0.8, "t") is not None
    assert threads == [1] * 5
