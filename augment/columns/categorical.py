"""Columns whose values come from a small set of texts or numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from augment.columns._contract import ColumnKind, Values
from augment.columns._onehot import OneHot
from augment.columns._storage import natural_type, refuse_not_finite
from augment.columns._summary import ColumnSummary, StorageType
from augment.errors import InputError
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from models._contract import Span

FEW = 10  # so many are categories even in a small table
MANY = 100


class Categorical(ColumnKind):
    """One number per category of the training rows; a missing value is a category of its own where there are any."""

    kind: Literal["categorical"] = "categorical"
    one_hot: OneHot

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Text whose values repeat."""
        count = summary.num_distinct
        repeats = count <= summary.present / 2 or (count <= FEW and count < summary.present)
        if summary.family in ("text", "integer") and count <= MANY and repeats:
            return f"it holds {count} different text{'s' * (count != 1)}"
        return None

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[StorageType, int | None]:
        """The values' own type; texts with decimals stay texts, so that ``1.10`` is not ``1.1``."""
        if summary.family in ("image", "time"):
            raise InputError(
                f"the column '{summary.name}' of {summary.where} holds {summary.family}s and cannot be categorical; "
                "leave its kind out."
            )
        if summary.family == "float":
            refuse_not_finite(summary)
        return natural_type(summary), None

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], _generator: np.random.Generator) -> Categorical:
        """The categories of the training rows."""
        return cls(name=column.name, one_hot=OneHot.fit(column, arrays))

    @property
    def shape(self) -> tuple[int, ...]:
        """One number per category."""
        return (self.one_hot.width,)

    def spans(self) -> tuple[Span, ...]:
        """One categorical span."""
        from models._contract import Span

        return (Span("categorical", self.one_hot.width),)

    def encode(self, array: pa.Array, _generator: np.random.Generator) -> Values:
        """One-hot, shape (n, width)."""
        return self.one_hot.encode(array)

    def decode(self, values: Values, column: ColumnSchema) -> pa.Array:
        """The category with the largest number."""
        return self.one_hot.decode(values, column.arrow_type)
