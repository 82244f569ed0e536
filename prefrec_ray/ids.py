"""Ids and chance: seeded 64-bit hashes that never change, ids as whole numbers, and what each random stream is for."""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """What randomness is for: the key that follows a seed, so that no two uses of one seed share their numbers.

    Data sets and runs rest on these numbers: they never change.
    """

    SPLIT = 1  # of users into training, validation and test
    BUCKET = 2  # of users, in which they are prepared
    SHARD = 3  # of each transition
    ORDER = 4  # of the transitions in a shard
    PAIRS = 5  # of segments that scripted teachers compare
    FLIPS = 6  # mistakes of scripted teachers
    QUESTIONS = 7  # pairs of segments that people compare
    DIAGNOSIS = 8  # pairs of segments that `prefrec inspect` measures teachers on
    PROBE_STATES = 0x57A7  # the sample of validation states that diagnostics look at
    PASS = 0x9AF5  # order of the preferences in each pass over them


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
    encoded = _encoded(ids)
    digests = b"".join(blake2b(text.encode("utf-8"), digest_size=8).digest() for text in encoded.dictionary.to_pylist())
    return mix(np.frombuffer(digests, dtype="<i8"), *key)[encoded.indices.to_numpy()]


def codes(column: pa.ChunkedArray) -> np.ndarray:
    """Whole numbers, int64 [N], that are equal where the ids are; ascending from 0 where equal ids stand together."""
    return _encoded(column).indices.to_numpy().astype(np.int64)


def first_rows(key: np.ndarray) -> np.ndarray:
    """Rows (int64) at which a new run of equal values starts; on rows sorted by user, the first row of every user."""
    return np.flatnonzero(changes(key))


def changes(key: np.ndarray) -> np.ndarray:
    """Whether each entry differs from the one before; true for the first."""
    key = np.asarray(key)
    changes = np.ones(len(key), dtype=bool)
    changes[1:] = key[1:] != key[:-1]
    return changes


def fraction(hashes: np.ndarray) -> np.ndarray:
    """Hashes as numbers in [0, 1), float64."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _encoded(ids: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode()
    return encoded.unify_dictionaries().combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _finalise(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
