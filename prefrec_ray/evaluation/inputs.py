"""What the networks of a model of users see of a request and of its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.evaluation.histories import Histories
from prefrec_ray.evaluation.traits import Tastes
from prefrec_ray.mdp.state import StateDefinition

#: Inner products of parts of a state with the action and with one another are some times larger than its numbers.
_PRODUCT_SCALE = 0.35
#: Groups of a state that tell how long a user's sessions and times away were before: what intercepts say already, and
#: what would make a roll-out's good sessions better ones yet.
UNSEEN = ("sessions", "counts")


class People(NamedTuple):
    """What a log says of n users from its start to its end: more than a policy knows of them.

    Without tastes a model takes a logging policy that knows its users better than states do for one that does not, and
    half of what other items would do is lost. Mean depth and mean time away would be known too, but they hold what was
    shown as well: a model that knows them takes what items did for the user's nature
    (docs/results/estimators.md). For the same reason networks do not see the `UNSEEN` parts of a state.
    """

    intercepts: np.ndarray  # float32 [n, 2]: of the logit of an end, and of mu
    tastes: np.ndarray  # float32 [n, F, A], in units of `Inputs.taste_rms`

    def take(self, rows: np.ndarray) -> People:
        """The users at `rows`."""
        return People(*(column[rows] for column in self))


@dataclass(frozen=True)
class Inputs:
    """What the networks see: the columns `seen` of a state, the memory of what was shown, the action, and all inner
    products between the action, the parts of the state that are embeddings (`parts` [P, A], columns) and a user's
    tastes."""

    seen: np.ndarray  # int64 [C]
    parts: np.ndarray
    tastes: Tastes
    taste_rms: np.ndarray  # float32 [F]
    memory_mean: np.ndarray  # float32 [M]
    memory_std: np.ndarray  # float32 [M]

    @classmethod
    def of(cls, state: StateDefinition, data: Histories) -> Inputs:
        """Those of a data set."""
        columns = {name: np.arange(group.start, group.stop) for name, group in state.groups.items()}
        seen = np.concatenate([column for name, column in columns.items() if name not in UNSEEN])
        parts = np.array(state.embedding_parts(), np.int64).reshape(-1, state.action_dim)
        tastes = Tastes.of(data)
        rms = np.sqrt(np.square(tastes(data)).mean(axis=(0, 2)))
        mean, std = data.memory.mean(axis=0), np.maximum(data.memory.std(axis=0), 1e-6)
        return cls(seen, parts, tastes, np.maximum(rms, 1e-6).astype(np.float32), mean, std)

    @property
    def vectors(self) -> int:
        """How many vectors have inner products with one another."""
        return 1 + len(self.parts) + len(self.taste_rms)

    @property
    def width(self) -> int:
        """How many numbers the networks see."""
        return len(self.seen) + len(self.memory_mean) + self.parts.shape[1] + self.products

    @property
    def products(self) -> int:
        """How many inner products there are."""
        return self.vectors * (self.vectors - 1) // 2

    def people(self, data: Histories) -> People:
        """The users of `data`, without intercepts."""
        none = np.zeros((len(data.starts), 2), np.float32)
        return People(none, self.tastes(data) / self.taste_rms[:, None])

    def logged(self, data: Histories, rows: np.ndarray, people: People) -> Tensor:
        """float32 [n, width] of the requests `rows` [n] of `data`, whose users are `people`."""
        return self(data.state[rows], data.memory[rows], data.action[rows], people.take(data.user[rows]))

    def __call__(self, state: np.ndarray, memory: np.ndarray, action: np.ndarray, people: People) -> Tensor:
        """float32 [n, width] of scaled states [n, S], memories [n, M] and the embeddings of items shown [n, A]."""
        vectors = np.concatenate([action[:, None], state[:, self.parts], people.tastes], axis=1)
        inner = np.matmul(vectors, vectors.transpose(0, 2, 1))
        first, second = np.triu_indices(vectors.shape[1], 1)
        products = _PRODUCT_SCALE * inner[:, first, second]
        recalled = (memory - self.memory_mean) / self.memory_std
        columns = [state[:, self.seen], recalled, action, products]
        return torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32))
