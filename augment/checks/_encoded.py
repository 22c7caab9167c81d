"""Synthetic rows as the nets see them: those of one shard, or some of each class of the set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from augment.checks._class_numbers import FEATURE
from augment.checks._contract import Evidence, Flags, Shard, sound_rows
from augment.checks._discrepancies import Floats
from augment.checks._real import BATCH_ROWS, RealRows
from augment.worth._chosen_rows import most_of_a_class
from models._contract import Batch

if TYPE_CHECKING:
    import pandas as pd

    from augment.worth.encoders import Encoders


class DrawnRows(NamedTuple):
    """Rows of the set: encoded ``rows`` and ``positions`` ``(N, size)``, with what is known of each, in one order.

    They are as first drawn, or those that will be published where rows are selected. ``measures`` ``(N, F)`` are those
    of :mod:`augment._features`, numbers as they are; ``parents`` says which rows name
    real ones that they were drawn from; ``accepted`` which will be published.
    """

    rows: Batch
    positions: Tensor
    sample_ids: list[str]
    parents: Flags
    accepted: Flags
    measures: Floats


def nets_of(evidence: Evidence | Shard | RealRows) -> Encoders:
    """The nets, which a check that says it needs them finds here."""
    assert evidence.encoders is not None
    return evidence.encoders


def drawn_of(evidence: Evidence) -> DrawnRows:
    """The rows of :func:`rows_of_set`, which are read once for all checks."""
    assert evidence.drawn_rows is not None
    return evidence.drawn_rows


def encoded_shard(shard: Shard) -> tuple[Flags, Batch]:
    """Which rows of a shard can be encoded at all, and these encoded."""
    sound = sound_rows(shard.column_faults, len(shard))
    return sound, nets_of(shard).encode(shard.table.filter(pa.array(sound)))


def rows_of_set(evidence: Evidence) -> DrawnRows:
    """The first rows without faults of each class of the set, at most 2,000 of a class and 40,000 in all.

    The order in which rows are drawn says nothing about them, so the first stand for all.
    """
    limit = most_of_a_class(len(evidence.wanted))
    encoders = nets_of(evidence)
    taken: Counter[str] = Counter()
    empty = evidence.schema.arrow_schema.empty_table()
    parts, positions = [encoders.encode(empty)], [encoders.positions(empty)]
    ids: list[str] = []
    parents, accepted = [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=bool)]
    measures: list[Floats] = []
    for rows, said in _batches_of_set(evidence):
        names = np.array(said["label"].to_pylist(), dtype=object)
        published = said["accepted"].to_numpy(zero_copy_only=False)
        kept = said["sound"].to_numpy(zero_copy_only=False) & evidence.in_set(published)
        for name in np.unique(names):
            here = np.flatnonzero((names == name) & kept)
            kept[here[max(0, limit - taken[name]) :]] = False
            taken[name] += len(here)
        some = rows.filter(pa.array(kept))
        parts.append(encoders.encode(some))
        positions.append(encoders.positions(some) if encoders.codec.draws else parts[-1].x.flatten(1))
        ids += some["sample_id"].to_pylist()
        parents.append(some["parent_ids"].is_valid().to_numpy(zero_copy_only=False))
        accepted.append(published[kept])
        names_of_measures = [name for name in said.schema.names if name.startswith(FEATURE)]
        measures.append(as_matrix(said.select(names_of_measures).to_pandas())[kept])
    return DrawnRows(
        Batch(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])),
        torch.cat(positions),
        ids,
        np.concatenate(parents),
        np.concatenate(accepted),
        np.concatenate(measures or [np.empty((0, 0))]),
    )


def as_matrix(features: pd.DataFrame) -> Floats:
    """Measures ``(N, F)`` as numbers, NaN where one is missing."""
    return features.to_numpy(np.float64, na_value=np.nan).reshape(len(features), -1)


def _batches_of_set(evidence: Evidence) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """The rows of each shard of the set and what the judge said of them, a batch at a time."""
    for shard, judged, _ in evidence.of_set:
        with pq.ParquetFile(shard / "shard.parquet") as rows, pq.ParquetFile(judged / "features.parquet") as said:
            columns = ["label", "sound", "accepted"]
            columns += [name for name in said.schema_arrow.names if name.startswith(FEATURE)]
            yield from zip(rows.iter_batches(BATCH_ROWS), said.iter_batches(BATCH_ROWS, columns=columns), strict=True)
