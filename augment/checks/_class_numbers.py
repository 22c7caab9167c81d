"""The rows of each class as numbers that sets of rows are compared by: measures, and which category a row has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment._features import names as names_of
from augment.checks._contract import Evidence
from augment.checks._discrepancies import Floats
from augment.checks._real import BATCH_ROWS, Part, RealRows, class_names
from augment.schema import DatasetSchema

FEATURE = "feature."  # how the names of measures begin
CATEGORIES = 12  # of a column, the most frequent ones
Categories = Mapping[str, Sequence[str | None]]  # by column; null stands for missing


@dataclass(frozen=True)
class Numbers:
    """The numbers ``(rows, F)`` of some rows of each class: measures first, then 0 or 1 for each share."""

    names: list[str]
    classes: dict[str, Floats]


def frequent_categories(real: RealRows, limit: int) -> dict[str, list[str | None]]:
    """The most frequent categories of each column in a few training rows of each class; null stands for missing."""
    counts: dict[str, Counter[str | None]] = {column.name: Counter() for column in real.schema.features}
    for batch in real.few_of_each_class(limit, "train"):
        for name, texts in names_of(batch, real.schema).items():
            counts[name].update(texts.to_pylist())
    found: dict[str, list[str | None]] = {}
    for name, count in counts.items():
        ordered = sorted(count, key=lambda text: (-count[text], text is None, text or ""))
        if len(ordered) == 2:  # one has the complement of the other's share
            ordered = [None] if None in ordered else ordered[:1]
        found[name] = ordered[:CATEGORIES] if len(count) > 1 else []
    return {name: texts for name, texts in found.items() if texts}


def codes_of(
    rows: pa.RecordBatch | pa.Table, schema: DatasetSchema, categories: Categories
) -> dict[str, NDArray[np.int8]]:
    """The place of each row's category in the list of its column, -1 where it is not in it."""
    texts = names_of(rows, schema)
    codes = {}
    for name, known in categories.items():
        found = pc.fill_null(pc.index_in(texts[name], value_set=pa.array(known, pa.string())), -1)
        codes[name] = found.to_numpy(zero_copy_only=False).astype(np.int8)
    return codes


def _indicators(codes: Mapping[str, NDArray[Any]], categories: Categories) -> dict[str, Floats]:
    """For each category whether a row has it, 0 or 1, by the name of its share."""
    found: dict[str, Floats] = {}
    for name, known in categories.items():
        for place, text in enumerate(known):
            title = f"share of missing {name}" if text is None else f"share of {name} = {text}"
            found[title] = (codes[name] == place).astype(np.float64)
    return found


def few_numbers(real: RealRows, part: Part, limit: int, categories: Categories) -> Numbers:
    """The numbers of a few real rows of each class."""
    names: list[str] = []
    parts: dict[str, list[Floats]] = {}
    for batch in real.few_of_each_class(limit, part):
        features = real.measure(batch)
        columns = {str(name): features[name].to_numpy() for name in features.columns}
        columns |= _indicators(codes_of(batch, real.schema, categories), categories)
        names = list(columns)
        _add_by_class(parts, class_names(batch, real.schema), columns)
    return Numbers(names, {name: np.concatenate(found) for name, found in sorted(parts.items())})


def numbers_of_set(evidence: Evidence, gate: str, names: Sequence[str], categories: Categories, limit: int) -> Numbers:
    """The numbers of the first ``limit`` synthetic rows of each class of the set: see :attr:`Evidence.of_set`.

    The first rows stand for all of them, since the order in which rows are drawn says nothing about them. Those of an
    operator without parents are independent draws; one with parents takes its exemplars in turn, in an order that is
    drawn, so its rows are spread more evenly than independent ones. Memory is bounded by the kept rows and one batch,
    and a shard that has only rows of classes that are full is not read.
    """
    features = [name for name in names if name.startswith(FEATURE)]
    columns = ["label", *features, *(f"{gate}.{name}" for name in categories)]
    parts: dict[str, list[Floats]] = {}
    for _, path, record in evidence.of_set:
        if _are_full(parts, record.drawn, limit):
            continue
        for batch in _batches_of_set(evidence, path / "features.parquet", columns):
            found = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in features}
            codes = {name: batch.column(f"{gate}.{name}").to_numpy() for name in categories}
            labels = np.array(batch.column("label").to_pylist(), dtype=object)
            _add_by_class(parts, labels, found | _indicators(codes, categories), limit)
            if _are_full(parts, record.drawn, limit):
                break
    return Numbers(list(names), {name: np.concatenate(found) for name, found in parts.items()})


def _are_full(parts: Mapping[str, Sequence[Floats]], classes: Iterable[str], limit: int) -> bool:
    return all(sum(map(len, parts.get(name, ()))) >= limit for name in classes)


def _batches_of_set(evidence: Evidence, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        if not evidence.choices:
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
            return
        for batch in file.iter_batches(BATCH_ROWS, columns=[*columns, "accepted"]):
            yield batch.filter(batch.column("accepted"))


def _add_by_class(
    parts: dict[str, list[Floats]], labels: NDArray[Any], columns: Mapping[str, NDArray[Any]], limit: int | None = None
) -> None:
    """Add the rows of each class to ``parts``, up to ``limit`` of a class in all."""
    table = np.column_stack([*columns.values(), np.empty((len(labels), 0))]).astype(np.float64)
    for name in np.unique(labels):
        before = parts.setdefault(str(name), [])
        places = np.flatnonzero(labels == name)
        if limit is not None:
            places = places[: limit - sum(map(len, before))]
        if len(places):
            before.append(table[places])  # a copy: a view would keep the whole table


def by_class(numbers: NDArray[Any], rows: Mapping[str, int]) -> dict[str, Floats]:
    """``numbers`` of all classes, one after the other, taken apart; ``rows`` are those of each class in order."""
    ends = np.cumsum(list(rows.values()))
    return {name: np.array(numbers[end - count : end]) for (name, count), end in zip(rows.items(), ends, strict=True)}
