"""Content hashes: 128 bits a row over the feature columns, the same on every platform and with every library version.

How values become numbers is a matter of their stored type (:mod:`augment.columns._lanes`). The columns' order counts,
their names do not. Equal rows have equal hashes; that different ones do not is as sure as for any hash without a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment.columns._lanes import SEEDS, HashPair, mixed
from augment.schema import ColumnSchema, DatasetSchema

# No 64-bit value is mixed to this pair: the two lanes would need different ones.
MISSING = np.array([0x6A09E667F3BCC908, 0xBB67AE8584CAA73B], np.uint64)
ROWS_AT_ONCE = 65_536
HEX_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


def content_hashes(batch: pa.RecordBatch, schema: DatasetSchema) -> pa.StringArray:
    """32 hexadecimal digits for each row of ``batch``, over the feature columns of ``schema``."""
    return as_hex(hash_pairs(batch, schema))


def hash_pairs(batch: pa.RecordBatch, schema: DatasetSchema) -> HashPair:
    """The content hashes as pairs of 64-bit numbers, shape (n, 2)."""
    state = np.tile(SEEDS, (batch.num_rows, 1))
    for column in schema.features:
        # The state is multiplied between columns, so that swapped values give another hash.
        state = mixed((state * np.uint64(0xD6E8FEB86659FD93)) ^ value_pairs(batch.column(column.name), column))
    return state


def value_pairs(array: pa.Array, column: ColumnSchema) -> HashPair:
    """The values of one column as pairs of 64-bit numbers, shape (n, 2)."""
    lanes = column.stored.lanes(array)
    if array.null_count:
        lanes[pc.is_null(array).to_numpy(zero_copy_only=False)] = MISSING
    return lanes


def row_words(first: int, rows: int) -> npt.NDArray[np.uint64]:
    """A 64-bit number for each of ``rows`` rows from number ``first`` on, all different."""
    return mixed(np.arange(first, first + rows, dtype=np.uint64) ^ SEEDS[1])


def as_hex(pairs: HashPair) -> pa.StringArray:
    """The pairs as texts of 32 digits."""
    digits = HEX_DIGITS[np.ascontiguousarray(pairs, ">u8").view(np.uint8)]  # (n, 16) of two digits each
    offsets = np.arange(len(pairs) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(pairs), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))


def rows_sha256(parts: Iterable[tuple[npt.NDArray[np.int64], HashPair]]) -> str:
    """SHA-256 over the source row ids and content hashes of rows in order, however they are cut into parts."""
    digest = hashlib.sha256()
    for ids, pairs in parts:
        for start in range(0, len(ids), ROWS_AT_ONCE):
            stop = start + ROWS_AT_ONCE
            digest.update(
                np.column_stack([ids[start:stop].astype(np.uint64), pairs[start:stop]]).astype(">u8").tobytes()
            )
    return digest.hexdigest()
