"""One number and whether it is there: what numeric and integer columns share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from augment.columns._quantile import QuantileTransform
from augment.schema import ColumnSchema

if TYPE_CHECKING:
    from models._contract import Span


class Scalar(BaseModel):
    """The distribution of the present values, and whether training rows lack one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transform: QuantileTransform
    nullable: bool

    @classmethod
    def fit(cls, arrays: Iterable[pa.Array], generator: np.random.Generator) -> Scalar:
        """What is learnt from a column's arrays of int64 or float64."""
        missing = 0

        def present() -> Iterable[npt.NDArray[Any]]:
            nonlocal missing
            for array in arrays:
                missing += array.null_count
                yield pc.drop_null(array).to_numpy(zero_copy_only=False)

        transform = QuantileTransform.fit(present(), generator)
        return cls(transform=transform, nullable=missing > 0)

    @property
    def width(self) -> int:
        """One number, and two more (present, missing) where values are missing."""
        return 3 if self.nullable else 1

    def spans(self) -> tuple[Span, ...]:
        """A continuous span, and a categorical one of width 2 where values are missing."""
        from models._contract import Span

        value = Span("continuous", 1)
        return (value, Span("categorical", 2)) if self.nullable else (value,)

    def encode(self, array: pa.Array, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Shape (n, width). The number of a missing value is a normal draw, so that it has no weight of its own."""
        is_missing = pc.is_null(array).to_numpy(zero_copy_only=False)
        encoded = np.zeros((len(array), self.width), np.float32)
        values = pc.drop_null(array).to_numpy(zero_copy_only=False)
        encoded[~is_missing, 0] = self.transform.encode(values, generator)
        encoded[is_missing, 0] = generator.standard_normal(int(is_missing.sum()))
        if self.nullable:
            encoded[:, 1] = ~is_missing
            encoded[:, 2] = is_missing
        return encoded

    def decode(self, values: npt.NDArray[Any], column: ColumnSchema) -> pa.Array:
        """The numbers with the column's decimals, within the training rows' range; null where missing is likelier."""
        dtype = np.int64 if column.type == "int64" else np.float64
        numbers = self.transform.decode(values[:, 0].astype(np.float64), dtype)
        if dtype is np.float64 and column.decimals is not None and not self.transform.exact:
            numbers = np.round(numbers, column.decimals).clip(*self.transform.bounds)
        if not self.transform.values:
            return pa.nulls(len(numbers), column.arrow_type)
        mask = values[:, 2] > values[:, 1] if self.nullable else None
        return pa.array(numbers, column.arrow_type, mask=mask)
