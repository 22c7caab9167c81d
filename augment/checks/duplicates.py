"""Duplicates: synthetic rows repeat neither each other nor the training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
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
from augment.checks._hashes import (
    HASH,
    as_hashes,
    contained,
    has_a_twin,
    raw_hashes,
    repeats_an_earlier,
    save_sorted,
)
from augment.checks._real import BATCH_ROWS, RealRows, class_names
from augment.checks._repeats import limit_above, rows_may_repeat

Coded = tuple[NDArray[Any], NDArray[np.bytes_]]  # the class names and the content hashes of some rows


class Duplicates(Check):
    """Refuses a set of copies: of the training rows, or of each other.

    Images: no copy of a training row, and at most ``repeats`` of the set repeat another of its rows; such rows are
    rejected and drawn again. Tables: equal rows may be natural, so both shares are compared with those of real rows,
    and rows within the limit stay; drawing them again would push discrete tables away from the real distribution.

    The floor of copies is how often a fresh real row equals a training row: seen on the validation rows, or, because
    the split keeps equal rows on one side, estimated by leaving out each training row in turn (Good, "The population
    frequencies of species", 1953), weighted by the classes that were drawn. The share of repeats grows with the size of
    a set, so the floor of repeats compares as many synthetic as training rows of each class.
    """

    kind: Literal["duplicates"] = "duplicates"
    summary: ClassVar[str] = "no copies of training rows, few repeats (tables: no more than real rows have)"
    better: ClassVar[Literal["high", "low"] | None] = "low"
    mandatory: ClassVar[bool] = True

    repeats: float = Field(
        0.005, ge=0, le=1, allow_inf_nan=False, description="Share of images that may repeat another of the set."
    )
    margin: float = Field(
        0.02, ge=0, le=0.5, allow_inf_nan=False, description="Share above the real rows' own; for tables only."
    )

    def learn(self, real: RealRows, folder: Path) -> Figures:
        """The sorted hashes of the training rows, and how many training and validation rows equal another of them."""
        save_sorted(folder / "train.npy", real.hashes("train"), real.num_rows("train"))
        train = np.load(folder / "train.npy", mmap_mode="r")
        twins = np.asarray(train[has_a_twin(train)])
        rows: Counter[str] = Counter()
        repeated: Counter[str] = Counter()
        for names, hashes in zip(real.classes("train"), real.hashes("train"), strict=True):
            rows.update(names)
            repeated.update(names[contained(hashes, twins)])
        copies = sum(int(contained(hashes, train).sum()) for hashes in real.hashes("validation"))
        return {
            "train_rows": dict(rows),
            "train_rows_repeated": dict(repeated),
            "validation_rows": real.num_rows("validation"),
            "validation_copies": copies,
        }

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """Which rows equal a training row, and which an earlier synthetic row of this shard or those before."""
        copies = contained(shard.hashes, learned.array("train"))
        repeats = repeats_an_earlier(shard.hashes)
        for folder in shard.earlier:
            repeats |= contained(shard.hashes, np.load(folder / "hashes.npy", mmap_mode="r"))
        rejects = not rows_may_repeat(shard.schema)
        return RowFigures(
            {"duplicates.copy_of_train": copies, "duplicates.repeat": repeats},
            [
                RowFault(copies, "equals a training row", rejects),
                RowFault(repeats, "equals an earlier synthetic row", rejects),
            ],
        )

    def row_expectations(self, learned: Learned) -> list[Expect]:
        """No row is a copy or a repeat; how many may be is decided over all shards."""
        return [never("duplicates.copy_of_train"), never("duplicates.repeat")]

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The shares of copies and of repeats among the rows as first drawn; the one nearer to its limit is shown."""
        copies = share(evidence.unexpected("duplicates.copy_of_train"), evidence.rows)
        repeats = share(evidence.unexpected("duplicates.repeat"), evidence.rows)
        floors: dict[str, float | None] = {"copies": None, "repeats": None}
        limits = {"copies": 0.0, "repeats": self.repeats}
        if rows_may_repeat(evidence.schema):
            train_rows = learned.figures["train_rows"]
            floor = _expected_copies(learned.figures, evidence.drawn)
            limits["copies"] = limit_above(floor, self.margin, sum(train_rows.values()), evidence.rows)
            repeats, repeats_floor, compared = _repeats_at_equal_size(evidence, train_rows)
            limits["repeats"] = limit_above(repeats_floor, self.margin, compared, compared)
            floors = {"copies": floor, "repeats": repeats_floor}
        values = {"copies": copies, "repeats": repeats}
        shown = max(values, key=lambda name: values[name] - limits[name])
        return Finding(
            f"{copies:.2%} of the synthetic rows equal a training row ({limits['copies']:.2%} are allowed), "
            f"and {repeats:.2%} repeat another synthetic row ({limits['repeats']:.2%} are allowed).",
            value=values[shown],
            floor=floors[shown],
            limit=limits[shown],
            metrics={"copies_share": copies, "repeats_share": repeats},
            set_expectations=[
                *bounded("duplicates.copies_share", 0, limits["copies"]),
                *bounded("duplicates.repeats_share", 0, limits["repeats"]),
            ],
        )


def _expected_copies(figures: Figures, drawn: Mapping[str, int]) -> float:
    """The share of fresh real rows, of the classes that were drawn, that would equal a training row."""
    rows, repeated = figures["train_rows"], figures["train_rows_repeated"]
    overall = share(sum(repeated.values()), sum(rows.values()))
    by_class = sum(number * share(repeated.get(name, 0), rows.get(name, 0)) for name, number in drawn.items())
    weighted = by_class / max(1, sum(drawn.values()))
    # A small class shows few of its repeats, so the rate over all classes counts where it is the larger.
    return max(overall, weighted, share(figures["validation_copies"], figures["validation_rows"]))


def _repeats_at_equal_size(evidence: Evidence, train_rows: Mapping[str, int]) -> tuple[float, float, int]:
    """The shares of repeats among synthetic and among real rows, of equal number in each class, and that number."""
    sizes = {name: min(rows, evidence.drawn.get(name, 0)) for name, rows in train_rows.items()}
    first = [path for path, record in zip(evidence.judged_paths, evidence.records, strict=True) if record.round == 0]
    synthetic = _first_of_each(_judged_rows(first), sizes)
    real = _first_of_each(_train_rows(evidence), sizes)
    return (
        float(repeats_an_earlier(synthetic).mean()) if len(synthetic) else 0.0,
        float(repeats_an_earlier(real).mean()) if len(real) else 0.0,
        min(len(synthetic), len(real)),
    )


def _judged_rows(folders: Iterable[Path]) -> Iterator[Coded]:
    """The class names and content hashes of the judged shards in ``folders``, in chunks."""
    for folder in folders:
        with pq.ParquetFile(folder / "features.parquet") as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=["label", "hash"]):
                yield np.array(batch.column("label").to_pylist(), dtype=object), raw_hashes(batch.column("hash"))


def _train_rows(evidence: Evidence) -> Iterator[Coded]:
    """The class names and content hashes of the training rows, in chunks."""
    label = evidence.schema.label
    with pq.ParquetFile(evidence.real_path / "train.parquet") as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["content_hash", *([label] if label else [])]):
            yield class_names(batch, evidence.schema), as_hashes(batch.column("content_hash"))


def _first_of_each(rows: Iterable[Coded], sizes: Mapping[str, int]) -> NDArray[np.bytes_]:
    """The hashes of the first ``sizes[name]`` rows of each class."""
    left = dict(sizes)
    kept = [np.empty(0, dtype=HASH)]
    for names, hashes in rows:
        for name in [name for name, number in left.items() if number]:
            found = hashes[names == name][: left[name]]
            left[name] -= len(found)
            kept.append(found)
    return np.concatenate(kept)
