"""Sources whose rows stand in the test, and what tests read back of an ingest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from augment.config import SplitSection
from augment.ingest import IngestRecord, ingest
from augment.schema import DatasetSchema
from augment.sources._contract import Source
from augment.store import ArtifactRef, Store

BATCH_ROWS = 50


class Rows(Source):
    """Columns given as lists, in the types that Arrow makes of them."""

    summary: ClassVar[str] = "rows"

    kind: Literal["rows"] = "rows"
    data: dict[str, list[Any]]

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from pa.table(self.data).to_batches(max_chunksize=BATCH_ROWS)

    def files(self) -> list[Path]:
        return []

    def described(self) -> str:
        return "rows.csv"


class TextRows(Rows):
    """Columns of text, as a CSV file gives them."""

    untyped: ClassVar[bool] = True


class Real:
    """An ingested source, read back."""

    def __init__(self, source: Source, folder: Path, seed: int = 7, **split: Any) -> None:
        self.store = Store.open(str(folder))
        self.ref: ArtifactRef = ingest(source, SplitSection(**split), seed, self.store)
        self.folder = self.store.path(self.ref)
        self.schema = DatasetSchema.load(self.folder / "schema.json")
        self.record = IngestRecord.load(self.folder / "ingest.json")

    def part(self, name: str) -> pa.Table:
        return pq.read_table(self.folder / f"{name}.parquet")

    def rows(self, name: str) -> list[int]:
        return list(self.part(name)["source_row_id"].to_pylist())

    def hashes(self, name: str) -> set[str]:
        return set(self.part(name)["content_hash"].to_pylist())
