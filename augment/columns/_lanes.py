"""Values as pairs of 64-bit numbers, of which content hashes are made.

Numbers are mixed with NumPy's wrapping 64-bit arithmetic (the finaliser of splitmix64, by Steele, Lea and Flood, "Fast
splittable pseudorandom number generators"); texts and pixels come in as their BLAKE2b. What stands for a missing value
is put in by :mod:`augment._hashing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Words = npt.NDArray[np.uint64]
HashPair = npt.NDArray[np.uint64]  # shape (n, 2)

SEEDS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def mixed(words: Words) -> Words:
    """A one-to-one scrambling of 64-bit words; overflow wraps."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def of_words(words: Words) -> HashPair:
    """The pairs of 64-bit words, shape (n, 2)."""
    return mixed(words[:, None] ^ SEEDS)


def of_int64(array: pa.Array) -> HashPair:
    """The pairs of whole numbers, and of times and durations, which are stored as such."""
    return of_words(pc.fill_null(array.cast(pa.int64()), 0).to_numpy().view(np.uint64))


def of_float64(array: pa.Array) -> HashPair:
    """The pairs of 64-bit floats; the two zeros are one."""
    values = pc.fill_null(array, 0.0).to_numpy()
    return of_words((values + 0.0).view(np.uint64))  # -0.0 + 0.0 is 0.0


def of_bool(array: pa.Array) -> HashPair:
    """The pairs of true and false."""
    return of_words(pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.uint64))


def of_string(array: pa.Array) -> HashPair:
    """The pairs of texts."""
    encoded = pc.fill_null(array, "").dictionary_encode()
    pairs: HashPair = of_bytes(text.encode() for text in encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
    return pairs


def of_bytes(values: Iterable[bytes]) -> HashPair:
    """The BLAKE2b of each value, shape (n, 2)."""
    joined = b"".join(hashlib.blake2b(value, digest_size=16).digest() for value in values)
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)
