"""What rows look like as plain numbers, and which values break the kind of their column.

Each column kind names its profile: the *measures* it yields for the table that Great Expectations judges (a number is
its own measure, an image has ten), the *traits* it learns from the training rows, and the *faults* that a value can
have. Here the profiles of all columns become one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from augment.columns import KINDS
from augment.columns._profile import Faults, Measures, Profile, Traits
from augment.schema import ColumnSchema, DatasetSchema

if TYPE_CHECKING:
    import pandas as pd


def profile_of(column: ColumnSchema) -> Profile:
    """How validation sees the values of ``column``, as its kind says."""
    return KINDS[column.kind].profile()


def learn_traits(schema: DatasetSchema, name: str, chunks: Iterable[pa.Array]) -> Traits:
    """What the training values of the column ``name`` have in common, as JSON values."""
    return profile_of(schema.column(name)).learn(chunks)


def profile(
    rows: pa.RecordBatch | pa.Table, schema: DatasetSchema, traits: Mapping[str, Traits] | None = None
) -> tuple[pd.DataFrame, dict[str, Faults]]:
    """The features of rows as a frame, one row a row, and the faults of each feature column.

    A measure is called ``feature.<column>`` or ``feature.<column>.<measure>``. Without ``traits`` faults that need
    them are not looked for.
    """
    import pandas as pd

    measures: Measures = {}
    faults: dict[str, Faults] = {}
    for column in schema.features:
        values = _whole(rows.column(column.name))
        found = profile_of(column).inspect(values, None if traits is None else traits[column.name])
        for suffix, numbers in found.measures.items():
            measures[feature_name(column.name, suffix)] = numbers
        faults[column.name] = found.faults
    return pd.DataFrame(measures, index=pd.RangeIndex(rows.num_rows)), faults


def names(rows: pa.RecordBatch | pa.Table, schema: DatasetSchema) -> dict[str, pa.Array]:
    """What can be counted of each feature column, by its name: texts, null where a value is missing."""
    return {column.name: profile_of(column).names(_whole(rows.column(column.name))) for column in schema.features}


def resolutions(rows: pa.RecordBatch | pa.Table, schema: DatasetSchema) -> dict[str, float]:
    """The step of the grid on which each feature of :func:`profile` lives; a feature without one is absent."""
    return {
        feature_name(column.name, suffix): step
        for column in schema.features
        for suffix, step in profile_of(column).resolutions(_whole(rows.column(column.name)), column.decimals).items()
    }


def feature_name(column: str, suffix: str) -> str:
    """What the measure ``suffix`` of a column is called in a table of features."""
    return f"feature.{column}" + (f".{suffix}" if suffix else "")


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
