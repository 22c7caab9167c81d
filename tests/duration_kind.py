"""A column kind with a stored type of its own, as somebody would add it: this one file, put into augment/columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pyarrow as pa

from augment.columns import _lanes
from augment.columns._contract import ColumnKind, Reading, Values, as_numbers
from augment.columns._profile import Inspection, Numbers, Profile, Traits
from augment.columns._scalar import Scalar
from augment.columns._summary import ColumnSummary
from augment.columns._types import StoredType
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from augment.report.drawings import Drawing
    from models._contract import Span

DURATION = StoredType(
    name="duration",
    arrow=pa.duration("us"),
    family="duration",
    holds=pa.types.is_duration,
    lanes=_lanes.of_int64,
    croissant="sc:Duration",
)


class Lengths(Profile):
    """The number of microseconds is the measure."""

    def inspect(self, values: pa.Array, traits: Traits | None) -> Inspection:
        return Numbers().inspect(values.cast(pa.int64()), traits)


class Duration(ColumnKind):
    """How long something took, as a number of the standard normal distribution."""

    order: ClassVar[int] = 15
    types: ClassVar[tuple[StoredType, ...]] = (DURATION,)

    kind: Literal["duration"] = "duration"
    scalar: Scalar

    @classmethod
    def recognise(cls, summary: ColumnSummary) -> str | None:
        return "it holds durations" if summary.family == "duration" else None

    @classmethod
    def storage(cls, _summary: ColumnSummary) -> tuple[str, int | None]:
        return "duration", None

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array], generator: np.random.Generator) -> Duration:
        return cls(name=column.name, scalar=Scalar.fit((a.cast(pa.int64()) for a in arrays), generator))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.scalar.width,)

    def spans(self) -> tuple[Span, ...]:
        return self.scalar.spans()

    def encode(self, array: pa.Array, generator: np.random.Generator) -> Values:
        return self.scalar.encode(array.cast(pa.int64()), generator)

    def decode(self, values: Values, column: ColumnSchema) -> pa.Array:
        whole = column.model_copy(update={"type": "int64"})
        return self.scalar.decode(values, whole).cast(column.arrow_type)

    @classmethod
    def profile(cls) -> Profile:
        return Lengths()

    @classmethod
    def drawing(cls) -> Drawing:
        from augment.report.drawings import VALUES

        return VALUES

    @classmethod
    def reading(cls, _column: ColumnSchema, _arrays: Callable[[], Iterator[pa.Array]], /) -> Reading:
        return Reading((), lambda array: as_numbers(array.cast(pa.int64())) / 1e6)  # seconds
