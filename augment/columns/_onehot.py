"""Values of a finite set as one-hot numbers and back; what categorical and boolean columns share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from augment.errors import InputError
from augment.schema import ColumnSchema

MOST_CATEGORIES = 1_000  # each is a number of every row


class OneHot(BaseModel):
    """The categories of the training rows in order, and whether some rows have none, which is then the last one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: tuple[str | int | bool | float, ...]
    nullable: bool
    commonest: int  # the index that stands for a value which no training row has

    @property
    def width(self) -> int:
        """Numbers per value; one even where there is nothing to tell."""
        return max(1, len(self.categories) + self.nullable)

    @classmethod
    def fit(cls, column: ColumnSchema, arrays: Iterable[pa.Array]) -> OneHot:
        """The categories that occur in ``arrays``.

        Raises:
            InputError: there are more than can be learnt.
        """
        counts: Counter[Any] = Counter()
        for array in arrays:
            for entry in pc.value_counts(array):
                counts[entry["values"].as_py()] += entry["counts"].as_py()
            if len(counts) > MOST_CATEGORIES:
                raise InputError(
                    f"the column '{column.name}' has more than {MOST_CATEGORIES} categories; "
                    f"leave it out of the model with source.columns: {{{column.name}: ignore}}."
                )
        nullable = counts.pop(None, 0) > 0
        categories = tuple(sorted(counts))
        commonest = max(range(len(categories)), key=lambda i: counts[categories[i]], default=0)
        return cls(categories=categories, nullable=nullable, commonest=len(categories) if nullable else commonest)

    def encode(self, array: pa.Array) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Shape (n, width): 1 at the category's index. A value that no training row has is taken for a missing one,
        or for the commonest where none is missing in training.
        """
        index = pc.index_in(array, value_set=pa.array(self.categories, array.type))
        codes = pc.fill_null(index, self.commonest).to_numpy(zero_copy_only=False)
        encoded = np.zeros((len(codes), self.width), np.float32)
        encoded[np.arange(len(codes)), codes] = 1
        return encoded

    def decode(self, values: np.ndarray[Any, Any], arrow_type: pa.DataType) -> pa.Array:
        """The category with the largest number in each row of shape (n, width)."""
        codes = values.argmax(axis=1)
        known = pa.array(self.categories, arrow_type)
        return known.take(pa.array(codes, mask=codes >= len(self.categories)))
