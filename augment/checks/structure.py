"""Structure: the synthetic rows are a table of the data's own kind, complete and well-formed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from augment.checks._contract import (
    Check,
    Evidence,
    Expect,
    Finding,
    Flags,
    Learned,
    RowFault,
    RowFigures,
    Shard,
    bounded,
    never,
    sound_rows,
)
from augment.checks._hashes import as_hashes
from augment.checks._real import class_names
from augment.gates import plural
from augment.schema import class_name

COLUMN_FAULTS = {
    "other_type": "is not a value of the column's type",
    "missing": "has no value, though no training row lacks one",
    "not_finite": "is not a finite number",
    "unknown_category": "is a category that no training row has",
    "broken_image": "is not an image that can be read",
    "other_image": "is an image of another size or mode than the training rows",
}
ROW_FAULTS = {
    "unknown_label": "the label is not a class of the data",
    "bad_id": "sample_id is not syn-<generator>-<round>-<index>",
    "repeated_id": "another row has the same sample_id",
    "bad_hash": "content_hash is not the hash of the row",
    "not_null": "an ignored column has a value",
}


class Structure(Check):
    """Refuses rows that a reader could trip over: one such row among those first drawn is one too many."""

    kind: Literal["structure"] = "structure"
    summary: ClassVar[str] = "columns, types, categories, labels, images and ids are those of the data; no NaN"
    mandatory: ClassVar[bool] = True
    stops: ClassVar[bool] = True

    def rows(self, shard: Shard, learned: Learned) -> RowFigures:
        """One flag a kind of fault for Great Expectations, one reason a column and fault for the rejects."""
        flags = {name: np.zeros(len(shard), dtype=bool) for name in (*COLUMN_FAULTS, *ROW_FAULTS)}
        faults = []
        for column, found in shard.column_faults.items():
            for name, rows in found.items():
                flags[name] |= rows
                faults.append(RowFault(rows, f"{column} {COLUMN_FAULTS[name]}"))
        for name, rows in _row_faults(shard):
            flags[name] |= rows
            faults.append(RowFault(rows, ROW_FAULTS[name]))
        return RowFigures({f"structure.{name}": rows for name, rows in flags.items()}, faults)

    def row_expectations(self, learned: Learned) -> list[Expect]:
        """There are rows, and none has a fault."""
        some = Expect("ExpectTableRowCountToBeBetween", {"min_value": 1})
        return [some, *(never(f"structure.{name}") for name in (*COLUMN_FAULTS, *ROW_FAULTS))]

    def find(self, evidence: Evidence, learned: Learned) -> Finding:
        """The number of malformed rows and tables among those first drawn; none is allowed."""
        counts = {name: evidence.unexpected(f"structure.{name}") for name in (*COLUMN_FAULTS, *ROW_FAULTS)}
        malformed = [trouble for record in evidence.records for trouble in record.malformed] + _overlaps(evidence)
        faults = sum(counts.values()) + len(malformed)
        found = [f"{name.replace('_', ' ')} in {plural(n, 'row')}" for name, n in counts.items() if n]
        found += malformed[:3]
        if not evidence.rows and not malformed:
            sentence = "Nothing was generated: there are 0 synthetic rows."
        elif found:
            sentence = f"Of {plural(evidence.rows, 'synthetic row')}: {'; '.join(found)}; none is allowed."
        else:
            sentence = f"All {plural(evidence.rows, 'synthetic row')} are complete and well-formed."
        return Finding(
            sentence,
            value=faults,
            limit=0,
            metrics={"faults": faults, "rows": evidence.rows},
            set_expectations=[*bounded("structure.faults", 0, 0), *bounded("structure.rows", 1, None)],
        )


def _row_faults(shard: Shard) -> Iterator[tuple[str, Flags]]:
    """The faults of whole rows, each with the rows that have it."""
    table, schema = shard.table, shard.schema
    if schema.label is not None:
        known = np.array([class_name(value) for value in schema.classes], dtype=object)
        yield "unknown_label", ~np.isin(class_names(table, schema), known)
    index = table["gen_index"].cast(pa.string())
    expected = pc.binary_join_element_wise("syn", table["generator_id"], str(shard.round), index, "-")
    yield "bad_id", ~_true(pc.equal(table["sample_id"], expected))
    _, first = np.unique(table["gen_index"].to_numpy(), return_index=True)
    repeated = np.ones(len(shard), dtype=bool)
    repeated[first] = False
    yield "repeated_id", repeated
    yield "bad_hash", (_stated(table["content_hash"]) != shard.hashes) & sound_rows(shard.column_faults, len(shard))
    for column in schema.ignored:
        yield "not_null", _true(pc.is_valid(table[column.name]))


def _stated(column: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """The hashes that the rows state; what is no hash becomes zeros, which equal no content."""
    plausible = pc.fill_null(pc.match_substring_regex(column, "^[0-9a-f]{32}$"), False)
    return as_hashes(pc.if_else(plausible, column, "0" * 32))


def _true(values: Any) -> Flags:
    """A column of booleans as an array; missing is false."""
    found: Flags = pc.fill_null(values, False).to_numpy()
    return found


def _overlaps(evidence: Evidence) -> list[str]:
    """Shards of one round that use the same indices, so that ids are not unique in the set."""
    spans = sorted(
        (record.round, record.first_index, record.last_index)
        for record in evidence.records
        if record.first_index is not None and record.last_index is not None
    )
    return [
        f"two shards of round {spans[i][0]} use the index {spans[i + 1][1]}"
        for i in range(len(spans) - 1)
        if spans[i][0] == spans[i + 1][0] and spans[i][2] >= spans[i + 1][1]
    ]
