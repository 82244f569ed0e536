"""Shards of transitions: kept in the object store if they fit, else streamed from the files of the data set.

The order of batches (batches.py) is the same either way. A thread fetches the next shard while one is in use; a learner
drops a shard when its lane moves on, so that its memory does not grow with the data.

Reward labels of all transitions are in the object store, in parts. Transitions are numbered user by user, and a wave of
shards has a range of numbers (dataset/prepare/shuffle.py), so that the labels of a shard are in few parts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset, file_rows, read_table, stored
from prefrec_ray.errors import UserError

#: Column names of a batch, equal to RLlib's, whose import would take seconds in every process that reads.
OBS, ACTIONS, NEXT_OBS, REWARDS = "obs", "actions", "new_obs", "rewards"
#: Reward labels of the logged transitions, if a batch has them already.
LABELS = "labels"
#: Additional column of a shard: the number of each transition, int64.
NUMBER = "number"
_COLUMNS = {"obs": OBS, "action": ACTIONS, "next_obs": NEXT_OBS, "reward": REWARDS, "number": NUMBER}

#: Lanes that are read in parallel, each one shard at a time: more would need more memory, and mix no better.
MOST_LANES = 8
#: Share of the cluster's object store that transitions may fill. Shards are copied to the hosts of learners, and then
#: take up to twice their size; preferences and other runs need space too.
STORE_SHARE = 0.4
#: Threads that read Parquet footers, which are small, so that nearly all the time is spent waiting for storage.
_THREADS = 16

#: An Arrow table in the object store, or the file to read it from.
Shard: TypeAlias = "ray.ObjectRef | str"
_LOG = logging.getLogger(__name__)


def find_shards(
    dataset: PreparedDataset, how: str, limit: int | None = None, here: bool = False
) -> tuple[list[Shard], list[int]]:
    """Return the shards in order and the numbers of rows in use; `how` is "auto", "materialised" or "streaming".

    "auto" is "materialised" if the shards fit, else "streaming". With `here` this process reads them, otherwise one
    task per shard.

    All rows are used, or the first `limit` (rounded down to a multiple of the lanes): a random sample, because
    transitions are stored shuffled. Raises `UserError` without rows.
    """
    folder = dataset.path("transitions")
    files = dataset.files("transitions")
    if not files:
        raise UserError(f"{folder}: found no shards of transitions; expected one or more")
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(file_rows, files))
    size, used = storage.size(folder), rows if limit is None else within(rows, limit)
    size, files = round(size * sum(used) / max(1, sum(rows))), files[: len(used)]
    if how == "auto":
        store = ray.cluster_resources().get("object_store_memory", 0.0)
        how = "materialised" if size <= STORE_SHARE * store else "streaming"
        # Only streaming deserves a line on a terminal.
        _LOG.log(
            logging.INFO if how == "materialised" else logging.WARNING,
            "transitions are %s: %.2f GB in %d shards; they may fill %.0f %% of the object store's %.2f GB",
            *(how, size / 1e9, len(files), 100 * STORE_SHARE, store / 1e9),
        )
    if how == "streaming":
        return list(files), used
    if here:
        return [ray.put(_read(file)) for file in files], used
    shards, done = [], []
    for file in files:
        shard, read = _read_in_task.remote(file)
        shards.append(shard)
        done.append(read)
    ray.get(done)  # raises the error of a damaged file
    return shards, used


def lanes_of(shards: int, most: int = MOST_LANES) -> int:
    """Return the number L of lanes: the largest divisor of `shards` up to MOST_LANES and `most`.

    Shard i is in lane i mod L.
    """
    return max(lanes for lanes in range(1, min(MOST_LANES, most) + 1) if shards % lanes == 0)


def within(rows: Sequence[int], limit: int) -> list[int]:
    """Return the rows used of each of the first shards; every lane has an equal part of `limit`, or all its rows."""
    used: list[int] = []
    lanes = lanes_of(len(rows))
    room = [limit // lanes] * lanes
    while any(room) and len(used) < len(rows):
        for lane, count in enumerate(rows[len(used) : len(used) + lanes]):
            used.append(min(count, room[lane]))
            room[lane] -= used[-1]
    return used


class ShardCache:
    """Shards in the memory of a learner: for each lane the one in use and at most the next one."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[Shard, Future[dict[str, np.ndarray]]]]] = {}
        self._reader = ThreadPoolExecutor(1)

    def __len__(self) -> int:
        return sum(len(held) for held in self._held.values())

    def order(self, lane: int, shard: Shard) -> None:
        """Start to fetch the shard that `lane` uses next, unless it is in memory or on its way."""
        held = self._held.setdefault(lane, [])
        if shard not in [known for known, _ in held]:
            held[1:] = [(shard, self.fetch(shard))]

    def take(self, lane: int, shard: Shard, following: Shard) -> dict[str, np.ndarray]:
        """Return the columns of the lane's current shard (see `columns`), drop the previous one, order the next one."""
        self.order(lane, shard)
        held = self._held[lane]
        if held[0][0] != shard:
            del held[0]
        current = held[0][1].result()
        self.order(lane, following)
        return current

    def fetch(self, shard: Shard) -> Future[dict[str, np.ndarray]]:
        """Start to fetch the columns of a shard to this process; the cache does not keep them."""
        return self._reader.submit(_fetch, shard)


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Return zero-copy views of a shard's columns by RLlib's names, as stored; reward and NUMBER are [n]."""
    return {
        rllib: stored(table[name]) if name not in ("reward", "number") else table[name].combine_chunks().to_numpy()
        for name, rllib in _COLUMNS.items()
        if name in table.column_names
    }


def _fetch(shard: Shard) -> dict[str, np.ndarray]:
    return columns(_read(shard) if isinstance(shard, str) else ray.get(shard))


def _read(file: str) -> pa.Table:
    # One chunk per column, which `stored` can view in shared memory; every reader would copy several chunks.
    return read_table(file).combine_chunks()


@ray.remote(num_cpus=1, num_returns=2)
def _read_in_task(file: str) -> tuple[pa.Table, None]:
    """Return the table, and an object that this process can get without the table."""
    return _read(file), None


@dataclass(frozen=True)
class RewardLabels:
    """Labels by the number of a transition: part i has the numbers from `ends`[i - 1] (0 for part 0) to `ends`[i] - 1.

    parts: references to float32 arrays.
    """

    parts: tuple[ray.ObjectRef, ...]
    ends: tuple[int, ...]

    @classmethod
    def from_parts(cls, parts: Sequence[ray.ObjectRef], sizes: Sequence[int]) -> RewardLabels:
        """Return the labels in `parts` of these sizes, one after another."""
        return cls(tuple(parts), tuple(np.cumsum(sizes).tolist()))

    def find(self, numbers: np.ndarray) -> np.ndarray:
        """Return the labels, float32 [n], of the transitions with these numbers, int64 [n]."""
        labels = np.empty(len(numbers), np.float32)
        part = np.searchsorted(self.ends, numbers, side="right")
        for number in np.unique(part).tolist():
            rows = np.flatnonzero(part == number)
            first = self.ends[number - 1] if number else 0
            labels[rows] = ray.get(self.parts[number])[numbers[rows] - first]
        return labels

    def __len__(self) -> int:
        return self.ends[-1]
