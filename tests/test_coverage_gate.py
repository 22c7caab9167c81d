"""Coverage: rows that leave out part of the real variety are refused, by class where the class has rows enough."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from _fault_rows import Rows, labels_of, values_of
from _faults import clean, only, orchard_court, refusing

from augment.checks.coverage import FEWEST, Coverage, _error, _excess, _far
from augment.worth.fidelity import Diversity, Figure


def small_ones(rows: Rows, draw: np.random.Generator) -> pa.Table:
    """Fresh rows, of pears the smallest tenth alone, each ten times with other sugar."""
    size, pear = values_of(rows.fresh, "size"), labels_of(rows.fresh) == "pear"
    least = np.flatnonzero(pear & (size <= np.quantile(size[pear], 0.1)))
    table = rows.fresh.take(np.concatenate([np.flatnonzero(~pear), np.tile(least, 10)]))
    sugar = values_of(table, "sugar") + draw.uniform(0, 0.5, len(table))
    return table.set_column(table.schema.get_field_index("sugar"), "sugar", pa.array(sugar))


def test_fresh_rows_cover_as_much_as_training_rows() -> None:
    gate = orchard_court().gates(clean, **only("coverage"))["coverage"]
    assert gate.passed
    assert gate.value is not None
    assert gate.floor is not None
    assert gate.value == pytest.approx(gate.floor, abs=0.05)


def test_a_class_of_which_only_a_part_was_drawn_is_named() -> None:
    gates = orchard_court().gates(small_ones, **only("coverage"))
    assert refusing(gates) == ["coverage"]
    assert "; of class pear " in gates["coverage"].sentence


def apples_alone(rows: Rows, _draw: np.random.Generator) -> pa.Table:
    """Fresh rows of one class."""
    return rows.fresh.filter(pa.array(labels_of(rows.fresh) == "apple"))


def test_a_class_of_which_nothing_was_asked_is_no_fault() -> None:
    court = orchard_court()
    apples = len(court.made(apples_alone))
    plan = {"kind": "counts", "counts": {"apple": apples}}
    gate = court.gates(apples_alone, plan=plan, **only("coverage"))["coverage"]
    assert gate.passed, gate.sentence


def test_the_error_is_that_of_two_shares_of_the_held_out_rows() -> None:
    assert _error(0.9, 100, 0.8) == pytest.approx(3 * math.sqrt(0.9 * 0.1 * 1.64 / 100))
    assert _error(1.0, 100, 0.8) > 0
    assert _error(0.9, 0, 0.8) == _error(0.9, 1, 0.8)


def test_a_class_is_above_its_limit_by_what_it_has_more() -> None:
    assert _excess(Figure(0.3, 0.9), 10_000, 0.5) == pytest.approx(0.3 - 0.45, abs=0.02)
    assert _excess(Figure(0.0, 0.9), 2, 0.5) == 0  # of two rows nothing is required


def test_classes_of_few_rows_are_not_judged_by_themselves() -> None:
    figure = Figure(0.5, 0.9)
    found = Diversity({}, {0: figure, 1: figure, 2: Figure(None, None)}, figure, {0: FEWEST, 1: FEWEST - 1, 2: 100})
    assert Coverage()._large(found, ["apple", "pear", "quince"]) == [("apple", figure)]


def test_a_frechet_distance_far_beyond_that_of_real_rows_is_said() -> None:
    assert _far(Figure(2.9, 1.0), 3) is None
    assert _far(Figure(None, 1.0), 3) is None
    assert "more than 3 times" in (_far(Figure(3.1, 1.0), 3) or "")
