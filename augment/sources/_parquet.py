"""Parquet files as one stream of batches in the stored types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from augment.errors import InputError
from augment.sources._files import cannot_read, cause, data_files, exists, readable_file, shown
from augment.sources._typed import BATCH_ROWS, TypedRows, bounded, class_names

BATCH_BYTES = 64 * 1024**2


def parquet_files(path: Path) -> list[Path]:
    """``path`` itself, or the Parquet files below it in the order of their paths.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if not (exists(path) and path.is_dir()):
        return [readable_file(path, "source.path")]
    found = data_files(path, ".parquet")
    if not found:
        raise InputError(f"the folder {shown(path)} holds no Parquet file; check source.path.")
    return [readable_file(file, "source.path") for file in found]


def parquet_batches(files: list[Path], *, named_classes: bool = False) -> Iterator[pa.RecordBatch]:
    """The rows of all files in the stored types; with ``named_classes``, Hugging Face's class labels by name.

    Raises:
        InputError: a file is damaged, differs from the first in its columns, or has a type that cannot be stored.
    """
    first: pa.Schema | None = None
    for path in files:
        rows: TypedRows | None = None
        for raw in bounded(raw_batches(path)):
            rows = rows or TypedRows(shown(path), class_names(raw.schema) if named_classes else None)
            batch = rows.convert(raw)
            first = first or batch.schema
            if batch.schema != first:
                raise InputError(
                    f"{shown(path)} and {shown(files[0])} differ in {_difference(first, batch.schema)}; "
                    "give files with the same columns."
                )
            yield batch


def raw_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of one file as they are, in batches bounded in rows and bytes."""
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            metadata = file.metadata
            sizes = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            per_row = max((group.total_byte_size // max(1, group.num_rows) for group in sizes), default=0)
            for batch in file.iter_batches(max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, per_row)))):
                batch.validate(full=True)  # text that is no UTF-8 would fail wherever it is looked at first
                yield batch
    except (pa.ArrowException, ValueError, MemoryError) as error:  # what is damaged claims any name, size and type
        raise InputError(f"{shown(path)} is no whole Parquet file ({cause(error)}); write or fetch it again.") from None
    except OSError as error:
        if error.errno is not None:
            raise cannot_read(path, error) from None
        raise InputError(f"{shown(path)} is no whole Parquet file ({cause(error)}); write or fetch it again.") from None


def _difference(first: pa.Schema, second: pa.Schema) -> str:
    """In which column two schemas differ."""
    for a, b in zip(first, second, strict=False):
        if a.name != b.name:
            return f"their columns ('{b.name}' and '{a.name}')"
        if a.type != b.type:
            return f"the type of the column '{a.name}' ({b.type} and {a.type})"
    return f"the number of their columns ({len(second)} and {len(first)})"
