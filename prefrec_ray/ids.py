"""Seeded 64-bit hashes that never change: the split of users, their buckets and every shuffle rest on them."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(values: np.ndarray, *key: int) -> np.ndarray:
    """uint64 [n], uniform and independent for every key: the finaliser of SplitMix64 (Steele et al. 2014)."""
    state = np.zeros(1, dtype=np.uint64)  # an array: its arithmetic wraps around without a warning
    for part in key:
        state = _finalise(state + np.full(1, part + 1, dtype=np.uint64) * _GOLDEN)
    # A product with an odd number before the sum: neighbouring keys and values must not meet.
    return _finalise(np.asarray(values).astype(np.int64).view(np.uint64) * _GOLDEN + state)


def hash_ids(ids: pa.Array | pa.ChunkedArray, *key: int) -> np.ndarray:
    """uint64 [n] for ids of type int64 or string; a text is hashed by BLAKE2b once, however often it occurs."""
    if pa.types.is_integer(ids.type):
        return mix(ids.to_numpy(), *key)
    encoded = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    digests = b"".join(blake2b(text.encode("utf-8"), digest_size=8).digest() for text in encoded.dictionary.to_pylist())
    return mix(np.frombuffer(digests, dtype="<i8"), *key)[encoded.indices.to_numpy()]


def fraction(hashes: np.ndarray) -> np.ndarray:
    """Hashes as numbers in [0, 1), float64."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _finalise(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
