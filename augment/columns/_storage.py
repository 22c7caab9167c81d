"""Arrays of any source as arrays of the few types in which tables are stored; nothing is altered silently."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from augment.columns._summary import ColumnSummary
from augment.columns._types import stored_types
from augment.errors import InputError
from augment.schema import ColumnSchema


def stored(array: pa.Array, column: ColumnSchema, where: str) -> pa.Array:
    """``array`` in the stored type of ``column``.

    Raises:
        InputError: a value cannot be held by that type.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    keep = stored_types()[column.type].keep
    if keep is not None:
        return keep(array, where)
    if pa.types.is_string(array.type) and column.type != "string":
        array = pc.ascii_trim_whitespace(array)
    try:
        if pa.types.is_string(array.type) and column.type == "int64" and _has_point_or_exponent(array):
            array = pc.cast(array, pa.float64())  # classes that are written as 1.0
        return pc.cast(array, column.arrow_type)
    except pa.ArrowInvalid as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"the column '{column.name}' of {where} cannot be stored as {column.type} ({cause}); "
            f"declare another kind with source.columns: {{{column.name}: ...}}."
        ) from None


def _has_point_or_exponent(array: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(array, "[.eE]")).as_py())


def natural_type(summary: ColumnSummary) -> str:
    """The name of the type that keeps a column's values as they are: numbers only where nothing is lost by that."""
    if summary.family == "text":
        if summary.whole and summary.present:
            return "int64"
        return "bool" if is_truth(summary) and summary.parse_text else "string"
    if summary.family == "integer":
        return "int64" if summary.whole or not summary.present else "string"
    if summary.family == "nothing":
        return "string"
    return next(stored.name for stored in stored_types().values() if stored.family == summary.family)


def is_truth(summary: ColumnSummary) -> bool:
    """Whether the column holds true and false, in the one spelling that comes back as it was."""
    if summary.family == "boolean":
        return summary.present > 0
    return summary.family == "text" and bool(summary.distinct) and summary.distinct <= {"true", "false"}  # type: ignore[operator]


def refuse_not_finite(summary: ColumnSummary) -> None:
    """Refuse a column with a number that is not finite.

    Raises:
        InputError: there is one; names its row and text.
    """
    if summary.not_finite is not None:
        row, text = summary.not_finite
        raise InputError(
            f"the column '{summary.name}' of {summary.where} holds '{text}' in row {row}, which is no finite number; "
            "correct it, or make it a missing value."
        )
