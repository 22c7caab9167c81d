"""28x28 grey images with labels for benchmarks: real ones in the IDX format, or made ones where there are none."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def idx_part(folder: Path, part: str) -> tuple[Pixels, Labels]:
    """The images (n, height, width) and labels (n,) of ``part`` (``train`` or ``t10k``) in ``folder``."""
    return (
        read_idx(folder / f"{part}-images-idx3-ubyte.gz"),
        read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64),
    )


def read_idx(path: Path) -> Pixels:
    """The array of unsigned bytes in a gzipped IDX file."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(tuple(shape)).copy()


def write_idx(path: Path, values: Pixels) -> None:
    """Write unsigned bytes as an IDX file that is not compressed."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(values, np.uint8).tobytes())


def made_images(rows: int) -> tuple[Pixels, Labels]:
    """Noisy enlargements of scikit-learn's digits, as `throughput.py` makes them."""
    from throughput import images

    with tempfile.TemporaryDirectory(prefix="images-") as name:
        images(rows, Path(name))
        return read_idx(Path(name) / "images.gz"), read_idx(Path(name) / "labels.gz").astype(np.int64)
