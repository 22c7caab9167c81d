"""Which synthetic rows were rejected, why, and what some of them look like."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from augment.report.drawings import Cell, drawings_of
from augment.report.sampling import sample_rows
from augment.schema import DatasetSchema

EXAMPLES = 6  # rows shown of each reason
COLUMNS = 8
REASONS = 20


class Reason(NamedTuple):
    """One reason: its sentence, the rows rejected for it, their share of all rejects, and some of them."""

    text: str
    rows: int
    share: float
    examples: list[list[Cell]]


class Rejects(NamedTuple):
    """All rejected rows by reason, most frequent first; ``columns`` name the cells of the examples."""

    rows: int
    columns: list[str]
    reasons: list[Reason]
    hidden: int


def rejects_of(path: Path | None, schema: DatasetSchema, seed: int) -> Rejects:
    """The rejected rows in ``rejects.parquet``, whose column ``reject_reason`` says why; none without the file."""
    if path is None or not path.is_file():
        return Rejects(0, [], [], 0)
    present = pq.read_schema(path).names
    drawings = drawings_of(c for c in schema.columns if c.name in present)
    shown = [c for c in schema.columns if c.name in drawings]
    shown = sorted(shown, key=lambda c: c.name != schema.label)[:COLUMNS]
    sample, counts = sample_rows([path], [c.name for c in shown], "reject_reason", EXAMPLES, seed, "rejects")
    cells = [[drawings[c.name].cell(v.as_py()) for v in sample.column(c.name, c.arrow_type)] for c in shown]
    total = sum(counts.values())
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    reasons = [
        Reason(
            text or "no reason given",
            counts[text],
            counts[text] / total,
            [list(row) for row, reason in zip(zip(*cells, strict=True), sample.classes, strict=True) if reason == text]
            if cells
            else [],
        )
        for text in ranked[:REASONS]
    ]
    return Rejects(total, [c.name for c in shown], reasons, len(ranked) - len(reasons))
