"""Mini-batches whose rows are a function of (seed, index), the same for any number of learners.

Shard i of the transitions belongs to lane i mod L. A batch takes the same rows from each lane for any reader. With N
learners, learner k has the lanes k, k + N, ...; with more learners than lanes several learners share a lane, and each
takes its share of the rows. The N parts together are the batch of a single learner. Their sizes may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.shards import NUMBER, REWARDS, RewardLabels, Shard, ShardCache, lanes_of

Batch: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class LanePart:
    """A lane: its number, the rows of its shards, and the share of one learner.

    rows: number of rows that a batch takes from the lane, over all learners. The learner takes every `parts`-th of
    them, from number `part` on.
    """

    number: int
    shards: list[Shard]
    sizes: list[int]
    rows: int
    part: int = 0
    parts: int = 1

    @property
    def own(self) -> slice:
        """Return the rows of a batch that this learner takes."""
        return slice(self.part, None, self.parts)

    @property
    def own_rows(self) -> int:
        """Return the number of rows that this learner takes."""
        return len(range(self.part, self.rows, self.parts))


def deal(shards: list[Shard], sizes: list[int], batch_size: int, learners: int) -> list[list[LanePart]]:
    """Return the lanes of each learner, for batches of `batch_size` rows over all learners.

    The number of lanes is the largest divisor of the number of shards, up to MOST_LANES and the batch size.
    """
    lanes = lanes_of(len(shards), batch_size)
    takers = [max(1, len(range(lane, learners, lanes))) for lane in range(lanes)]
    rows = [batch_size // lanes + (lane < batch_size % lanes) for lane in range(lanes)]

    def part(lane: int, number: int) -> LanePart:
        return LanePart(lane, shards[lane::lanes], sizes[lane::lanes], rows[lane], number, takers[lane])

    if learners <= lanes:
        return [[part(lane, 0) for lane in range(learner, lanes, learners)] for learner in range(learners)]
    return [[part(learner % lanes, learner // lanes)] for learner in range(learners)]


def batches_in(lanes: Iterable[LanePart]) -> int:
    """Return the batches of an epoch, limited by the smallest lane."""
    return min(sum(lane.sizes) // lane.rows for lane in lanes)


@dataclass(frozen=True)
class TransitionPlan:
    """Data of one learner for one call of `update`: batches [first, first + count) of the run, from its lanes.

    lane_count, batch_size: lanes, and rows of a batch, over all learners. batches_per_epoch: equal for all lanes; an
    epoch omits the rows of a lane that do not fill a batch, different rows in each epoch. reward_labels: labels of
    transitions (reward/labels.py), instead of the reward column.
    """

    lanes: list[LanePart]
    lane_count: int
    batch_size: int
    batches_per_epoch: int
    seed: int
    first: int
    count: int
    reward_labels: RewardLabels | None = None

    def batches(self, device: torch.device, cache: ShardCache) -> Iterator[Batch]:
        """Yield the batches in order, float32 on `device`; `cache` keeps shards from one plan to the next."""
        lanes = [(_Lane(self.seed, p.number, p.sizes, self.batches_per_epoch * p.rows), p) for p in self.lanes]
        labels: dict[int, tuple[int, np.ndarray]] = {}  # of the current shard of each lane
        for part, shard, _, _ in self._taken(lanes, self.first):
            cache.order(part.number, part.shards[shard])
        for index in range(self.first, self.first + self.count):
            batch = self._gather(lanes, cache, labels, index, pinned=device.type == "cuda")
            yield {name: values.to(device, non_blocking=True) for name, values in batch.items()}

    def drawn(self, update: int, stream: int, draw: Callable[[np.random.Generator, int], np.ndarray]) -> np.ndarray:
        """Return random numbers for this learner's rows of a batch, [own_rows, ...].

        `draw` generates the numbers for the given number of rows of a lane. They depend on (seed, update, lane,
        stream), so that a row gets the same numbers on any learner and in a resumed run.
        """
        lanes = ((lane, generator(self.seed, update, lane.number, stream)) for lane in self.lanes)
        return np.concatenate([draw(rng, lane.rows)[lane.own] for lane, rng in lanes])

    def _taken(
        self, lanes: list[tuple[_Lane, LanePart]], index: int
    ) -> Iterator[tuple[LanePart, int, int, np.ndarray]]:
        """Yield lane, shard, the lane's next shard, and rows in the shard for batch `index`, in its order."""
        epoch, within = divmod(index, self.batches_per_epoch)
        for lane, part in lanes:
            positions = np.arange(within * part.rows + part.part, (within + 1) * part.rows, part.parts)
            for shard, following, rows in lane.rows(epoch, positions):
                yield part, shard, following, rows

    def _gather(
        self,
        lanes: list[tuple[_Lane, LanePart]],
        cache: ShardCache,
        labels: dict[int, tuple[int, np.ndarray]],
        index: int,
        pinned: bool,
    ) -> Batch:
        # Tensors, because torch converts float16 to float32 eight times as fast as NumPy.
        batch: Batch = {}
        filled = 0
        for part, shard, following, rows in self._taken(lanes, index):
            columns = cache.take(part.number, part.shards[shard], part.shards[following])
            if self.reward_labels is not None:
                if part.number not in labels or labels[part.number][0] != shard:
                    labels[part.number] = shard, self.reward_labels.find(columns[NUMBER])
                columns = {**columns, REWARDS: labels[part.number][1]}
            for name, values in _picked(columns, rows):
                if name not in batch:
                    batch[name] = torch.empty(self.own_rows, *values.shape[1:], pin_memory=pinned)
                batch[name][filled : filled + len(rows)] = torch.from_numpy(values)
            filled += len(rows)
        return batch

    @property
    def own_rows(self) -> int:
        """Return the number of rows of a batch that this learner takes."""
        return sum(lane.own_rows for lane in self.lanes)

    def sample(self, rows: int, device: torch.device, cache: ShardCache) -> Batch:
        """Return this learner's part of about `rows` rows: a random sample, because transitions are stored shuffled.

        The sample is the first rows of each lane, equally many per lane, for any number of learners.
        """
        each = max(1, rows // self.lane_count)
        parts: dict[str, list[np.ndarray]] = {}
        for part in self.lanes:
            first = slice(part.part, min(each, part.sizes[0]), part.parts)
            columns = cache.fetch(part.shards[0]).result()
            picked = dict(_picked(columns, first))
            if self.reward_labels is not None:
                picked[REWARDS] = self.reward_labels.find(columns[NUMBER][first])
            for name, values in picked.items():
                parts.setdefault(name, []).append(values.astype(np.float32))
        return {name: torch.from_numpy(np.concatenate(values)).to(device) for name, values in parts.items()}


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches on a GPU, each copied on its own stream while the previous one is in use.

    `batches` come to the GPU by copies that are queued on the current stream.
    """
    stream = torch.cuda.Stream(device)

    def copied() -> tuple[Batch | None, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            return next(batches, None), stream.record_event()

    batch, event = copied()
    while batch is not None:
        following = copied()
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        for values in batch.values():
            values.record_stream(current)  # its memory is not reused before that stream has finished with it
        yield batch
        batch, event = following


def generator(*key: int) -> np.random.Generator:
    """Return NumPy's fastest generator, since several are made for each update."""
    return np.random.Generator(np.random.SFC64(key))


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` of the host on `device`; a copy to a GPU is queued with the GPU's work."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def _picked(shard: dict[str, np.ndarray], rows: np.ndarray | slice) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the columns of some rows of a shard, by name."""
    for name, values in shard.items():
        if name != NUMBER:
            yield name, values[rows]


class _Lane:
    """Order of one lane: each epoch permutes its shards, and the rows of each shard."""

    def __init__(self, seed: int, number: int, sizes: list[int], rows_per_epoch: int) -> None:
        self.number = number
        self._seed, self._sizes, self._rows_per_epoch = seed, sizes, rows_per_epoch
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._permutation: tuple[tuple[int, int], np.ndarray] | None = None

    def rows(self, epoch: int, positions: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield shard, the next shard, and rows in the shard for `positions` in the epoch, ascending."""
        shards, ends = self._order(epoch)
        places = np.searchsorted(ends, positions, side="right")
        for place in np.unique(places):
            shard, end = int(shards[place]), int(ends[place])
            following = shards[place + 1] if end < self._rows_per_epoch else self._order(epoch + 1)[0][0]
            begin = end - self._sizes[shard]
            yield shard, int(following), self._rows_of(epoch, shard)[positions[places == place] - begin]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the shards in order, and the positions at which they end."""
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
