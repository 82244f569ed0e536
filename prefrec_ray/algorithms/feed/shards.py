"""Shards of transitions: kept in the object store if they fit, else streamed from the files of the data set.

The order of batches (batches.py) is the same either way. A separate process reads the next shard while one is in use; a
shard leaves the object store when its lane moves on, so that the memory of a learner does not grow with the data.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.columns import ACTIONS, NEXT_OBS, OBS, REWARDS
from prefrec_ray.dataset import PreparedDataset, read_table, stored
from prefrec_ray.dataset.completeness import file_rows
from prefrec_ray.errors import UserError

#: Lanes that are read in parallel, each one shard at a time: more would need more memory, and mix no better.
MOST_LANES = 8
#: Ways in which transitions reach the learners; "auto" is "materialised" if they fit, else "streaming".
TRANSITIONS = ("auto", "materialised", "streaming")
#: Share of the cluster's object store that transitions may fill. Shards are copied to the hosts of learners, and then
#: take up to twice their size; preferences and other runs need space too.
STORE_SHARE = 0.4
#: Threads that read Parquet footers, which are small, so that nearly all the time is spent waiting for storage.
_THREADS = 16

#: An Arrow table in the object store, or the file to read it from.
Shard: TypeAlias = "ray.ObjectRef | str"
#: Additional column of a shard: the number of each transition, int64.
NUMBER = "number"
_COLUMNS = {
    "obs": OBS,
    "action": ACTIONS,
    "next_obs": NEXT_OBS,
    "reward": REWARDS,
    "number": NUMBER,
}
_LOG = logging.getLogger(__name__)


def find_shards(
    dataset: PreparedDataset, how: str, limit: int | None = None, here: bool = False
) -> tuple[list[Shard], list[int]]:
    """Return the shards in order and the numbers of rows in use; `how` is one of TRANSITIONS.

    With `here` this process reads them.

    All rows are used, or the first `limit` (rounded down to a multiple of the lanes): a random sample, because
    transitions are stored shuffled. Raises `UserError` without rows.
    """
    folder = dataset.path("transitions")
    files = dataset.files("transitions")
    if not files:
        raise UserError(f"{folder}: found no shards of transitions; expected one or more")
    size, rows = storage.size(folder), []
    if limit is not None:
        rows = _rows(files)
        used = within(rows, limit)
        size = round(size * sum(used) / sum(rows))
        files, rows = files[: len(used)], used
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
        return list(files), rows or _rows(files)
    # Ray Data creates no blocks from an empty list, which occurs if `limit` is below the number of lanes.
    shards, sizes = _materialise_here(files) if here or not files else _materialise(files, folder)
    return shards, rows or sizes


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


def _rows(files: list[str]) -> list[int]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(file_rows, files))


class ShardCache:
    """Shards in the memory of a learner: for each lane the one in use and at most the next one."""

    def __init__(self) -> None:
        self._in_use: dict[int, tuple[Shard, dict[str, np.ndarray]]] = {}
        self._ahead: dict[int, tuple[Shard, ray.ObjectRef]] = {}
        self._reader: Any = None

    def __len__(self) -> int:
        return len(self._in_use) + len(self._ahead)

    def order(self, lane: int, shard: Shard) -> None:
        """Start to fetch the shard that `lane` uses next, unless it is in memory or on its way."""
        if all(lane not in place or place[lane][0] != shard for place in (self._in_use, self._ahead)):
            self._ahead[lane] = (shard, self.bring(shard))

    def take(self, lane: int, shard: Shard) -> dict[str, np.ndarray]:
        """Return the columns of the lane's current shard, as views [n, ...] by RLlib's names; drop the previous one."""
        self.order(lane, shard)
        if lane not in self._in_use or self._in_use[lane][0] != shard:
            self._in_use.pop(lane, None)
            _, reference = self._ahead.pop(lane)
            self._in_use[lane] = (shard, columns(ray.get(reference)))
        return self._in_use[lane][1]

    def bring(self, shard: Shard) -> ray.ObjectRef:
        """Start to fetch a shard to this host; the cache does not keep it."""
        if isinstance(shard, str):
            if self._reader is None:
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
                self._reader = _Reader.options(scheduling_strategy=here).remote()
            return self._reader.read.remote(shard)
        ray.wait([shard], timeout=0)  # starts the transfer from another host, or from disk if it was spilled
        return shard


class _FileReader:
    def read(self, file: str) -> pa.Table:
        return _one_chunk(file)


# One process reads for one learner, a file at a time. It needs no CPU, since learners, which wait for it, may hold all.
_Reader = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_FileReader)


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Return zero-copy views of a shard's columns by RLlib's names, as stored; reward and NUMBER are [n]."""
    return {
        rllib: stored(table[name]) if name not in ("reward", "number") else table[name].combine_chunks().to_numpy()
        for name, rllib in _COLUMNS.items()
        if name in table.column_names
    }


def _materialise(files: list[str], folder: str) -> tuple[list[Shard], list[int]]:
    """Return every shard as one block of the object store."""
    shards = ray.data.from_items(files, override_num_blocks=len(files)).map_batches(_read_block, batch_size=None)
    bundles = list(shards.materialize().iter_internal_ref_bundles())
    blocks = [(block.ref, block.metadata.num_rows) for bundle in bundles for block in bundle.blocks]
    if len(blocks) != len(files):
        raise UserError(f"{folder}: shards are too large for one block each; prepare the data again")
    return [ref for ref, _ in blocks], [rows for _, rows in blocks]


def _materialise_here(files: list[str]) -> tuple[list[Shard], list[int]]:
    """Return the same, read in this process (tasks.py), one shard after the other."""
    shards: list[Shard] = []
    sizes = []
    for file in files:
        table = _one_chunk(file)
        shards.append(ray.put(table))
        sizes.append(len(table))
    return shards, sizes


def _read_block(batch: dict[str, np.ndarray]) -> Any:
    (file,) = batch["item"]
    return _one_chunk(str(file))


def _one_chunk(file: str) -> pa.Table:
    # One chunk per column, which `stored` can view in shared memory; every reader would copy several chunks.
    return read_table(file).combine_chunks()
