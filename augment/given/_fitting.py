"""Anybody's arrays in the types of the real data's columns; what does not fit is marked and never altered silently."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment._images import decode_image
from augment._png import encode_pngs, is_plain
from augment.errors import InputError
from augment.schema import ColumnSchema
from augment.sources._typed import plain

Flags = npt.NDArray[np.bool_]
NUMBERS_OF_TRUTH = (0, 1)
EXACT = 2.0**53  # below it floating point holds every whole number


class Fitted(NamedTuple):
    """Values in a column's stored type, null where one is missing or a misfit; ``misfits`` ``(rows,)`` tells which."""

    values: pa.Array
    misfits: Flags


def fit_column(array: pa.Array, column: ColumnSchema) -> Fitted:
    """``array`` in the stored type of ``column``.

    A value fits that the type can hold as it is: ``3``, ``3.0`` and ``"3"`` are the whole number 3, and ``3.5`` is
    none. NaN and infinity are numbers here; that they are not finite is for the gate ``structure`` to say.
    """
    array = plain(array)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if pa.types.is_struct(column.arrow_type):
        return _images(array, column)
    if pa.types.is_string(array.type) and not pa.types.is_string(column.arrow_type):
        array = pc.ascii_trim_whitespace(array)
    values = _cast(array, column.arrow_type)
    if values is not None:
        return Fitted(values, np.zeros(len(array), np.bool_))
    return _one_by_one(array, column.arrow_type)


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array | None:
    """All values cast, or null where one would be changed or lost by that."""
    if pa.types.is_temporal(array.type):
        return None  # Arrow takes a time for the number of its ticks
    try:
        if pa.types.is_boolean(target) and not (pa.types.is_string(array.type) or pa.types.is_boolean(array.type)):
            known = pa.array(NUMBERS_OF_TRUTH, pa.int64()).cast(array.type)
            if not pc.all(pc.is_in(array.drop_null(), value_set=known), min_count=0).as_py():
                return None  # Arrow takes every number but 0 for true
        if pa.types.is_integer(target) and pa.types.is_string(array.type):
            whole = pc.match_substring_regex(array, r"^[-+]?\d+$")
            if not pc.all(whole, min_count=0).as_py():
                numbers = array.cast(pa.float64())  # many tools write whole numbers as 3.0
                exact = pc.all(pc.less(pc.abs(numbers), EXACT), min_count=0).as_py()
                return numbers.cast(target) if exact else None
            array = pc.replace_substring_regex(array, r"^\+", "")
        return array.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None


def _one_by_one(array: pa.Array, target: pa.DataType) -> Fitted:
    """The values that can be cast by themselves; each different value is tried once."""
    try:
        encoded = array.dictionary_encode()
        distinct, codes = encoded.dictionary, encoded.indices
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs: nothing of them is a value
        return Fitted(pa.nulls(len(array), target), np.asarray(array.is_valid()))
    tried = [_cast(distinct.slice(place, 1), target) for place in range(len(distinct))]
    values = pa.concat_arrays([pa.nulls(1, target) if value is None else value for value in tried])
    misfits = np.array([value is None for value in tried] + [False])
    places = codes.fill_null(len(tried)).to_numpy(zero_copy_only=False)
    return Fitted(values.take(codes), misfits[places])


def _images(array: pa.Array, column: ColumnSchema) -> Fitted:
    """The images as plain PNG; a file that cannot be read keeps its bytes, for the gate ``structure`` to name it."""
    data = array
    if pa.types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        data = plain(pc.struct_field(array, "bytes"))
    if not pa.types.is_binary(data.type):
        return Fitted(pa.nulls(len(array), column.arrow_type), np.asarray(array.is_valid()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd tags, which are dropped
        files = pa.array([None if value is None else _plain_file(value) for value in data.to_pylist()], pa.binary())
    paths = pa.nulls(len(files), pa.string())
    values = pa.StructArray.from_arrays([files, paths], fields=list(column.arrow_type), mask=files.is_null())
    # A file's path without its bytes is an image that was left behind.
    return Fitted(values, np.asarray(pc.and_(array.is_valid(), data.is_null())))


def _plain_file(data: bytes) -> bytes:
    if is_plain(data):
        return data
    try:
        return encode_pngs(decode_image(data, "of a given row")[None])[0]
    except InputError:
        return data


def first_misfit(array: pa.Array, misfits: Flags) -> tuple[int, Any] | None:
    """The place and the value of the first misfit of ``array``, or null."""
    places = np.flatnonzero(misfits)
    return (int(places[0]), array[int(places[0])].as_py()) if len(places) else None
