"""Rows whose columns hang together, and the verdict of one gate on a set of them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
from _judged_sets import TABLE, Trial

from augment.checks._contract import Check
from augment.gates import GateResult, load_gates

SHARD_NUMBERS = itertools.count()  # a shard of the same number is the same artifact of a store


def linked_rows(rows: int, seed: int, pears: float = 0.5) -> pa.Table:
    """Rows of ``TABLE``: a count goes with its size, inside the classes too, and red ones are mostly ripe pears."""
    draw = np.random.default_rng(seed)
    pear = np.arange(rows) >= rows * (1 - pears)
    size = draw.normal(5, 1, rows) + pear
    ripe = draw.random(rows) < np.where(pear, 0.7, 0.3)
    return pa.table(
        {
            "size": np.round(size, 4),
            "count": np.rint(1000 * size + draw.normal(0, 300, rows)).astype(np.int64),
            "shade": np.where(draw.random(rows) < np.where(ripe, 0.9, 0.1), "red", "green"),
            "ripe": ripe,
            "note": pa.nulls(rows, pa.string()),
            "fruit": np.where(pear, "pear", "apple"),
        },
        schema=TABLE.arrow_schema,
    )


def shuffled(values: pa.ChunkedArray, groups: Any, seed: int = 0) -> list[Any]:
    """The values in another order, each inside its group."""
    draw = np.random.default_rng(seed)
    order = np.arange(len(values))
    for group in set(groups):
        rows = np.flatnonzero(np.array(groups) == group)
        order[rows] = draw.permutation(rows)
    return values.combine_chunks().take(pa.array(order)).to_pylist()


def verdict(trial: Trial, rows: pa.Table, kind: str, *checks: Check) -> tuple[GateResult, dict[str, Any]]:
    """The result of the gate ``kind`` for a set of one shard, and what a report draws of it."""
    folder = trial.audit([trial.shard(rows, next(SHARD_NUMBERS))], checks=checks)
    details = json.loads((folder / "metrics.json").read_text()).get("details", {}).get(kind, {})
    return next(gate for gate in load_gates(folder / "gates.json") if gate.gate == kind), details
