"""A table in a Parquet file, or in a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from augment.sources._contract import Source
from augment.sources._parquet import parquet_batches, parquet_files


class ParquetFile(Source):
    """The columns with their own types; columns of PNG or JPEG bytes become images.

    Only Arrow's types are believed: what pandas or another writer left in the metadata is not read.
    """

    summary: ClassVar[str] = "a Parquet file or a folder of them: numbers, text, dates and images with their types"

    kind: Literal["parquet"] = "parquet"
    path: Path = Field(description="The file, or the folder whose Parquet files are read in the order of their paths.")

    def files(self) -> list[Path]:
        """The Parquet files."""
        return parquet_files(self.path)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of all files in order."""
        return parquet_batches(self.files())
