"""A benchmark of many cells, each kept when it is finished, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from _machine import machine, versions

from augment.errors import AugmentError
from augment.store import locked, remove_lock, write_atomically

RESULTS = Path(__file__).parent / "results"
UNFINISHED = Path(__file__).parents[1] / "build"  # of quick runs, whose figures nobody should quote

Cell = dict[str, Any]
Summary = Callable[[list[Cell]], Cell]


class Cells:
    """The finished cells in ``path``, and their summary: ``{"machine", "versions", "rows", "cells"}``.

    ``key`` names the entries that tell one cell from another, ``row`` those that the cells of a row share; a cell is
    measured anew when an entry of ``same`` has changed since, and figures of cells that differ in one are never put
    together. A cell that was ``absent`` is tried again each time. Several processes may fill one file, each with cells
    of its own: two that are asked for the same one at a time both measure it.
    """

    def __init__(
        self,
        path: Path,
        key: Sequence[str],
        same: Sequence[str],
        summary: Summary,
        row: Sequence[str] = ("data", "kind"),
    ) -> None:
        self.path = path
        self.key = tuple(key)
        self.same = tuple(same)
        self.summary = summary
        self.row = tuple(row)
        self._asked: dict[tuple[Any, ...], Cell] = {}
        self.cells = self._kept()

    def fill(self, asked: Cell, measure: Callable[[], Cell]) -> None:
        """Measure the cell that ``asked`` names, unless it is there, and keep it; what cannot be measured is said."""
        self._asked[self._group(asked)] = asked
        self.cells = self._kept()  # another process may have measured it meanwhile
        found = next((c for c in self.cells if self._place(c) == self._place(asked)), None)
        if found and "absent" not in found and all(found.get(n) == asked.get(n) for n in self.same):
            print(f"kept: {self._title(asked)}", file=sys.stderr)
            return
        try:
            cell = {**asked, **measure()}
        except AugmentError as error:
            cell = {**asked, "absent": str(error)}
        except Exception:  # noqa: BLE001 - one model that breaks must not cost the cells of the others
            traceback.print_exc()
            cell = {**asked, "absent": traceback.format_exc(limit=0).strip().splitlines()[-1]}
        print(f"measured: {self._title(asked)}: {cell.get('absent') or 'done'}", file=sys.stderr)
        self._keep([cell])

    def take(self, path: Path) -> None:
        """Keep the cells of another file of the same benchmark, in the place of those that are here.

        ``measured_on`` in each says on what, since that may have been another machine.
        """
        self._keep(cells_of(path, {}))

    def document(self, absent: Iterable[Cell] = ()) -> dict[str, Any]:
        """What the benchmark prints, with rows for data that are ``absent``."""
        groups: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(self._group(cell), []).append(cell)
        rows = [self.summary(self._alike(group, cells)) for group, cells in groups.items()] + list(absent)
        return {**where(), "rows": rows, "cells": self.cells}

    def _kept(self) -> list[Cell]:
        return cells_of(self.path, where()) if self.path.exists() else []

    def _keep(self, cells: Iterable[Cell]) -> None:
        """Put the cells beside those that the file holds by now: another process may have kept some."""
        lock = self.path.with_suffix(".lock")
        with locked(lock):
            by_place = {self._place(cell): cell for cell in self._kept()}
            for cell in cells:
                there = by_place.get(self._place(cell))
                if not (
                    there and "absent" in cell and "absent" not in there and self._variant(there) == self._variant(cell)
                ):
                    by_place[self._place(cell)] = cell
            self.cells = [by_place[place] for place in sorted(by_place)]
            write_atomically(self.path, json.dumps(self.document(), indent=1) + "\n")
        remove_lock(lock)

    def _alike(self, group: tuple[Any, ...], cells: list[Cell]) -> list[Cell]:
        """The cells that were measured as those asked for now, else as most of them were."""
        by_variant: dict[str, list[Cell]] = {}
        for cell in cells:
            by_variant.setdefault(self._variant(cell), []).append(cell)
        asked = self._variant(self._asked[group]) if group in self._asked else None
        return by_variant.get(asked or "") or max(by_variant.values(), key=len)

    def _variant(self, cell: Cell) -> str:
        return json.dumps([cell.get(name) for name in self.same], sort_keys=True)

    def _group(self, cell: Cell) -> tuple[Any, ...]:
        return tuple(cell[name] for name in self.row)

    def _place(self, cell: Cell) -> tuple[Any, ...]:
        return tuple(cell[name] for name in self.key)

    def _title(self, cell: Cell) -> str:
        return " ".join(f"{name} {cell[name]}" for name in self.key)


def where() -> dict[str, Any]:
    """The machine that this is, and the versions of what is installed on it."""
    return {"machine": machine(), "versions": versions()}


def cells_of(path: Path, here: dict[str, Any]) -> list[Cell]:
    """The cells in a file; those that were measured elsewhere than ``here`` say in ``measured_on`` where."""
    document = json.loads(path.read_text())
    there = {name: document[name] for name in ("machine", "versions")}
    told = {} if there == here else {"measured_on": there}
    return [{**told, **cell} for cell in document["cells"]]


def mean_and_error(values: Iterable[float | None]) -> dict[str, float | None]:
    """``{"mean", "se"}`` of the values that there are, to five digits; no standard error of fewer than two."""
    there = [value for value in values if value is not None]
    if not there:
        return {"mean": None, "se": None}
    error = statistics.stdev(there) / len(there) ** 0.5 if len(there) > 1 else None
    return {"mean": _short(statistics.fmean(there)), "se": None if error is None else _short(error)}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
