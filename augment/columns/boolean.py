"""Columns of true and false."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from augment.columns._contract import ColumnKind, Values
from augment.columns._onehot import OneHot
from augment.columns._storage import is_truth, natural_type
from augment.columns._summary import ColumnSummary, StorageType
from augment.errors import InputError
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from models._contract import Span


class Boolean(ColumnKind):
    """Two categories, or three where values are missing."""

    kind: Literal["boolean"] = "boolean"
    one_hot: OneHot

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Logical values, and text that is ``true`` or ``false``; yes and no would not come back as they were."""
        if is_truth(summary) and (summary.family == "boolean" or summary.parse_text):
            return "it holds true and false"
        return None

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[StorageType, int | None]:
        """The values' own type: a declared column may say yes and no, or 1 and 0."""
        if summary.family in ("image", "time") or summary.num_distinct > 2:
            raise InputError(
                f"the column '{summary.name}' of {summary.where} is declared boolean and holds more than two different "
                "values; declare it categorical or ignore."
            )
        return natural_type(summary), None

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], _generator: np.random.Generator) -> Boolean:
        """The values that occur in the training rows."""
        return cls(name=column.name, one_hot=OneHot.fit(column, arrays))

    @property
    def shape(self) -> tuple[int, ...]:
        """One number per value."""
        return (self.one_hot.width,)

    def spans(self) -> tuple[Span, ...]:
        """One categorical span."""
        from models._contract import Span

        return (Span("categorical", self.one_hot.width),)

    def encode(self, array: pa.Array, _generator: np.random.Generator) -> Values:
        """One-hot, shape (n, width)."""
        return self.one_hot.encode(array)

    def decode(self, values: Values, column: ColumnSchema) -> pa.Array:
        """The value with the largest number."""
        return self.one_hot.decode(values, column.arrow_type)
