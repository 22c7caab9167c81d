"""How validation sees the values of a column: the profiles that kinds share, and what every profile promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Measures = dict[str, NDArray[np.float64]]  # by suffix; the empty one is the column itself
Faults = dict[str, NDArray[np.bool_]]
Traits = dict[str, Any]  # JSON values


@dataclass(frozen=True)
class Inspection:
    """The measures of a column's values, each of shape ``(rows,)``, and which values have which fault."""

    measures: Measures = field(default_factory=dict)
    faults: Faults = field(default_factory=dict)


class Profile:
    """How validation sees the values of one column kind; this one measures nothing of them."""

    values_may_repeat: ClassVar[bool] = True  # whether two equal values are no sign of a copy

    def resolutions(self, values: pa.Array, decimals: int | None) -> dict[str, float]:
        """The step of the grid on which each measure lives, by its suffix; a measure without one is absent.

        ``decimals`` are those that the column is written with.
        """
        return {}

    def names(self, values: pa.Array) -> pa.Array:
        """What can be counted of the values, as texts and null where one is missing; here, whether it is there."""
        return pc.if_else(values.is_valid(), "there", pa.scalar(None, pa.string()))

    def learn(self, chunks: Iterable[pa.Array]) -> Traits:
        """What the training rows' values have in common; all values are given, in chunks."""
        return {"nullable": any(chunk.null_count for chunk in chunks)}

    def inspect(self, values: pa.Array, traits: Traits | None) -> Inspection:
        """The measures of the values; and their faults where ``traits`` are given."""
        return Inspection({}, missing_fault(missing_rows(values), traits))


class Numbers(Profile):
    """Numeric and integer columns: the number is its own measure, missing is NaN."""

    def resolutions(self, values: pa.Array, decimals: int | None) -> dict[str, float]:
        """One unit of the last decimal; one for whole numbers."""
        if pa.types.is_integer(values.type):
            return {"": 1.0}
        return {} if decimals is None else {"": 10.0**-decimals}

    def inspect(self, values: pa.Array, traits: Traits | None) -> Inspection:
        """The numbers; a fault where one is infinite, NaN, or missing against the training rows' habit."""
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
        missing = missing_rows(values)
        faults = {"not_finite": ~missing & ~np.isfinite(numbers), **missing_fault(missing, traits)}
        return Inspection({"": numbers}, faults)


class Names(Profile):
    """Categorical and boolean columns: no number says what they look like, but every value must be known."""

    def names(self, values: pa.Array) -> pa.Array:
        """The categories."""
        return values.cast(pa.string())

    def learn(self, chunks: Iterable[pa.Array]) -> Traits:
        """Whether values are missing, and the categories that occur."""
        nullable = False
        known: set[str | bool | int] = set()
        for chunk in chunks:
            nullable |= bool(chunk.null_count)
            known.update(pc.unique(chunk.drop_null()).to_pylist())
        return {"nullable": nullable, "categories": sorted(known)}

    def inspect(self, values: pa.Array, traits: Traits | None) -> Inspection:
        """A fault where a category never occurs in the training rows."""
        missing = missing_rows(values)
        faults = missing_fault(missing, traits)
        if traits is not None:
            known = pc.is_in(values, pa.array(traits["categories"], values.type)).to_numpy(zero_copy_only=False)
            faults["unknown_category"] = ~missing & ~known
        return Inspection({}, faults)


def missing_rows(values: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
    return found


def missing_fault(missing: NDArray[np.bool_], traits: Traits | None) -> Faults:
    """Missing values are a fault where no training row has one."""
    return {} if traits is None or traits["nullable"] else {"missing": missing}
