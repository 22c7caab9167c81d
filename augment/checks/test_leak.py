"""Test leak: no synthetic row is a row that was held out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from augment.checks._contract import (
    Check,
    Evidence,
    Expect,
    Figures,
    Finding,
    Learned,
    RowFault,
    RowFigures,
    Shard,
    bounded,
    never,
    share,
)
from augment.checks._hashes import contained, has_a_twin, save_sorted
from augment.checks._real import HELD_OUT, SEEN, RealRows
from augment.checks._repeats import limit_above, rows_may_repeat
from augment.gates import plural


class TestLeak(Check):
    """Refuses a set that holds validation or test rows more often than chance explains.

    For images chance explains none. For tables the floor is the probability that a fresh real row has the content of a
    held-out one: the share of training and validation rows that equal another of them (leaving each out in turn, after
    Good, "The population frequencies of species", 1953), times the share of all rows that are held out. The split keeps
    equal rows on one side, so counting training rows among the held-out ones would give zero whatever the data. What
    test rows contain sets no limit; it is only what synthetic rows are compared with. Whatever the share, a row that
    equals a held-out one is never published: it is rejected and drawn again.
    """

    __test__: ClassVar[bool] = False  # pytest takes classes called Test... for tests

    kind: Literal["test_leak"] = "test_leak"
    summary: ClassVar[str] = "no synthetic row equals a validation or test row (tables: no more often than real rows)"
    better: ClassVar[Literal["high", "low"] | None] = "low"
    mandatory: ClassVar[bool] = True

    margin: float = Field(
        0.01, ge=0, le=0.2, allow_inf_nan=False, description="Share above the real rows' own; for tables only."
    )

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The sorted hashes of the held-out rows, and how many training and validation rows equal another of them."""
        save_sorted(folder / "held_out.npy", real.hashes(*HELD_OUT), real.num_rows(*HELD_OUT))
        ordered = folder / "seen.npy"
        save_sorted(ordered, real.hashes(*SEEN), real.num_rows(*SEEN))
        seen = np.load(ordered, mmap_mode="r")
        equal = int(has_a_twin(seen).sum())
        del seen
        ordered.unlink()
        return {
            "seen_rows": real.num_rows(*SEEN),
            "equal_rows": equal,
            "held_out_share": share(real.num_rows(*HELD_OUT), real.num_rows("train", *HELD_OUT)),
        }

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """Which rows have the content of a held-out row."""
        leaked = contained(shard.hashes, learned.array("held_out"))
        return RowFigures({"test_leak.held_out": leaked}, [RowFault(leaked, "equals a validation or test row")])

    def row_expectations(self, learned: Learned) -> list[Expect]:
        """No row has the content of a held-out row; how many may is decided over all shards."""
        return [never("test_leak.held_out")]

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The share of rows as first drawn that equal a held-out row."""
        leaked = evidence.unexpected("test_leak.held_out")
        value = share(leaked, evidence.rows)
        floor, limit = None, 0.0
        if rows_may_repeat(evidence.schema):
            seen = int(learned.figures["seen_rows"])
            floor = share(learned.figures["equal_rows"], seen) * learned.figures["held_out_share"]
            limit = limit_above(floor, self.margin, seen, evidence.rows)
        allowed = math.floor(limit * evidence.rows + 1e-9)
        return Finding(
            f"{leaked:,} of {plural(evidence.rows, 'synthetic row')} equal a validation or test row; "
            f"{allowed:,} {'is' if allowed == 1 else 'are'} allowed, and none is published.",
            value=value,
            floor=floor,
            limit=limit,
            metrics={"share": value},
            set_expectations=bounded("test_leak.share", 0, limit),
        )
