"""Columns that are kept in real rows and empty in synthetic ones: ids, dates, free text, and what is told so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pyarrow as pa

from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Values
from augment.columns._storage import natural_type
from augment.columns._summary import ColumnSummary
from augment.columns._types import StoredType
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from models._contract import Span

NEARLY_ALL = 0.95
FEW_ROWS = 10  # a handful of numbers may rise by chance
LONG_TEXT = 40  # characters on average
ID_NAME = re.compile(r"(^|[^a-z])(id|ids|uuid|guid|key|index|rownum|row_number)([^a-z]|$)")

TIMESTAMP = StoredType(
    name="timestamp",
    arrow=pa.timestamp("us"),
    family="time",
    holds=lambda found: pa.types.is_timestamp(found) or pa.types.is_date(found),
    lanes=_lanes.of_int64,
    croissant="sc:DateTime",
)


class Ignored(ColumnKind):
    """Nothing is learnt of it, and its synthetic values are null."""

    order: ClassVar[int] = 20
    types: ClassVar[tuple[StoredType, ...]] = (TIMESTAMP,)

    kind: Literal["ignore"] = "ignore"

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Columns without values, dates, ids, and text that nothing else takes."""
        if not summary.present:
            return "it holds only missing values"
        if summary.family == "time" or (summary.family == "text" and summary.dates):
            return "it holds dates"
        if is_id(summary):
            return "it looks like an id: nearly every row has a value of its own"
        return None

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """Whatever keeps the values as they are."""
        return natural_type(summary), None

    @classmethod
    def fit(cls, column: ColumnSchema, _arrays: Iterable[pa.Array], _generator: np.random.Generator) -> Ignored:
        """Nothing."""
        return cls(name=column.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """No values."""
        return (0,)

    def spans(self) -> tuple[Span, ...]:
        """None."""
        return ()

    def encode(self, array: pa.Array, _generator: np.random.Generator) -> Values:
        """An array of shape (n, 0)."""
        return np.zeros((len(array), 0), np.float32)

    def decode(self, values: Values, column: ColumnSchema) -> pa.Array:
        """Nulls."""
        return pa.nulls(len(values), column.arrow_type)


def is_id(summary: ColumnSummary) -> bool:
    """Whether the values name rows: texts that nearly all differ, numbers that count up or down or are called ids."""
    if summary.family not in ("text", "integer") or summary.present < 2:
        return False
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", summary.name).lower()
    called_id = ID_NAME.search(words) is not None and summary.distinct_share >= NEARLY_ALL
    if summary.whole:
        return called_id or (summary.present >= FEW_ROWS and (summary.rising or summary.falling))
    if summary.numbers and not summary.digits_only:
        return False
    return summary.distinct_share >= NEARLY_ALL and (called_id or summary.present >= FEW_ROWS)


def why_no_category(summary: ColumnSummary) -> str:
    """Why a text column is ignored that is neither dates nor an id."""
    if summary.characters / summary.present > LONG_TEXT:
        return "it holds free text"
    return f"it holds too many different texts for categories ({summary.counted} in {summary.present} rows)"
