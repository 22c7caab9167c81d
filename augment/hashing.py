"""Content hashes: 128 bits a row over the feature columns, the same on every platform and with every library version.

Numbers are mixed with NumPy's wrapping 64-bit arithmetic (the finaliser of splitmix64, by Steele, Lea and Flood, "Fast
splittable pseudorandom number generators"); texts and pixels come in as their BLAKE2b. The columns' order counts, their
names do not. Equal rows have equal hashes; that different ones do not is as sure as for any hash without a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment.png import decode_pngs
from augment.schema import DatasetSchema

Words = npt.NDArray[np.uint64]
HashPair = npt.NDArray[np.uint64]  # shape (n, 2)

SEEDS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
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
        array = batch.column(column.name)
        lanes = LANES[column.type](array)
        if array.null_count:
            lanes[pc.is_null(array).to_numpy(zero_copy_only=False)] = MISSING
        # The state is multiplied between columns, so that swapped values give another hash.
        state = _mixed((state * np.uint64(0xD6E8FEB86659FD93)) ^ lanes)
    return state


def as_hex(pairs: HashPair) -> pa.StringArray:
    """The pairs as texts of 32 digits."""
    digits = HEX_DIGITS[np.ascontiguousarray(pairs, ">u8").view(np.uint8)]  # (n, 16) of two digits each
    offsets = np.arange(len(pairs) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(pairs), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))


def from_hex(texts: pa.StringArray) -> HashPair:
    """What :func:`as_hex` was given."""
    digits = "".join(texts.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64).reshape(-1, 2)


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


def _mixed(words: Words) -> Words:
    """A one-to-one scrambling of 64-bit words; overflow wraps."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _numbers(bits: Words) -> HashPair:
    return _mixed(bits[:, None] ^ SEEDS)


def _of_int64(array: pa.Array) -> HashPair:
    return _numbers(pc.fill_null(array, 0).to_numpy().view(np.uint64))


def _of_float64(array: pa.Array) -> HashPair:
    values = pc.fill_null(array, 0.0).to_numpy()
    return _numbers((values + 0.0).view(np.uint64))  # -0.0 + 0.0 is 0.0


def _of_bool(array: pa.Array) -> HashPair:
    return _numbers(pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.uint64))


def _of_string(array: pa.Array) -> HashPair:
    encoded = pc.fill_null(array, "").dictionary_encode()
    digests = _digests(text.encode() for text in encoded.dictionary.to_pylist())
    pairs: HashPair = digests[encoded.indices.to_numpy()]
    return pairs


def _of_image(array: pa.Array) -> HashPair:
    files = pc.struct_field(array, "bytes").to_pylist()
    there = [file for file in files if file is not None]
    lanes = np.zeros((len(files), 2), np.uint64)
    if there:
        pixels = decode_pngs(there, "that is to be hashed")
        size = f"{pixels.shape[1:]}".encode()  # the same pixels in another size are another image
        lanes[[file is not None for file in files]] = _digests(size + image.tobytes() for image in pixels)
    return lanes


def _digests(values: Iterable[bytes]) -> HashPair:
    joined = b"".join(hashlib.blake2b(value, digest_size=16).digest() for value in values)
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


LANES: dict[str, Callable[[Any], HashPair]] = {
    "int64": _of_int64,
    "float64": _of_float64,
    "bool": _of_bool,
    "string": _of_string,
    "image": _of_image,
}
