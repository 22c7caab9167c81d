"""Columns of numbers with decimals."""

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

FLOAT64 = StoredType(
    name="float64",
    arrow=pa.float64(),
    family="float",
    holds=lambda found: pa.types.is_floating(found) or pa.types.is_decimal(found),
    lanes=_lanes.of_float64,
    croissant="sc:Float",
)


class Numeric(ColumnKind):
    """A number of the standard normal distribution; decimals come back as they were written."""

    draws: ClassVar[bool] = True
    order: ClassVar[int] = 40
    types: ClassVar[tuple[StoredType, ...]] = (FLOAT64,)

    kind: Literal["numeric"] = "numeric"
    scalar: Scalar

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        """Numbers that are not all whole, or not known to be."""
        if not summary.numbers or summary.digits_only:
            return None
        if not summary.decimals:
            return "it holds numbers" if summary.decimals is None else "it holds whole numbers as floating point"
        return f"it holds numbers with up to {summary.decimals} decimal{'s' * (summary.decimals != 1)}"

    @classmethod
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """64-bit floating point, or whole numbers where they are declared numeric."""
        if not summary.numbers or (summary.digits_only and not summary.whole):
            raise InputError(
                f"the column '{summary.name}' of {summary.where} is declared numeric and does not hold numbers alone; "
                "declare it categorical or ignore."
            )
        refuse_not_finite(summary)
        return ("int64", 0) if summary.whole and summary.family != "float" else ("float64", summary.decimals)

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], generator: np.random.Generator) -> Numeric:
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
        """The numbers at these quantiles."""
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
