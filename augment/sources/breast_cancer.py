"""Breast tumours: 569 rows of 30 measures of cell nuclei in two classes, from scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa

from augment.sources._contract import Source
from augment.sources._packaged import packaged_version, table_batches


class BreastCancer(Source):
    """The measures under scikit-learn's names, ``malignant`` or ``benign`` in ``label``."""

    summary: ClassVar[str] = "scikit-learn's breast tumours: 569 rows, 30 numeric columns, two classes; no download"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["breast_cancer"] = "breast_cancer"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows in one batch."""
        return table_batches("breast_cancer")

    def files(self) -> list[Path]:
        """None: the data come with scikit-learn."""
        return []

    def package_version(self) -> str:
        """scikit-learn's version."""
        return packaged_version()
