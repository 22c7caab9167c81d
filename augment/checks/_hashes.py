"""Content hashes as sorted arrays of 16 bytes, searched without loading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

HASH = np.dtype("S16")
_NIBBLE = np.zeros(256, dtype=np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)


def as_hashes(hex_digits: pa.Array | pa.ChunkedArray) -> NDArray[np.bytes_]:
    """The 16 bytes of each string of 32 hexadecimal digits, shape ``(rows,)``.

    Raises:
        ValueError: a value is missing or does not have 32 characters.
    """
    if isinstance(hex_digits, pa.ChunkedArray):
        hex_digits = hex_digits.combine_chunks()
    if hex_digits.null_count:
        raise ValueError("a content hash is missing")
    fixed = hex_digits.cast(pa.binary()).cast(pa.binary(32))
    buffer = fixed.buffers()[1]
    if not len(fixed):
        return np.empty(0, dtype=HASH)
    digits = np.frombuffer(buffer, dtype=np.uint8, count=32 * (len(fixed) + fixed.offset))[32 * fixed.offset :]
    nibbles = _NIBBLE[digits.reshape(-1, 2)]
    packed = (nibbles[:, 0] << 4 | nibbles[:, 1]).astype(np.uint8, copy=False)
    return packed.view(HASH)


def raw_hashes(column: pa.FixedSizeBinaryArray) -> NDArray[np.bytes_]:
    """The values of a column of 16 bytes each, shape ``(rows,)``."""
    buffer = column.buffers()[1]
    if not len(column):
        return np.empty(0, dtype=HASH)
    return np.frombuffer(buffer, dtype=HASH, count=len(column) + column.offset)[column.offset :]


def save_sorted(path: Path, chunks: Iterable[NDArray[np.bytes_]], rows: int) -> None:
    """Write ``rows`` hashes that come in chunks as one sorted array.

    The array is sorted inside its memory-mapped file: what it needs is the page cache, not the memory of the process.
    """
    if rows == 0:
        np.save(path, np.empty(0, dtype=HASH))  # an empty file cannot be mapped
        return
    target = open_memmap(path, mode="w+", dtype=HASH, shape=(rows,))
    start = 0
    for chunk in chunks:
        target[start : start + len(chunk)] = chunk
        start += len(chunk)
    assert start == rows, (start, rows)
    target.sort()
    target.flush()


def contained(hashes: NDArray[np.bytes_], ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of ``hashes`` are in the sorted array ``ordered``, shape ``(rows,)``."""
    if not len(ordered) or not len(hashes):
        return np.zeros(len(hashes), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[places] == hashes
    return found


def repeats_an_earlier(hashes: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which of ``hashes`` equal one at a smaller index, shape ``(rows,)``."""
    _, first = np.unique(hashes, return_index=True)
    repeated = np.ones(len(hashes), dtype=bool)
    repeated[first] = False
    return repeated


def has_a_twin(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values of a sorted array occur more than once in it, shape ``(rows,)``."""
    equal = ordered[1:] == ordered[:-1]
    found: NDArray[np.bool_] = np.zeros(len(ordered), dtype=bool)
    found[1:] |= equal
    found[:-1] |= equal
    return found
