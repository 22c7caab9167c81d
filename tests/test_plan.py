"""How many synthetic rows of each class are drawn: exact, and refused where that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _rows_source import Real, Rows

from augment.config import BalancePlan, CountsPlan, MultiplyPlan
from augment.errors import InputError
from augment.plan import balance, describe_plan, multiply, rows_to_draw


def real_rows(folder: Path, label: Any = "y", **classes: int) -> Real:
    y = [int(name[1:]) for name, rows in classes.items() for _ in range(rows)]
    data = {"x": [i * 37 % 1009 / 8 for i in range(len(y))], "y": y}
    if label is None:
        del data["y"]
    return Real(Rows(data=data, label=label), folder, test=0.5, validation=0)


def test_balance_fills_up_and_gives_every_class_some() -> None:
    assert balance(BalancePlan(), {"a": 124, "b": 10, "c": 128}) == {"a": 32, "b": 118, "c": 32}
    assert balance(BalancePlan(everywhere=0), {"a": 5, "b": 8}) == {"a": 3, "b": 0}


def test_shares_are_taken_as_they_are_written() -> None:
    assert balance(BalancePlan(everywhere=0.1), {"a": 30}) == {"a": 3}
    assert balance(BalancePlan(everywhere=0.07), {"a": 100}) == {"a": 7}
    assert multiply(MultiplyPlan(kind="multiply", factor=1.1), {"a": 5, "b": 4, "c": 30}) == {"a": 1, "b": 0, "c": 3}
    assert multiply(MultiplyPlan(kind="multiply", factor=3), {"a": 7}) == {"a": 14}


def test_counts_are_exactly_the_synthetic_rows_in_class_order(tmp_path: Path) -> None:
    real = real_rows(tmp_path, c2=20, c10=30, c1=40)
    plan = CountsPlan(kind="counts", counts={"10": 3, "1": 500})
    wanted = rows_to_draw(plan, real.ref, real.store)
    assert list(wanted.items()) == [("1", 500), ("2", 0), ("10", 3)]


def test_the_plan_counts_rows_of_train(tmp_path: Path) -> None:
    real = real_rows(tmp_path, c0=20, c1=40)
    assert rows_to_draw(BalancePlan(), real.ref, real.store) == {"0": 10, "1": 5}
    assert rows_to_draw(MultiplyPlan(kind="multiply", factor=2), real.ref, real.store) == {"0": 10, "1": 20}


def test_rows_without_a_label_column_are_planned_as_one_class(tmp_path: Path) -> None:
    real = real_rows(tmp_path, label=None, c0=40)
    assert rows_to_draw(MultiplyPlan(kind="multiply", factor=2), real.ref, real.store) == {"": 20}
    record = describe_plan(BalancePlan(), real.ref, real.store)
    assert [(c.name, c.train, c.test, c.synthetic) for c in record.classes] == [("", 20, 20, 5)]


def test_an_unknown_class_is_refused_with_the_nearest(tmp_path: Path) -> None:
    real = real_rows(tmp_path, c100=20, c200=40)
    with pytest.raises(InputError, match=r"plan.counts names '1000', which is no class; did you mean '100'"):
        rows_to_draw(CountsPlan(kind="counts", counts={"1000": 5}), real.ref, real.store)


def test_a_plan_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    real = real_rows(tmp_path, c0=20, c1=20)
    for plan in (CountsPlan(kind="counts", counts={"0": 0}), BalancePlan(everywhere=0)):
        with pytest.raises(InputError, match="draws no synthetic rows"):
            rows_to_draw(plan, real.ref, real.store)


def test_a_plan_is_described_with_reasons_and_warnings(tmp_path: Path) -> None:
    data = {
        "x": [i * 37 % 1009 / 8 for i in range(63)],
        "nr": list(range(63)),
        "y": [*([0, 1, 2] * 20), None, None, None],
    }
    real = Real(Rows(data=data, label="y"), tmp_path, test=0.5, validation=0.1, train_per_class={"2": 4})
    record = describe_plan(CountsPlan(kind="counts", counts={"0": 5}), real.ref, real.store)
    assert [(c.name, c.kind) for c in record.columns] == [("x", "numeric"), ("nr", "ignore"), ("y", "categorical")]
    assert "id" in record.columns[1].reason
    assert "'nr' is ignored" in record.notes[0]
    assert [(c.name, c.train, c.validation, c.test, c.synthetic) for c in record.classes] == [
        ("0", 8, 2, 10, 5), ("1", 8, 2, 10, 0), ("2", 4, 2, 10, 0), ("", 3, 0, 0, 0)
    ]  # fmt: skip
    assert record.synthetic_rows == 5
    assert "no synthetic rows of 1, 2" in record.warnings[0]
    assert "weight 0: 3" in record.warnings[1]


def test_counts_of_classes_are_refused_without_a_label(tmp_path: Path) -> None:
    real = real_rows(tmp_path, label=None, c1=30)
    plan = CountsPlan(kind="counts", counts={"1": 5})
    with pytest.raises(InputError, match=r"names '1' and the data have no label; set source.label"):
        rows_to_draw(plan, real.ref, real.store)
