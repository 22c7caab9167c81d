"""Handwritten digits: 1,797 grey images of 8 x 8 in ten classes, from scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from augment.sources._contract import Source
from augment.sources._images import pixel_batches
from augment.sources._packaged import load_packaged, packaged_version


class Digits(Source):
    """The images in ``image`` with grey levels 0 to 255, the digit in ``label`` as an integer."""

    summary: ClassVar[str] = "scikit-learn's handwritten digits: 1,797 images of 8 x 8, ten classes; no download"
    default_label: ClassVar[str | None] = "label"

    kind: Literal["digits"] = "digits"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All images; the data's 17 grey levels 0 to 16 are spread over 0 to 255."""
        data = load_packaged("digits")
        pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
        return pixel_batches(pixels, pa.array(data.target, pa.int64()))

    def files(self) -> list[Path]:
        """None: the data come with scikit-learn."""
        return []

    def package_version(self) -> str:
        """scikit-learn's version."""
        return packaged_version()
