"""Figures and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def plural(seeds: int) -> str:
    """``1 seed``, ``3 seeds``."""
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def decimals(value: float | None, error: float | None, digits: int) -> str:
    """``0.912 ± 0.004``; nothing where there is no value."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def rounded(value: float | None) -> str:
    """Three digits of a large number, with its thousands told apart."""
    return "" if value is None else f"{float(f'{value:.3g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def table(headings: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    rows = [headings, ["---"] * len(headings), *lines]
    cells = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)
