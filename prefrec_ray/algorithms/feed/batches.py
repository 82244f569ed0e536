"""Mini-batches: their rows are a function of (seed, index), the same for any number of learners.

Shard i of the transitions belongs to lane i mod LANES, and a batch takes an equal number of rows from each lane. With N
learners, learner k owns the lanes k, k + N, ...: it reads only its part of the data, and the parts of the N learners
together are the batch of a single learner.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import ray
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.feed.shards import NUMBER, Shard, Shelf, columns
from prefrec_ray.ids import Stream

Value = TypeVar("Value")


@dataclass(frozen=True)
class TransitionPlan:
    """The data of one learner for one call of `update`: batches [first, first + count) of the run, from its lanes.

    lanes: number, shards and row counts of each. rows_per_lane: rows that a batch takes from a lane. batches_per_epoch:
    the same for all lanes; the rows of a lane that do not fill a batch are left out of the epoch, other ones in each
    epoch. reward_labels: those of all transitions, by number, instead of the reward column (reward/labels.py).
    """

    lanes: list[tuple[int, list[Shard], list[int]]]
    rows_per_lane: int
    batches_per_epoch: int
    seed: int
    first: int
    count: int
    reward_labels: ray.ObjectRef | None = None

    def batches(self, device: torch.device, shelf: Shelf | None = None) -> Iterator[dict[str, Tensor]]:
        """The batches in order, as float32 tensors on `device`; `shelf` keeps shards from one plan to the next.

        Each lane orders its next shard at another point of the shard in use, so that reading is spread over the batches
        and done before the shard is needed.
        """
        shelf = Shelf() if shelf is None else shelf
        per_epoch = self.batches_per_epoch * self.rows_per_lane
        lanes = [(_Lane(self.seed, number, sizes, per_epoch), shards) for number, shards, sizes in self.lanes]
        epoch, within = divmod(self.first, self.batches_per_epoch)
        reward_labels = self._reward_labels()
        for lane, shards in lanes:
            shelf.order(lane.number, shards[lane.at(epoch, within * self.rows_per_lane)[0]])
        for index in range(self.first, self.first + self.count):
            epoch, within = divmod(index, self.batches_per_epoch)
            start, end = within * self.rows_per_lane, (within + 1) * self.rows_per_lane
            batch = self._gather(lanes, shelf, reward_labels, epoch, start, end)
            yield {name: values.to(device) for name, values in batch.items()}
            for turn, (lane, shards) in enumerate(lanes):
                _, done, following = lane.at(epoch, end - 1)
                if done >= turn / len(lanes):
                    shelf.order(lane.number, shards[following])

    def _reward_labels(self) -> np.ndarray | None:
        return None if self.reward_labels is None else ray.get(self.reward_labels)

    def _gather(
        self,
        lanes: list[tuple[_Lane, list[Shard]]],
        shelf: Shelf,
        reward_labels: np.ndarray | None,
        epoch: int,
        start: int,
        end: int,
    ) -> dict[str, Tensor]:
        # Tensors: torch converts float16 to float32 eight times as fast as NumPy.
        batch: dict[str, Tensor] = {}
        filled = 0
        for lane, shards in lanes:
            for shard, rows in lane.rows(epoch, start, end):
                for name, values in _picked(shelf.take(lane.number, shards[shard]), rows, reward_labels):
                    if name not in batch:
                        batch[name] = torch.empty(len(lanes) * (end - start), *values.shape[1:])
                    batch[name][filled : filled + len(rows)] = torch.from_numpy(values)
                filled += len(rows)
        return batch

    def sample(self, rows: int, device: torch.device, shelf: Shelf | None = None) -> dict[str, Tensor]:
        """The first `rows` rows of this learner's shards: a random sample, as transitions are written shuffled."""
        each, shelf = max(1, rows // len(self.lanes)), Shelf() if shelf is None else shelf
        pending = [(shelf.bring(shards[0]), min(each, sizes[0])) for _, shards, sizes in self.lanes]
        reward_labels = self._reward_labels()
        parts: dict[str, list[np.ndarray]] = {}
        while pending:
            shard, count = pending.pop(0)
            for name, values in _picked(columns(ray.get(shard)), slice(count), reward_labels):
                parts.setdefault(name, []).append(values.astype(np.float32))
        return {name: torch.from_numpy(np.concatenate(values)).to(device) for name, values in parts.items()}


def _picked(
    shard: dict[str, np.ndarray], rows: np.ndarray | slice, reward_labels: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of some rows of a shard, by name; `reward_labels`, if not None, replace the rewards."""
    for name, values in shard.items():
        if name != NUMBER and (name != Columns.REWARDS or reward_labels is None):
            yield name, values[rows]
    if reward_labels is not None:
        yield Columns.REWARDS, reward_labels[shard[NUMBER][rows]]


class Stopwatch:
    """Time spent waiting for the next value of an iterator, in `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, values: Iterator[Value]) -> Iterator[Value]:
        """Yields the same values."""
        while True:
            start = time.perf_counter()
            try:
                value = next(values)
            except StopIteration:
                return
            self.seconds += time.perf_counter() - start
            yield value


class _Lane:
    """The order of one lane: each epoch permutes its shards, and the rows of each shard."""

    def __init__(self, seed: int, number: int, sizes: list[int], rows_per_epoch: int) -> None:
        self.number = number
        self._seed, self._sizes, self._rows_per_epoch = seed, sizes, rows_per_epoch
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._permutation: tuple[tuple[int, int], np.ndarray] | None = None

    def rows(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Shard and rows in it for the positions [start, stop) of the epoch."""
        shards, ends = self._order(epoch)
        place = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            shard = int(shards[place])
            begin = int(ends[place]) - self._sizes[shard]
            end = min(stop, int(ends[place]))
            yield shard, self._rows_of(epoch, shard)[start - begin : end - begin]
            start, place = end, place + 1

    def at(self, epoch: int, position: int) -> tuple[int, float, int]:
        """The shard at a position, the share of it that is read by then, and the shard after it."""
        shards, ends = self._order(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        shard, end = int(shards[place]), int(ends[place])
        following = shards[place + 1] if end < self._rows_per_epoch else self._order(epoch + 1)[0][0]
        return shard, 1 - (end - position - 1) / self._sizes[shard], int(following)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards in order, and the positions at which they end."""
        if epoch not in self._orders:
            shards = np.random.default_rng((self._seed, epoch, self.number)).permutation(len(self._sizes))
            kept = {number: order for number, order in self._orders.items() if number == epoch - 1}
            self._orders = {**kept, epoch: (shards, np.cumsum([self._sizes[shard] for shard in shards]))}
        return self._orders[epoch]

    def _rows_of(self, epoch: int, shard: int) -> np.ndarray:
        if self._permutation is None or self._permutation[0] != (epoch, shard):
            generator = np.random.default_rng((self._seed, epoch, self.number, shard))
            self._permutation = (epoch, shard), generator.permutation(self._sizes[shard])
        return self._permutation[1]


@dataclass(frozen=True)
class PreferencePlan:
    """Mini-batches of preferences, of which a learner takes part number `part` of `parts`."""

    buffer: ray.ObjectRef
    pairs: int
    batch_size: int
    seed: int
    first: int
    part: int
    parts: int

    @property
    def size(self) -> int:
        """Pairs of a whole mini-batch; the parts of learners may differ by one pair."""
        return min(self.batch_size, self.pairs)

    def rows(self, index: int) -> np.ndarray:
        """Pair numbers of this learner's part of batch `first + index`; each pass over the pairs has its own order."""
        epoch, within = divmod(self.first + index, batches_per_pass(self.pairs, self.batch_size))
        order = _pass_order(self.seed, epoch, self.pairs)
        return order[within * self.size : (within + 1) * self.size][self.part :: self.parts]

    def load(self) -> PreferenceBuffer:
        """The buffer, in the shared memory of the node."""
        return ray.get(self.buffer)


@lru_cache(maxsize=1)
def _pass_order(seed: int, epoch: int, pairs: int) -> np.ndarray:
    """The order of one pass over the pairs."""
    return np.random.default_rng((seed, Stream.PASS, epoch)).permutation(pairs)


def batches_per_pass(pairs: int, batch_size: int) -> int:
    """Whole mini-batches in a pass over `pairs` preferences, at least one."""
    return max(1, pairs // batch_size)


def pretrain_batches(epochs: float, pairs: int, batch_size: int) -> int:
    """Mini-batches of pre-training: at least one, or 0 for 0 epochs."""
    return max(1, round(epochs * batches_per_pass(pairs, batch_size))) if epochs > 0 else 0
