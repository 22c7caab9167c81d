"""Columns whose values come from a small set of texts or numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Reading, Values, as_numbers
from augment.columns._onehot import OneHot
from augment.columns._profile import Names, Profile
from augment.columns._storage import natural_type, refuse_not_finite
from augment.columns._summary import PLAIN_FAMILIES, ColumnSummary
from augment.columns._types import StoredType
from augment.errors import InputError
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from augment.report.drawings import Drawing
    from models._contract import Span

FEW = 10  # so many are categories even in a small table
MANY = 100

TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
STRING = StoredType(
    name="string",
    arrow=pa.string(),
    family="text",
    holds=lambda found: any(is_text(found) for is_text in TEXTS),
    lanes=_lanes.of_string,
    croissant="sc:Text",
)


class Categorical(ColumnKind):
    """One number per category of the training rows; a missing value is a category of its own where there are any."""

    may_label: ClassVar[bool] = True
    order: ClassVar[int] = 50
    types: ClassVar[tuple[StoredType, ...]] = (STRING,)

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
    def storage(cls, summary: ColumnSummary) -> tuple[str, int | None]:
        """The values' own type; texts with decimals stay texts, so that ``1.10`` is not ``1.1``."""
        if summary.family not in PLAIN_FAMILIES:
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

    @classmethod
    def profile(cls) -> Profile:
        """Every value must be known."""
        return Names()

    @classmethod
    def drawing(cls) -> Drawing:
        """The share of each value."""
        from augment.report.drawings import VALUES

        return VALUES

    @classmethod
    def reading(cls, _column: ColumnSchema, arrays: Callable[[], Iterator[pa.Array]], /) -> Reading:
        """The position of the value among all published ones in order; -1 where it is missing."""
        found: set[Any] = set()
        for array in arrays():
            found.update(pc.unique(array).to_pylist())
        categories = sorted(found - {None})

        def encode(array: pa.Array) -> Values:
            known = pa.array(categories, array.type)
            return as_numbers(pc.fill_null(pc.index_in(array, value_set=known, skip_nulls=True), -1))

        return Reading((), encode, categories=categories)
