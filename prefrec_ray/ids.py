"""Ids and random streams: stable seeded 64-bit hashes, ids as integers, and the key of each random stream."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_WORD = re.compile(r"\w")
_NO_FRACTION = re.compile(r"(?<=\d)\.0+(?![\d.])")  # of a whole number such as 4.0
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """Keys of random streams: no two uses of one seed share random numbers. Files depend on these values: keep them."""

    SPLIT = 1  # the split of each user: training, validation or test
    BUCKET = 2  # the bucket in which each user is prepared
    SHARD = 3  # the shard of each transition
    ORDER = 4  # the order of the transitions in a shard
    PAIRS = 5  # pairs of segments that scripted teachers compare
    QUESTIONS = 7  # pairs of segments that annotators compare
    ARM = 9  # the arm of each user, if several policies serve
    HOST = 10  # the server of each user, if several serve
    ROTATED = 11  # which transitions of a mini-batch are rotated
    ROTATION = 12  # the rotations of these transitions
    EXAMINED = 13  # items without feedback that count as examined
    PROBE_STATES = 0x57A7  # the sample of validation states that diagnostics look at
    PASS = 0x9AF5  # the order of the preferences in each pass over them


def mix(values: np.ndarray, *key: int) -> np.ndarray:
    """Return hashes, uint64 [n], uniform and independent for every key (SplitMix64, Steele et al. 2014)."""
    state = np.zeros(1, dtype=np.uint64)  # an array, because arrays wrap around without a warning
    for part in key:
        state = _finalise(state + np.full(1, part + 1, dtype=np.uint64) * _GOLDEN)
    # Multiplied by an odd number before the sum: neighbouring keys and values must not collide.
    return _finalise(np.asarray(values).astype(np.int64).view(np.uint64) * _GOLDEN + state)


def ids_from_text(texts: Iterable[str], kind: pa.DataType) -> pa.Array:
    """Return ids of the type `kind`, int64 or string; for int64 without the texts that are not numbers of this type."""
    if not pa.types.is_integer(kind):
        return pa.array(texts, kind)
    numbers = [int(text) for text in texts if _WHOLE.fullmatch(text)]
    return pa.array([number for number in numbers if -(2**63) <= number < 2**63], kind)


def present(column: pa.ChunkedArray, texts: Iterable[str]) -> set[str]:
    """Return the ids among `texts` that are in a column of ids."""
    return set(map(str, column.filter(pc.is_in(column, ids_from_text(texts, column.type))).unique().to_pylist()))


class Mentions:
    """Search for ids in free text, such as a dropped row of a log or the message of an error.

    An id is mentioned if the text is the id, or has it between characters that do not continue a word or number:
    `user '4'` and `4.0` mention 4, `14` and `4.5` do not. An id without a letter or digit must be the whole text.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)
        # Slices of these lengths are looked up: thousands of patterns would be slow.
        self._lengths = sorted({len(one) for one in self._ids if _WORD.search(one)})

    def find(self, text: str) -> set[str]:
        """Return the ids that `text` mentions."""
        found = {text} & self._ids
        for form in {text, _NO_FRACTION.sub("", text)}:
            begins = [place for place in range(len(form)) if not _continues(form, place)]
            for length in self._lengths:
                slices = ((place, form[place : place + length]) for place in begins if place + length <= len(form))
                found |= {one for place, one in slices if one in self._ids and not _continues(form, place + length)}
        return {one for one in found if one == text or _WORD.search(one)}


def _continues(text: str, place: int) -> bool:
    """Return True if the character before `place` and the one at it belong to one word or number."""
    before, after = text[max(0, place - 2) : place], text[place : place + 2]
    if not (before and after):
        return False
    in_word = bool(_WORD.fullmatch(before[-1]) and _WORD.fullmatch(after[0]))
    decimal = before[-1].isdigit() and after[0] == "." and after[1:].isdigit()
    return in_word or decimal or (before[-1] == "." and before[:-1].isdigit() and after[0].isdigit())


def hash_ids(ids: pa.Array | pa.ChunkedArray, *key: int) -> np.ndarray:
    """Return hashes, uint64 [n], of ids of type int64 or string. Each distinct string is hashed once, by BLAKE2b."""
    if pa.types.is_integer(ids.type):
        return mix(ids.to_numpy(), *key)
    encoded = _encoded(ids)
    texts = encoded.dictionary.cast(pa.binary()).to_pylist()  # UTF-8, or arbitrary bytes during inspection
    digests = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return mix(np.frombuffer(digests, dtype="<i8"), *key)[encoded.indices.to_numpy()]


def codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return equal codes for equal ids, int64 [N]; ascending from 0 if equal ids are adjacent."""
    return _encoded(column).indices.to_numpy().astype(np.int64)


def first_rows(key: np.ndarray) -> np.ndarray:
    """Return the rows (int64) at which a run of equal values starts, for example the first row of every user."""
    return np.flatnonzero(changes(key))


def run_lengths(starts: np.ndarray, rows: int) -> np.ndarray:
    """Return the lengths (int64) of the runs that start at `starts` (ascending) in `rows` rows."""
    return np.diff(np.append(starts, rows))


def places_in_runs(starts: np.ndarray, rows: int) -> np.ndarray:
    """Return the place of each row in its run, from 0, int64, for runs that start at `starts` (ascending)."""
    return np.arange(rows) - np.repeat(starts, run_lengths(starts, rows))


def last_rows(starts: np.ndarray, rows: int) -> np.ndarray:
    """Return the last rows (int64) of the runs that start at `starts` (ascending) in `rows` rows."""
    return np.append(starts[1:], rows).astype(np.int64) - 1


def taken_runs(starts: np.ndarray, rows: int, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the runs (see `run_lengths`) with the numbers `chosen` [m].

    Returns the start of each run in the joined rows, int64 [m], and the indices of these rows among the `rows` rows.
    """
    lengths = run_lengths(starts, rows)[chosen]
    first = np.cumsum(lengths) - lengths
    return first, np.arange(lengths.sum()) + np.repeat(starts[chosen] - first, lengths)


def changes(key: np.ndarray) -> np.ndarray:
    """Return a mask of the entries that differ from the previous entry. The first entry is True."""
    key = np.asarray(key)
    differs = np.ones(len(key), dtype=bool)
    differs[1:] = key[1:] != key[:-1]
    return differs


def fraction(hashes: np.ndarray) -> np.ndarray:
    """Return hashes as numbers in [0, 1), float64."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def repetition_seed(seed: int, number: int) -> int:
    """Return the seed of a repetition. Two seeds have no common repetition seeds, unlike `seed + number`."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _encoded(ids: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode()
    return encoded.unify_dictionaries().combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _finalise(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
