"""The benchmark of the gates: what counts as blocked, as stopped, and how far beyond a limit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from false_alarms import asked_for, beyond, summarised, tables


def cell(kind: str, refused: list[str], value: float = 0.2, **more: Any) -> dict[str, Any]:
    gates = {"copying": [value, 0.4]}
    found = {"refused_by": refused, "warned_by": [], "gates": gates, "cpu_seconds": 1.0}
    return {"data": "orchard", "kind": kind, "seed": 0, **found, **more}


def test_a_draw_of_clean_rows_is_good_where_no_gate_refuses_it() -> None:
    row = summarised([cell("clean", []), cell("clean", ["joint", "copying"]), cell("clean", [])])
    assert (row["draws"], row["blocked"], row["ratio"]) == (3, 1, pytest.approx(2 / 3))
    assert row["refused_by"] == {"joint": 1, "copying": 1}


def test_a_fault_is_stopped_by_its_own_gate_alone() -> None:
    row = summarised([cell("noisy copies", ["copying"], 0.1), cell("noisy copies", ["joint"], 0.3)])
    assert (row["gate"], row["blocked"], row["ratio"]) == ("copying", 2, 0.5)
    assert row["beyond"] == pytest.approx(0.25)
    assert (beyond(0.02, 0), beyond(1.5, 0.5)) == (0.02, 2)


def test_what_could_not_be_measured_is_said() -> None:
    row = summarised([{"data": "orchard", "kind": "copies", "seed": 0, "absent": "no room"}])
    assert (row["absent"], row["ratio"]) == ("no room", None)


def test_a_table_has_a_line_for_each_fault_and_names_the_gate_that_is_meant_for_it() -> None:
    lines = list(tables([summarised([cell("clean", [])]), summarised([cell("noisy copies", ["copying"], 0.1)])]))
    assert lines[-1] == "| noisy copies | 1 | 1 | **1** | 75% beyond |"
    assert lines[-2] == "| clean | 1 | 0 |  |  |"


def test_every_draw_of_clean_rows_comes_before_the_faults() -> None:
    asked = list(asked_for(["orchard"], 2, 1))
    assert asked[:2] == [("orchard", "clean", 0), ("orchard", "clean", 1)]
    assert ("orchard", "shuffled column", 0) in asked
