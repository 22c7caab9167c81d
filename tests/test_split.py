"""Which rows go where: exact shares, units that stay together, given parts, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _rows_source import Real, Rows
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.config import SplitSection
from augment.errors import InputError
from augment.schema import ColumnSchema, DatasetSchema
from augment.split import DROPPED, TEST, TRAIN, VALIDATION, RowFacts, largest_remainders, split_rows, unit_codes

LABEL = ColumnSchema(name="y", kind="categorical", type="int64", reason="the label")


def schema_of(num_classes: int, label: str | None = "y") -> DatasetSchema:
    return DatasetSchema(columns=(LABEL,), label=label, classes=tuple(range(num_classes)))


def facts_of(y: Any, contents: Any = None, groups: Any = None, given_parts: Any = None) -> RowFacts:
    y = np.asarray(y, np.int32)
    contents = np.arange(len(y)) if contents is None else np.asarray(contents)
    return RowFacts(
        hashes=np.column_stack([contents * 7919 % 104_729, contents]).astype(np.uint64),
        y=y,
        given=np.full(len(y), DROPPED, np.int8) if given_parts is None else np.asarray(given_parts, np.int8),
        groups=None if groups is None else np.asarray(groups, np.int32),
    )


def split(facts: RowFacts, seed: int = 1, label: str | None = "y", **section: Any) -> np.ndarray[Any, Any]:
    schema = schema_of(int(facts.y.max()) + 1 if label else 0, label)
    return split_rows(facts, SplitSection(**section), schema, seed, "rows.csv")[0]


def class_counts(parts: np.ndarray[Any, Any], y: Any, part: int) -> list[int]:
    y = np.asarray(y)
    return [int(((parts == part) & (y == c)).sum()) for c in range(y.max() + 1)]


def test_every_class_has_its_share_of_validation_and_test_rows() -> None:
    y = np.repeat([0, 1, 2], [59, 71, 48])
    parts = split(facts_of(y))
    assert class_counts(parts, y, TEST) == [12, 14, 10]  # of 11.8, 14.2 and 9.6: 36 of 178 rows
    assert class_counts(parts, y, VALIDATION) == [6, 7, 5]
    assert class_counts(parts, y, TRAIN) == [41, 50, 33]


def test_shares_are_rounded_by_largest_remainders() -> None:
    assert largest_remainders(0.1, np.array([25, 25, 14, 6])).tolist() == [3, 2, 1, 1]
    assert largest_remainders(0.29, np.array([100])).tolist() == [29]
    assert largest_remainders(0.0, np.array([5, 6])).tolist() == [0, 0]


def test_a_small_class_still_has_a_row_to_be_tested_on() -> None:
    y = np.repeat([0, 1], [100, 2])
    parts = split(facts_of(y), test=0.1)
    assert class_counts(parts, y, TEST)[1] == 1
    assert class_counts(parts, y, TRAIN)[1] == 1


def test_the_seed_alone_decides() -> None:
    facts = facts_of(np.repeat([0, 1], [60, 40]))
    assert np.array_equal(split(facts, seed=3), split(facts, seed=3))
    assert not np.array_equal(split(facts, seed=3), split(facts, seed=4))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=30, max_size=120), st.integers(0, 99))
def test_identical_rows_stay_on_one_side(rows: list[tuple[int, int]], seed: int) -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, *(c for c, _ in rows)])
    contents = np.array([*range(100, 109), *(content for _, content in rows)])
    parts = split(facts_of(y, contents), seed=seed, test=0.3, validation=0.1)
    for content in set(contents.tolist()):
        assert len(set(parts[contents == content].tolist())) == 1


def test_shares_are_exact_where_some_rows_repeat() -> None:
    y = np.repeat([0, 1], [300, 100])
    contents = np.concatenate(
        [np.arange(200), np.arange(100), np.arange(300, 360), np.repeat(400, 3), np.arange(500, 537)]
    )
    for seed in range(5):
        parts = split(facts_of(y, contents), seed=seed)
        assert class_counts(parts, y, TEST) == [60, 20]
        assert class_counts(parts, y, VALIDATION) == [30, 10]


def test_rows_that_repeat_are_in_every_part_as_often_as_single_ones() -> None:
    y = np.zeros(4_000, int)
    contents = np.concatenate([np.repeat(np.arange(1_000), 2), np.arange(1_000, 3_000)])
    parts = split(facts_of(y, contents), validation=0.0)
    assert abs((parts[:2_000] == TEST).mean() - 0.2) < 0.03


def test_groups_stay_on_one_side() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 40, 800)
    y = (generator.random(800) < 0.3).astype(int)
    parts = split(facts_of(y, groups=groups), group="who")
    for group in range(40):
        assert len(set(parts[groups == group].tolist())) == 1
    assert abs((parts == TEST).mean() - 0.2) < 0.05


def test_a_few_large_groups_still_fill_every_part() -> None:
    groups = np.repeat(np.arange(5), 20)
    y = np.tile([0, 1], 50)
    parts = split(facts_of(y, groups=groups), group="who", validation=0.0)
    assert class_counts(parts, y, TEST) == [10, 10]


def test_groups_that_share_a_row_stay_together() -> None:
    units = unit_codes(facts_of([0] * 6, contents=[1, 2, 2, 3, 4, 5], groups=[0, 0, 1, 1, 2, 3]))
    assert units.tolist() == [0, 0, 0, 0, 1, 2]


def test_rows_without_a_label_are_only_for_training() -> None:
    y = np.concatenate([np.repeat([0, 1], 50), np.full(20, -1)])
    contents = np.arange(120)
    contents[100] = 0  # identical to a labelled row
    for seed in range(5):
        parts = split(facts_of(y, contents), seed=seed)
        assert (parts[y < 0] == TRAIN).all()
        assert parts[0] == TRAIN


def test_rows_without_a_label_column_are_split_as_one_class() -> None:
    parts = split(facts_of(np.zeros(50, int)), label=None)
    assert [(parts == part).sum() for part in (TRAIN, VALIDATION, TEST)] == [35, 5, 10]


def test_given_parts_are_kept_and_what_repeats_test_rows_is_left_out() -> None:
    y = [0, 0, 0, 1, 1, 1, 0]
    given_parts = [TRAIN, TRAIN, TEST, TRAIN, TEST, VALIDATION, TRAIN]
    facts = facts_of(y, contents=[1, 2, 3, 4, 5, 6, 3], given_parts=given_parts)
    parts, notes = split_rows(facts, SplitSection(column="part"), schema_of(2), 1, "rows.csv")
    assert parts.tolist() == [*given_parts[:6], DROPPED]
    assert notes == ["rows of rows.csv left out because the test or validation part repeats them: 1"]


def test_given_test_rows_without_a_label_are_left_out_aloud() -> None:
    facts = facts_of([0, 0, 0, 1, 1, -1, -1], given_parts=[TRAIN, TRAIN, TEST, TRAIN, TEST, TEST, TRAIN])
    parts, notes = split_rows(facts, SplitSection(column="part"), schema_of(2), 1, "rows.csv")
    assert parts.tolist() == [TRAIN, TRAIN, TEST, TRAIN, TEST, DROPPED, TRAIN]
    assert notes == ["rows of rows.csv left out of validation and test because they have no label: 1"]


def test_a_test_part_of_its_own_is_the_whole_test() -> None:
    y = np.concatenate([np.repeat([0, 1], 50), [0, 1, 0, 1]])
    contents = np.concatenate([np.arange(100), [200, 201, 202, 7]])
    given_parts = np.concatenate([np.full(100, DROPPED), np.full(4, TEST)])
    facts = facts_of(y, contents, given_parts=given_parts)
    parts, notes = split_rows(facts, SplitSection(), schema_of(2), 1, "rows.csv")
    assert np.flatnonzero(parts == TEST).tolist() == [100, 101, 102, 103]
    assert np.flatnonzero(parts == DROPPED).tolist() == [7]
    assert (parts == VALIDATION).sum() == 10
    assert notes[0].endswith("repeats them: 1")


def test_train_per_class_cuts_train_only() -> None:
    y = np.repeat([0, 1], [60, 40])
    whole = split(facts_of(y))
    cut = split(facts_of(y), train_per_class={"1": 5})
    assert class_counts(cut, y, TRAIN) == [class_counts(whole, y, TRAIN)[0], 5]
    assert np.array_equal(cut == TEST, whole == TEST)
    assert np.array_equal(cut == VALIDATION, whole == VALIDATION)


def test_train_per_class_refuses_unknown_classes_and_more_than_there_are() -> None:
    y = np.repeat([0, 1], [60, 40])
    with pytest.raises(InputError, match=r"train_per_class names '11'.*did you mean '1'"):
        split(facts_of(y), train_per_class={"11": 5})
    with pytest.raises(InputError, match="asks for 41 rows of class '1', which has 28"):
        split(facts_of(y), train_per_class={"1": 41})


@pytest.mark.parametrize(
    ("facts", "section", "says"),
    [
        (facts_of([0, 0, 0, 1]), {}, "class '1' of rows.csv has one row"),
        (facts_of([0, 0, 1, 1]), {"test": 0.0}, "class '0' of rows.csv out of test"),
        (facts_of([0, 0, 1, 1], contents=[1, 2, 3, 3]), {}, "class '1' of rows.csv out of"),
        (facts_of([0, 0, 1, 1], given_parts=[0, 2, 0, 0]), {"column": "part"}, "class '1' of rows.csv out of test"),
        (facts_of([0, 0, 1, 1], given_parts=[0, 2, 2, 2]), {"column": "part"}, "class '1' of rows.csv out of train"),
        (facts_of([0, 0, 1, 1], groups=[0, 0, 1, 1]), {"group": "who"}, "out of"),
    ],
)
def test_a_split_that_leaves_a_class_out_is_refused(facts: RowFacts, section: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        split(facts, **section)


def test_an_unlabelled_table_without_test_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"leaves all rows of rows.csv out of test"):
        split(facts_of([0] * 10), label=None, test=0.0)


def test_test_rows_never_reach_train(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = {"a": generator.integers(0, 9, 400).tolist(), "b": generator.integers(0, 9, 400).tolist()}
    data["y"] = generator.integers(0, 3, 400).tolist()
    real = Real(Rows(data=data, label="y"), tmp_path)
    train, validation, test = (real.hashes(name) for name in ("train", "validation", "test"))
    assert train
    assert test
    assert not test & train
    assert not test & validation
    assert not validation & train


def test_train_per_class_is_refused_without_a_label() -> None:
    with pytest.raises(InputError, match=r"train_per_class names classes and the data have no label"):
        split(facts_of([0] * 10), label=None, train_per_class={"0": 3})
