"""The ranges of sample quality and the share that must be inside are no stricter than real rows can meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from _judged_sets import TABLE, Trial, failed, replaced, table_rows

from augment.checks.sample_quality import lowest_share


@pytest.mark.parametrize(("count", "passes"), [(501, True), (503, False)])
def test_a_range_narrower_than_the_grid_refuses_no_neighbour(count: int, passes: bool, tmp_path: Path) -> None:
    def of_one_count(seed: int, value: int) -> pa.Table:
        sizes = np.random.default_rng(seed).normal(5, 1, 80)
        return replaced(replaced(table_rows(80, seed, synthetic=True), "size", sizes), "count", [value] * 80)

    parts = (("train", 1), ("validation", 2), ("test", 3))
    real = {name: of_one_count(seed, 500) for name, seed in parts}
    gates = Trial.of(tmp_path, TABLE, real).gates(of_one_count(9, count))
    assert gates["sample_quality"].passed is passes


def test_the_quality_that_validation_rows_reach_is_enough(tmp_path: Path) -> None:
    wide = replaced(table_rows(100, 2), "count", [50_000] * 16 + [500] * 84)
    parts = {"train": table_rows(300, 1), "validation": wide, "test": table_rows(100, 3)}
    trial = Trial.of(tmp_path, TABLE, parts)
    rows = table_rows(300, 50, synthetic=True)
    gates = trial.gates(replaced(rows, "count", [50_000] * 10 + rows["count"].to_pylist()[10:]))
    assert gates["sample_quality"].floor == pytest.approx(1 - 16 / 400)
    assert gates["sample_quality"].passed


def test_the_quality_that_training_rows_reach_against_each_other_is_enough(tmp_path: Path) -> None:
    """Each of these values is far from all others, so that a range learned without it is too narrow."""
    train = table_rows(100, 1)
    alone = replaced(train, "count", [10**number for number in (5, 7, 9, 11)] + train["count"].to_pylist()[4:])
    none = table_rows(10, 2).slice(0, 0)
    sets = {"train": alone, "validation": none, "test": none}
    gates = Trial.of(tmp_path, TABLE, sets).gates(table_rows(300, 50, synthetic=True))
    assert gates["sample_quality"].floor is not None
    assert 0.96 <= gates["sample_quality"].floor < 0.995
    assert gates["sample_quality"].limit == pytest.approx(
        lowest_share(min(0.99, gates["sample_quality"].floor), 300), abs=0.005
    )


def test_few_real_rows_of_ordinary_numbers_give_a_floor_near_one(tmp_path: Path) -> None:
    sets = {"train": table_rows(124, 1), "validation": table_rows(18, 2), "test": table_rows(36, 3)}
    gates = Trial.of(tmp_path, TABLE, sets).gates(table_rows(124, 50, synthetic=True))
    assert failed(gates) == []
    assert gates["sample_quality"].floor is not None
    assert 0.97 < gates["sample_quality"].floor < 1


def test_a_share_below_the_limit_by_chance_alone_passes_and_a_worse_one_fails() -> None:
    draws = np.random.default_rng(0).binomial(500, 0.99, 10_000) / 500
    assert np.mean(draws < lowest_share(0.99, 500)) < 0.01
    assert np.mean(np.random.default_rng(1).binomial(500, 0.95, 10_000) / 500 < lowest_share(0.99, 500)) > 0.99
