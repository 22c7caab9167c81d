"""Finished cells of a benchmark: several processes fill one file, and none loses what another measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts that import each other by their plain names

import _cells
from _cells import Cells

from augment.errors import InputError


def opened(path: Path) -> Cells:
    return Cells(path, ("data", "seed"), ("code",), lambda cells: {"seeds": len(cells)}, ("data",))


def asked(seed: int, code: str = "new") -> dict[str, Any]:
    return {"data": "digits", "seed": seed, "code": code}


def kept(path: Path) -> dict[int, Any]:
    return {cell["seed"]: cell.get("figure", cell.get("absent")) for cell in json.loads(path.read_text())["cells"]}


def fails() -> Any:
    raise InputError("no memory")


def test_two_that_were_opened_before_either_measured_keep_the_cells_of_both(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    first, second = opened(path), opened(path)
    first.fill(asked(0), lambda: {"figure": 1})
    second.fill(asked(1), lambda: {"figure": 2})
    first.fill(asked(2), lambda: {"figure": 3})
    assert kept(path) == {0: 1, 1: 2, 2: 3}
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_has_measured_meanwhile_is_not_measured_again(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "cells.json"), opened(tmp_path / "cells.json")
    first.fill(asked(0), lambda: {"figure": 1})
    second.fill(asked(0), lambda: pytest.fail("it is there"))


def test_a_failure_takes_no_measured_cell_of_the_same_code_away(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    first, second = opened(path), opened(path)
    first.fill(asked(0), fails)
    assert kept(path) == {0: "no memory"}

    def measured_elsewhere() -> Any:
        second.fill(asked(0), lambda: {"figure": 1})
        return fails()

    first.fill(asked(0), measured_elsewhere)
    assert kept(path) == {0: 1}
    first.fill(asked(0, "newer"), fails)
    assert kept(path) == {0: "no memory"}


def test_cells_that_another_replaced_by_those_of_other_code_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    first, second = opened(path), opened(path)
    first.fill(asked(0), lambda: {"figure": 1})
    second.fill(asked(0, "newer"), lambda: {"figure": 2})
    first.fill({**asked(1), "data": "wine"}, lambda: {"figure": 3})
    assert kept(path) == {0: 2, 1: 3}


def test_a_cell_keeps_where_it_was_measured_when_another_machine_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cells.json"
    first = {"machine": {"cpu": "the first"}, "versions": {"torch": "1.0"}}
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(_cells, "where", lambda: first)
        opened(path).fill(asked(0), lambda: {"figure": 1})
    opened(path).fill(asked(1), lambda: {"figure": 2})
    document = json.loads(path.read_text())
    assert [cell.get("measured_on") for cell in document["cells"]] == [first, None]
    assert document["machine"] == _cells.machine()
