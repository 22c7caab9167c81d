"""The types in which columns are stored: how each is found in a source, kept, hashed and described to readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from augment.columns._lanes import HashPair

if TYPE_CHECKING:
    from augment.columns._summary import ColumnSummary


@dataclass(frozen=True, kw_only=True)
class StoredType:
    """One type of stored columns; the kind that brings it lists it in ``ColumnKind.types``.

    ``family`` is what a summary calls source columns that ``holds`` says yes to; they are stored so unless their kind
    says otherwise. ``note(summary, array, first_row)`` takes what a summary must know of values that cannot be told
    apart one by one. ``keep(array, where)`` replaces the cast into ``arrow`` and may refuse. ``lanes`` gives the pairs
    of which content hashes are made, whatever where a value is missing. ``feature`` is what Hugging Face `datasets`
    calls the type, by default the Arrow type's name; ``extract`` is what Croissant adds to a column's source.
    """

    name: str
    arrow: pa.DataType
    family: str
    holds: Callable[[pa.DataType], bool]
    lanes: Callable[[pa.Array], HashPair]
    croissant: str
    note: Callable[[ColumnSummary, pa.Array, int], None] | None = None
    keep: Callable[[pa.Array, str], pa.Array] | None = None
    feature: Mapping[str, Any] | None = None
    extract: Mapping[str, Any] = field(default_factory=dict)

    def hugging_face(self) -> dict[str, Any]:
        """How Hugging Face `datasets` describes a column of the type."""
        return dict(self.feature or {"dtype": str(self.arrow), "_type": "Value"})


def stored_types() -> Mapping[str, StoredType]:
    """All types in which columns are stored, by name; the kinds that bring them are found at the first use."""
    from augment.columns import STORED_TYPES

    return STORED_TYPES
