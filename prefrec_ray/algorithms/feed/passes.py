"""Passes over the preferences in mini-batches, whose pairs are a function of (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import ray

from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.ids import Stream


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
        """Return the number of pairs of a whole mini-batch; the parts of learners may differ by one pair."""
        return min(self.batch_size, self.pairs)

    def rows(self, index: int) -> np.ndarray:
        """Return this learner's pair numbers in batch `first + index`; each pass over the pairs has its own order."""
        epoch, within = divmod(self.first + index, batches_per_pass(self.pairs, self.batch_size))
        order = _pass_order(self.seed, epoch, self.pairs)
        return order[within * self.size : (within + 1) * self.size][self.part :: self.parts]

    def load(self) -> PreferenceBuffer:
        """Return the buffer, from the shared memory of the node."""
        return ray.get(self.buffer)


@lru_cache(maxsize=1)
def _pass_order(seed: int, epoch: int, pairs: int) -> np.ndarray:
    """Return the order of one pass over the pairs."""
    return np.random.default_rng((seed, Stream.PASS, epoch)).permutation(pairs)


def batches_per_pass(pairs: int, batch_size: int) -> int:
    """Return the number of whole mini-batches in a pass over `pairs` preferences, at least one."""
    return max(1, pairs // batch_size)


def pretrain_batches(epochs: float, pairs: int, batch_size: int, most: int | None) -> int:
    """Return the number of mini-batches of pre-training, at most `most`: at least one, or 0 for 0 epochs."""
    batches = max(1, round(epochs * batches_per_pass(pairs, batch_size))) if epochs > 0 else 0
    return batches if most is None else min(batches, most)
