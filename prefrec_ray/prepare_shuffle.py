"""The shuffle of transitions: which shard each goes to, and the shards on disk.

Wide rows pass once from the task that made them to the task that writes their shard, as one array a (bucket, shard).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import tensor_array, write_table
from prefrec_ray.hashing import mix

_SHARD_KEY, _ORDER_KEY = 3, 4
#: Learners take shards in lanes of eight (algorithms/batches.py), and one shard is one block of at most 128 MiB.
_MULTIPLE = 8
_SHARD_BYTES = 48 << 20


@dataclass(frozen=True)
class Destinations:
    """A seeded shard for each of the transitions, numbered over all buckets; the shards are of equal size, to a row."""

    shards: int
    seed: int

    @classmethod
    def for_size(cls, transitions: int, row_bytes: int, seed: int) -> Destinations:
        """As many shards as keep one at some 48 MiB."""
        wanted = -(-transitions * row_bytes // _SHARD_BYTES)
        return cls(max(1, -(-wanted // _MULTIPLE)) * _MULTIPLE, seed)

    def of(self, offset: int, count: int) -> Iterator[np.ndarray]:
        """For each shard, which of the transitions [offset, offset + count) go there (int64, ascending, from 0)."""
        # Of every `shards` consecutive transitions each shard gets one, in a random order.
        first, last = offset // self.shards, -(-(offset + count) // self.shards)
        blocks = np.arange(first * self.shards, last * self.shards)
        shard = mix(blocks, self.seed, _SHARD_KEY).reshape(-1, self.shards).argsort(axis=1, kind="stable").ravel()
        shard = shard[offset - first * self.shards :][:count]
        order = shard.argsort(kind="stable")
        yield from np.split(order, np.searchsorted(shard[order], np.arange(1, self.shards)))


@ray.remote(num_cpus=1)
def write_shard(folder: str, shard: int, widths: tuple[int, int, int], seed: int, *pieces: np.ndarray) -> int:
    """Writes `transitions/part-k.parquet` from the pieces of all buckets, in a seeded order; returns its rows.

    `widths` are those of state, action and reward (0 or 1).
    """
    state, action, reward = widths
    rows = sum(len(piece) for piece in pieces)
    place = np.random.default_rng((seed, _ORDER_KEY, shard)).permutation(rows)
    columns = {}
    begin = 0
    for name, width in (("obs", state), ("action", action), ("next_obs", state), ("reward", reward)):
        values = np.empty((rows, width), dtype=np.float32)
        row = 0
        for piece in pieces:
            values[place[row : row + len(piece)]] = piece[:, begin : begin + width]
            row += len(piece)
        if width:
            columns[name] = pa.array(values[:, 0]) if name == "reward" else tensor_array(values)
        begin += width
    write_table(pa.table(columns), storage.join(folder, "transitions", f"part-{shard:05d}.parquet"))
    return rows
