"""Columns of true and false."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pyarrow as pa

from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Values
from augment.columns._onehot import OneHot
from augment.columns._profile import Names, Profile
from augment.columns._storage import is_truth, natural_type
from augment.columns._summary import PLAIN_FAMILIES, ColumnSummary
from augment.columns._types import StoredType
from augment.errors import InputError
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from augment.report.drawings import Drawing
    from models._contract import Span

BOOL = StoredType(
    name="bool",
    arrow=pa.bool_(),
    family="boolean",
    holds=pa.types.is_boolean,
    lanes=_lanes.of_bool,
    croissant="sc:Boolean",
)


class Boolean(ColumnKind):
    """Two categories, or three where values are missing."""

    may_label: ClassVar[bool] = True
    order: ClassVar[int] = 10
    types: ClassVar[tuple[StoredType, ...]] = (BOOL,)

    kind: Literal["boolean"] = "boolean"
    one_hot: OneHot

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Logical values, and text that is ``true`` or ``false``; yes and no would not come back as they were."""
        if is_truth(summary) and (summary.family == "boolean" or summary.parse_text):
            return "it holds true and false"
        return None

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """The values' own type: a declared column may say yes and no, or 1 and 0."""
        if summary.family not in PLAIN_FAMILIES or summary.num_distinct > 2:
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

    @classmethod
    def profile(cls) -> Profile:
        """Every value must be known."""
        return Names()

    @classmethod
    def drawing(cls) -> Drawing:
        """The share of each value."""
        from augment.report.drawings import VALUES

        return VALUES
