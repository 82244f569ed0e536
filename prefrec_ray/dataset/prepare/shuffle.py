"""Shuffle of transitions: the shard of each transition, and the shards on disk.

Wide rows are sent once, from the task that makes them to the task that writes their shard, as one table per bucket and
shard. Large data sets are shuffled in waves (states.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import write_table
from prefrec_ray.ids import Stream, mix

#: Learners read eight shards side by side (algorithms/feed/batches.py); a shard is one block of at most 128 MiB.
_MULTIPLE = 8
_SHARD_BYTES = 48 << 20
#: Bytes of a wave in Ray's object store.
_WAVE_BYTES = 2 << 30
#: Share of the object stores of all nodes that waves may fill. The rest is for copies on the nodes of other tasks.
_STORE_SHARE = 0.4
_POSITIONS_OF_WAVE = 1 << 40


@dataclass(frozen=True)
class Destinations:
    """A seeded shard for each transition, numbered over all buckets; sizes of shards differ by at most one row.

    Wave w contains the transitions from w T / W on and shuffles them among its own shards: w, w + W, w + 2 W ...
    """

    transitions: int  # T
    waves: int  # W
    shards_of_wave: int
    seed: int

    @classmethod
    def for_size(cls, transitions: int, row_bytes: int, seed: int) -> Destinations:
        """Choose the number of waves (each below 2 GiB) and of shards (about 48 MiB each)."""
        waves = max(1, -(-transitions * row_bytes // _WAVE_BYTES))
        shards = -(-transitions * row_bytes // (waves * _SHARD_BYTES))
        return cls(transitions, waves, max(1, -(-shards // _MULTIPLE)) * _MULTIPLE, seed)

    @property
    def shards(self) -> int:
        """Return the number of shards of all waves."""
        return self.waves * self.shards_of_wave

    def of_wave(self, wave: int) -> list[int]:
        """Return the numbers of a wave's shards."""
        return list(range(wave, self.shards, self.waves))

    def wave(self, position: np.ndarray) -> np.ndarray:
        """Return the waves (int64) of transitions; for a position after the last transition, the last wave."""
        starts = np.arange(1, self.waves) * self.transitions // self.waves
        return np.searchsorted(starts, position, side="right")

    def reached(self, offset: int, count: int) -> list[int]:
        """Return the shards of all waves with transitions of [offset, offset + count), wave by wave."""
        return [shard for wave, _, _ in self._parts(offset, count) for shard in self.of_wave(wave)]

    def by_shard(self, offset: int, count: int) -> Iterator[np.ndarray]:
        """Yield for each shard of `reached` the transitions that go to it (int64, ascending, from 0)."""
        size = self.shards_of_wave
        for wave, first, last in self._parts(offset, count):
            start = wave * self.transitions // self.waves
            # Each shard gets one of every `size` consecutive transitions of a wave, in random order.
            begin, end = (first - start) // size, -(-(last - start) // size)
            blocks = np.arange(begin * size, end * size) + wave * _POSITIONS_OF_WAVE
            shard = mix(blocks, self.seed, Stream.SHARD).reshape(-1, size).argsort(axis=1, kind="stable").ravel()
            shard = shard[first - start - begin * size :][: last - first]
            order = shard.argsort(kind="stable")
            yield from np.split(order + first - offset, np.searchsorted(shard[order], np.arange(1, size)))

    def _parts(self, offset: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield the transitions [offset, offset + count) as one part (wave, first, last) per wave."""
        if not count:
            return
        low, high = self.wave(np.array([offset, offset + count - 1])).tolist()
        for wave in range(low, high + 1):
            start, end = (w * self.transitions // self.waves for w in (wave, wave + 1))
            yield wave, max(offset, start), min(offset + count, end)


def waves_at_once(resources: Mapping[str, float]) -> int:
    """Return the number of waves that fit into the object stores of a cluster with these resources, at least 1."""
    return max(1, int(_STORE_SHARE * resources.get("object_store_memory", 0.0) / _WAVE_BYTES))


@ray.remote(num_cpus=1)
def write_shard(folder: str, shard: int, seed: int, *pieces: pa.Table) -> int:
    """Write `transitions/part-k.parquet` from the pieces of all buckets, in a seeded order; return its rows."""
    rows = pa.concat_tables(pieces)
    place = np.random.default_rng((seed, Stream.ORDER, shard)).permutation(len(rows))
    file = storage.join(folder, "transitions", f"part-{shard:05d}.parquet")
    write_table(rows.take(pa.array(place.argsort())), file)
    return len(rows)
