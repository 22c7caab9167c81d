"""What the commands print: one JSON document, or text and tables for a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augment.publishing import Publication


def print_json(value: Any) -> None:
    """Write ``value`` to standard output as one document; what JSON has no word for, such as paths, becomes text."""
    sys.stdout.write(json.dumps(value, indent=1, default=str, ensure_ascii=False) + "\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write ``rows`` as a table; numbers to the right, nothing for null. A pipe gets all of a long line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=not sys.stdout.isatty())
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = list(columns)
    for name in names:
        is_number = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if is_number and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(name))) for name in names))
    if not sys.stdout.isatty():
        console.width = 10_000
    console.print(table)


def size(count: float) -> str:
    """Bytes as a person reads them: ``850 B``, ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in value)
    return str(value)


def print_publication(publication: Publication) -> None:
    """Write what became of a run: the rows, the gates that matter, and where everything is."""
    rows = [{"class": name, **counts} for name, counts in publication.rows.items()]
    print_table(rows, ["class", "real", "synthetic"])
    print()
    passed = sum(gate.passed is True for gate in publication.gates)
    failed = [gate for gate in publication.gates if gate.passed is False]
    silent = sum(gate.passed is None for gate in publication.gates)
    print(f"gates     {passed} passed, {len(failed)} failed, {silent} not measured")
    for gate in failed:
        print(f"          {gate.gate} ({gate.severity}): {gate.sentence}")
    if publication.status == "refused":
        print(f"refused   {publication.dataset}: not blessed, nothing is published")
        print(f"kept at   {publication.path}")
    else:
        print(f"{publication.status:<9} {publication.dataset} {publication.version}, {publication.seconds:.0f} s")
        print(f"dataset   {publication.path}")
    print(f"report    {publication.report or 'none'}")
    print(f"picture   {publication.picture or 'none'}")
