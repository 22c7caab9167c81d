"""Typed Arrow tables brought to the few types that a dataset is stored in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from pyarrow import compute, types

from augment.columns import STORED_TYPES
from augment.errors import InputError
from augment.sources._files import cause
from augment.sources._images import OneForm, image_array, normalised

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
BATCH_ROWS = 10_000
IMAGE_ROWS = 1_000
HINT = "drop the column or write it as numbers, text, dates or images"


class TypedRows:
    """Batches of one table in the stored types: int64, float64, string, bool, timestamp without zone, image.

    Integers stay integers, decimals and smaller floats become float64, dates become timestamps (UTC where they have a
    zone), dictionary columns become their values, and columns of PNG or JPEG bytes become images.
    """

    def __init__(self, where: str, class_names: Mapping[str, list[str]] | None = None) -> None:
        """``where`` names the table in messages; integers of the columns in ``class_names`` become those names."""
        self._where = where
        self._class_names = class_names or {}
        self._forms: dict[str, OneForm] = {}
        self._row = 0

    def convert(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """``batch`` in the stored types.

        Raises:
            InputError: a column has a type that cannot be stored, or an image is broken.
        """
        columns = [self._column(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
        self._row += batch.num_rows
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def _column(self, name: str, column: pa.Array) -> pa.Array:
        """One column in its stored type."""
        column = plain(column)
        if name in self._class_names and types.is_integer(column.type):
            return self._named(name, column)
        if types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            data = compute.struct_field(column, "bytes")  # null where the struct is
            if types.is_binary(plain(data).type):
                return self._images(name, column, plain(data))
        if types.is_binary(column.type):
            return self._images(name, column, column)
        target = _stored_type(column.type)
        if target is None:
            raise InputError(
                f"the column '{name}' of {self._where} has the type {column.type}, which is not supported; {HINT}."
            )
        if column.type == target:
            return column
        try:
            if types.is_timestamp(column.type) or types.is_date(column.type):
                finer = getattr(column.type, "unit", "") == "ns"  # what is finer is cut, what is too far away refused
                return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=not finer).cast(target)
            return column.cast(target, safe=not types.is_decimal(column.type))
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the column '{name}' of {self._where} does not fit into {target} ({cause(error)}); {HINT}."
            ) from None

    def _named(self, name: str, column: pa.Array) -> pa.Array:
        """The names of the classes that ``column`` holds the numbers of; -1 stands for none."""
        names = self._class_names[name]
        numbers = column.cast(pa.int64())
        numbers = compute.if_else(compute.equal(numbers, -1), pa.scalar(None, pa.int64()), numbers)
        low, high = compute.min_max(numbers).as_py().values()
        if low is not None and not 0 <= low <= high < len(names):
            raise InputError(
                f"the column '{name}' of {self._where} holds numbers beyond its {len(names)} classes; correct them."
            )
        return compute.take(pa.array(names, pa.string()), numbers)

    def _images(self, name: str, column: pa.Array, data: pa.Array) -> pa.Array:
        """The images of ``column``, whose encoded bytes are ``data``, as normalised PNG."""
        given = data.drop_null()
        if len(given) and not given[0].as_py().startswith(SIGNATURES) and not types.is_struct(column.type):
            raise InputError(
                f"the column '{name}' of {self._where} holds bytes that are no PNG or JPEG images; {HINT}."
            )
        if data.null_count != column.null_count:
            raise InputError(
                f"the column '{name}' of {self._where} names image files without holding their bytes; "
                "write it with the images embedded."
            )
        form = self._forms.setdefault(name, OneForm())
        items = (
            (f"in row {self._row + i + 1:,} of {self._where}, column '{name}'", v.as_py) for i, v in enumerate(data)
        )
        return image_array(normalised(items, form))


def plain(column: pa.Array) -> pa.Array:
    """``column`` without the wrapping of an extension type, a dictionary or run-length encoding."""
    while True:
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.storage
        elif types.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif types.is_run_end_encoded(column.type):
            column = compute.run_end_decode(column)
        elif types.is_large_binary(column.type) or types.is_binary_view(column.type):
            return column.cast(pa.binary())
        else:
            return column


def _stored_type(found: pa.DataType) -> pa.DataType | None:
    """The type in which a column of the type ``found`` is stored, or null."""
    if types.is_null(found):
        return pa.string()
    return next((stored.arrow for stored in STORED_TYPES.values() if stored.holds(found)), None)


def bounded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of ``batches`` in batches of at most 10,000, or 1,000 where there are bytes to decode."""
    for batch in batches:
        limit = IMAGE_ROWS if any(_has_bytes(t) for t in batch.schema.types) else BATCH_ROWS
        for start in range(0, batch.num_rows, limit):
            yield batch.slice(start, limit)


def _has_bytes(found: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images."""
    tests = (types.is_struct, types.is_binary, types.is_large_binary, types.is_binary_view)
    return any(test(found) for test in tests)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes of each column that Hugging Face's metadata in ``schema`` calls a ClassLabel."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(text) for text in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):  # written by anybody: what cannot be read says nothing
        return {}
