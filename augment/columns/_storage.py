"""Arrays of any source as arrays of the few types in which tables are stored; nothing is altered silently."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from augment.columns._summary import ColumnSummary, Family, StorageType
from augment.errors import InputError
from augment.images import decode_image
from augment.png import encode_pngs, is_plain
from augment.schema import IMAGE_TYPE, ColumnSchema

TYPED: dict[Family, StorageType] = {
    "float": "float64",
    "boolean": "bool",
    "time": "timestamp",
    "image": "image",
    "nothing": "string",
}


def stored(array: pa.Array, column: ColumnSchema, where: str) -> pa.Array:
    """``array`` in the stored type of ``column``.

    Raises:
        InputError: a value cannot be held by that type.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if column.type == "image":
        return plain_images(array, where)
    if pa.types.is_string(array.type) and column.type != "string":
        array = pc.ascii_trim_whitespace(array)
    try:
        if pa.types.is_string(array.type) and column.type == "int64" and pc.any(pc.match_substring(array, ".")).as_py():
            array = pc.cast(array, pa.float64())  # classes that are written as 1.0
        return pc.cast(array, column.arrow_type)
    except pa.ArrowInvalid as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"the column '{column.name}' of {where} cannot be stored as {column.type} ({cause}); "
            f"declare another kind with source.columns: {{{column.name}: ...}}."
        ) from None


def plain_images(array: pa.Array, where: str) -> pa.Array:
    """Image structs whose bytes are all PNG of one plain form, so that the encoding tells nothing of an image's origin.

    Raises:
        InputError: an image is broken.
    """
    files = [_plain(data, where) for data in array.field("bytes").to_pylist()]
    paths = array.field("path") if array.type.get_field_index("path") >= 0 else pa.nulls(len(array), pa.string())
    columns = [pa.array(files, pa.binary()), pc.cast(paths, pa.string())]
    return pa.StructArray.from_arrays(columns, fields=list(IMAGE_TYPE), mask=pc.is_null(array))


def _plain(data: bytes | None, where: str) -> bytes | None:
    if data is None or is_plain(data):
        return data
    return encode_pngs(decode_image(data, f"in {where}")[None])[0]


def natural_type(summary: ColumnSummary) -> StorageType:
    """The stored type that keeps a column's values as they are: numbers only where nothing is lost by that."""
    if summary.family == "text":
        if summary.whole and summary.present:
            return "int64"
        return "bool" if is_truth(summary) and summary.parse_text else "string"
    if summary.family == "integer":
        return "int64" if summary.whole or not summary.present else "string"
    return TYPED[summary.family]


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
