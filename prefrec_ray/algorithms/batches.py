"""Mini-batches: which rows, in which order; a function of (seed, index), the same for any number of learners.

Transitions lie in shards; shard i belongs to lane i mod LANES, and every batch takes an equal part of its rows from
each lane. With N learners, learner k owns the lanes k, k + N, ...: it holds a part of the data only, and the union of
the N parts is the very batch that a single learner would have had.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from prefrec_ray.algorithms.preferences import PreferenceBuffer
from prefrec_ray.dataset import tensor

LANES = 8

Value = TypeVar("Value")

_COLUMNS = {"obs": Columns.OBS, "action": Columns.ACTIONS, "next_obs": Columns.NEXT_OBS, "reward": Columns.REWARDS}


@dataclass(frozen=True)
class TransitionPlan:
    """What one learner reads in one call of `update`: batches [first, first + count) of the run, from its lanes.

    lanes: for each lane its number, the references of its shards (Arrow tables) and their row counts.
    rows_per_lane: rows that a batch takes from a lane. batches_per_epoch: the same for all lanes; a lane's last rows
    that fill no batch sit out the epoch, other ones in the next.
    """

    lanes: list[tuple[int, list[ray.ObjectRef], list[int]]]
    rows_per_lane: int
    batches_per_epoch: int
    seed: int
    first: int
    count: int

    def batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The batches in order, as tensors on `device`."""
        shards = {number: [_arrays(ray.get(ref)) for ref in refs] for number, refs, _ in self.lanes}
        epoch, order = -1, {}
        for index in range(self.first, self.first + self.count):
            if index // self.batches_per_epoch != epoch:
                epoch = index // self.batches_per_epoch
                order = {number: _LaneOrder(self.seed, epoch, number, rows) for number, _, rows in self.lanes}
            start = (index % self.batches_per_epoch) * self.rows_per_lane
            parts: dict[str, list[np.ndarray]] = {}
            for number, arrays in shards.items():
                for shard, rows in order[number].rows(start, start + self.rows_per_lane):
                    for name, values in arrays[shard].items():
                        parts.setdefault(name, []).append(values[rows])
            yield {name: torch.from_numpy(np.concatenate(values)).to(device) for name, values in parts.items()}

    def sample(self, rows: int, device: torch.device) -> dict[str, Tensor]:
        """The first `rows` rows of this learner's shards as they lie: written shuffled, hence a sample of all."""
        each = max(1, rows // len(self.lanes))
        found = [
            {name: values[:each] for name, values in _arrays(ray.get(refs[0])).items()} for _, refs, _ in self.lanes
        ]
        return {name: torch.from_numpy(np.concatenate([part[name] for part in found])).to(device) for name in found[0]}


class Stopwatch:
    """Time spent waiting for the next value of an iterator, in `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, values: Iterator[Value]) -> Iterator[Value]:
        """The same values."""
        while True:
            start = time.perf_counter()
            try:
                value = next(values)
            except StopIteration:
                return
            self.seconds += time.perf_counter() - start
            yield value


class _LaneOrder:
    """The order of one lane in one epoch: shards permuted, rows permuted inside each."""

    def __init__(self, seed: int, epoch: int, lane: int, sizes: list[int]) -> None:
        self._key = (seed, epoch, lane)
        self._sizes = sizes
        self._shards = np.random.default_rng(self._key).permutation(len(sizes))
        self._ends = np.cumsum([sizes[shard] for shard in self._shards])
        self._permutations: dict[int, np.ndarray] = {}

    def rows(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """(shard, rows in it) for the positions [start, stop) of the lane."""
        place = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            shard = int(self._shards[place])
            begin = int(self._ends[place]) - self._sizes[shard]
            end = min(stop, int(self._ends[place]))
            if place not in self._permutations:
                generator = np.random.default_rng((*self._key, shard))
                self._permutations = {place: generator.permutation(self._sizes[shard])}
            yield shard, self._permutations[place][start - begin : end - begin]
            start, place = end, place + 1


def _arrays(table: Any) -> dict[str, np.ndarray]:
    """Zero-copy views of a shard's columns, under RLlib's names."""
    return {
        rllib: tensor(table[name]) if name != "reward" else table[name].combine_chunks().to_numpy()
        for name, rllib in _COLUMNS.items()
        if name in table.column_names
    }


@dataclass(frozen=True)
class PreferencePlan:
    """Mini-batches of preferences: batch `index` of the run, and the part of it that one learner takes."""

    buffer: ray.ObjectRef
    pairs: int
    batch_size: int
    seed: int
    first: int
    part: int
    parts: int

    def rows(self, index: int) -> np.ndarray:
        """Pair numbers of this learner's part of batch `first + index`; each pass over all pairs has its own order."""
        per_epoch = batches_per_pass(self.pairs, self.batch_size)
        epoch, within = divmod(self.first + index, per_epoch)
        size = min(self.batch_size, self.pairs)
        return _pass_order(self.seed, epoch, self.pairs)[within * size : (within + 1) * size][self.part :: self.parts]

    def load(self) -> PreferenceBuffer:
        """The buffer, shared memory of the node."""
        return ray.get(self.buffer)


@lru_cache(maxsize=1)
def _pass_order(seed: int, epoch: int, pairs: int) -> np.ndarray:
    """The order of one pass over the pairs; drawn once for all mini-batches of the pass."""
    return np.random.default_rng((seed, 0x9AF5, epoch)).permutation(pairs)


def batches_per_pass(pairs: int, batch_size: int) -> int:
    """Whole mini-batches in a pass over `pairs` preferences (at least one)."""
    return max(1, pairs // batch_size)
