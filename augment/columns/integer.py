"""Columns of whole numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pyarrow as pa

from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Values
from augment.columns._profile import Numbers, Profile
from augment.columns._scalar import Scalar
from augment.columns._storage import refuse_not_finite
from augment.columns._summary import ColumnSummary
from augment.columns._types import StoredType
from augment.errors import InputError
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from augment.report.drawings import Drawing
    from models._contract import Span

INT64 = StoredType(
    name="int64",
    arrow=pa.int64(),
    family="integer",
    holds=pa.types.is_integer,
    lanes=_lanes.of_int64,
    croissant="sc:Integer",
)


class Integer(ColumnKind):
    """A number of the standard normal distribution; comes back as a whole number."""

    may_label: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    order: ClassVar[int] = 30
    types: ClassVar[tuple[StoredType, ...]] = (INT64,)

    kind: Literal["integer"] = "integer"
    scalar: Scalar

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Whole numbers of up to 64 bits, written without leading zeros or plus signs."""
        if summary.whole and summary.numbers and summary.family != "float":
            return f"it holds whole numbers, {summary.counted} of them different"
        return None

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """64-bit whole numbers."""
        refuse_not_finite(summary)
        if not summary.whole or not summary.numbers:
            raise InputError(
                f"the column '{summary.name}' of {summary.where} is declared integer and holds more than whole numbers "
                "of 64 bits; declare it numeric, categorical or ignore."
            )
        return "int64", 0

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], generator: np.random.Generator) -> Integer:
        """The distribution of the training rows' values."""
        return cls(name=column.name, scalar=Scalar.fit(arrays, generator))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number, and two more where values are missing."""
        return (self.scalar.width,)

    def spans(self) -> tuple[Span, ...]:
        """The number, and whether it is there."""
        return self.scalar.spans()

    def encode(self, array: pa.Array, generator: np.random.Generator) -> Values:
        """Normal draws, shape (n, width)."""
        return self.scalar.encode(array, generator)

    def decode(self, values: Values, column: ColumnSchema) -> pa.Array:
        """The whole numbers at these quantiles."""
        return self.scalar.decode(values, column)

    @classmethod
    def profile(cls) -> Profile:
        """The number is its own measure."""
        return Numbers()

    @classmethod
    def drawing(cls) -> Drawing:
        """A histogram."""
        from augment.report.drawings import NUMBERS

        return NUMBERS
