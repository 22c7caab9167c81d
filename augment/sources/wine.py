"""Italian wines: 178 rows of 13 chemical measures in three classes, from scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa

from augment.sources._contract import Source
from augment.sources._packaged import packaged_version, table_batches


class Wine(Source):
    """The measures under scikit-learn's names, the cultivar's name in ``label``."""

    summary: ClassVar[str] = "scikit-learn's wines: 178 rows, 13 numeric columns, three classes; no download"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["wine"] = "wine"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows in one batch."""
        return table_batches("wine")

    def files(self) -> list[Path]:
        """None: the data come with scikit-learn."""
        return []

    def package_version(self) -> str:
        """scikit-learn's version."""
        return packaged_version()
