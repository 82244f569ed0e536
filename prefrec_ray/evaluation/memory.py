"""What a user was shown lately, as far as states do not say it: how much of it was alike, and what it was to draw.

States hold running means of embeddings. These tell what is linear in an embedding; where people tire of what is alike,
or of what draws them now and leaves them empty, what adds up is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.mdp.bulk import running_means
from prefrec_ray.mdp.columns import decays
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.networks.answers import Answers

#: In requests: of the running means.
HALF_LIVES = (8.0, 32.0)
#: Requests of one forward pass.
_CHUNK = 8192


@dataclass(frozen=True)
class Memory:
    """Means over a user's requests so far of C values each, in M columns: how like the item was to what had been shown
    before it, and the answers that it was expected to draw, where `answers` of the data set say that."""

    recent: RecentItems
    answers: Answers | None

    @classmethod
    def of(cls, dataset: PreparedDataset, items: ItemTable) -> Memory | None:
        """None where the log does not say that people tire: there what is shown makes no difference later, and heads
        would make one up for policies that show what is more alike than anything in the log. `items`: the data set's.
        """
        if not ServingSettings().people_tire(dataset.metadata.variety):
            return None
        recent = RecentItems.of(dataset.state, dataset.normaliser, items)
        return None if recent is None else cls(recent, dataset.answers())

    @property
    def width(self) -> int:
        """C, how many values a request has."""
        return 1 if self.answers is None else 1 + self.answers.net.sizes[-1]

    def values(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """float32 [n, C] of requests: scaled states [n, S], embeddings of the items shown [n, A]."""
        alike = self.recent.likeness(states, actions[:, None])
        if self.answers is None:
            return alike
        with torch.inference_mode():
            parts = (slice(start, start + _CHUNK) for start in range(0, len(states), _CHUNK))
            pairs = ((torch.tensor(states[part]), torch.tensor(actions[part])) for part in parts)
            return np.concatenate([alike, np.concatenate([self.answers(*pair).numpy() for pair in pairs])], axis=1)

    def replayed(self, starts: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """float32 [N, M] just before each request of whole histories that start at the rows `starts` [U]."""
        values = self.values(states, actions)
        decay, source = _columns(self.width)
        means = np.empty((len(values), len(decay)), np.float32)
        running_means(values, starts, decay, source, out=means)
        return means


class Recall:
    """The memory of n users who start without a history, request by request: what `Memory.replayed` gives of a log."""

    def __init__(self, memory: Memory | None, users: int) -> None:
        self._memory = memory
        self._decay, self._source = _columns(0 if memory is None else memory.width)
        self._sums, self._weight = np.zeros((users, len(self._decay))), np.zeros(len(self._decay))

    def means(self) -> np.ndarray:
        """float32 [n, M] just before the coming request; M is 0 for no memory."""
        return (self._sums / np.maximum(self._weight, 1.0)).astype(np.float32)

    def observe(self, states: np.ndarray, actions: np.ndarray) -> None:
        """Takes in one request a user: scaled states [n, S], embeddings of the items shown [n, A]."""
        if self._memory is not None:
            self._sums = self._sums * self._decay + self._memory.values(states, actions).take(self._source, axis=1)
            self._weight = self._weight * self._decay + 1.0


def _columns(values: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each column the decay of its mean and the value that it is of."""
    return decays(HALF_LIVES, values), np.tile(np.arange(values), len(HALF_LIVES))
