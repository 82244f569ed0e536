"""Reward labels of all transitions, in parts in the object store. A reader fetches the parts of its rows only.

Transitions are numbered user by user, and a wave of shards has a range of numbers (dataset/prepare/shuffle.py), so that
the labels of a shard are in few parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray


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
