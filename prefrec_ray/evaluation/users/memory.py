"""Memory of recent items in a model of users: their similarity and their expected feedback.

State vectors contain running means of embeddings, which only show effects that are linear in the embedding. Fatigue
with similar items, or with items of short-lived appeal, is not linear.
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
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

#: Half-lives of the running means, in impressions.
HALF_LIVES = (8.0, 32.0)
#: Impressions of one forward pass.
_CHUNK = 8192


@dataclass(frozen=True)
class Memory:
    """Running means over a user's impressions of C values, in M columns.

    The values are the similarity of the item to earlier items, and its expected feedback if the data set has a network
    for it (`answers`).
    """

    recent: RecentItems
    answers: ExpectedFeedback | None

    @classmethod
    def from_dataset(cls, dataset: PreparedDataset, items: ItemTable) -> Memory | None:
        """Create the memory for a data set with its `items`; None if the log does not show fatigue.

        Without fatigue, the networks would invent an effect for policies that show more similar items than the log.
        """
        if not ServingSettings().people_tire(dataset.metadata.variety):
            return None
        recent = RecentItems.find(dataset.state, dataset.normaliser, items)
        return None if recent is None else cls(recent, dataset.answers())

    @property
    def width(self) -> int:
        """Return C, the number of values per impression."""
        return 1 if self.answers is None else 1 + self.answers.net.sizes[-1]

    def values(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the values, float32 [n, C], of impressions with scaled states [n, S] and item embeddings [n, A]."""
        alike = self.recent.likeness(states, actions[:, None])
        if self.answers is None:
            return alike
        with torch.inference_mode():
            parts = (slice(start, start + _CHUNK) for start in range(0, len(states), _CHUNK))
            pairs = ((torch.tensor(states[part]), torch.tensor(actions[part])) for part in parts)
            return np.concatenate([alike, np.concatenate([self.answers(*pair).numpy() for pair in pairs])], axis=1)

    def replayed(self, starts: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the memory, float32 [N, M], before each impression of whole histories from rows `starts` [U]."""
        values = self.values(states, actions)
        decay, source = _columns(self.width)
        means = np.empty((len(values), len(decay)), np.float32)
        running_means(values, starts, decay, source, out=means)
        return means


class Recall:
    """The memory of n users who start without a history, impression by impression (`Memory.replayed` for roll-outs)."""

    def __init__(self, memory: Memory | None, users: int) -> None:
        self._memory = memory
        self._decay, self._source = _columns(0 if memory is None else memory.width)
        self._sums, self._weight = np.zeros((users, len(self._decay))), np.zeros(len(self._decay))

    def means(self) -> np.ndarray:
        """Return the memory before the next impression, float32 [n, M]; M is 0 without a memory."""
        return (self._sums / np.maximum(self._weight, 1.0)).astype(np.float32)

    def observe(self, states: np.ndarray, actions: np.ndarray) -> None:
        """Add one impression per user: scaled states [n, S] and item embeddings [n, A]."""
        if self._memory is not None:
            self._sums = self._sums * self._decay + self._memory.values(states, actions).take(self._source, axis=1)
            self._weight = self._weight * self._decay + 1.0


def _columns(values: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the decay and the index of the value for each column."""
    return decays(HALF_LIVES, values), np.tile(np.arange(values), len(HALF_LIVES))
