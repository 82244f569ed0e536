"""Inputs of the networks in a model of users: impression, user and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.evaluation.users.histories import Histories
from prefrec_ray.evaluation.users.traits import Tastes
from prefrec_ray.mdp.state import StateDefinition

#: Scale of inner products between embeddings, which are several times larger than the numbers of a state.
_PRODUCT_SCALE = 0.35
#: State groups with earlier session lengths and revisit times. Random intercepts contain them already, and they would
#: let good sessions of a roll-out reinforce themselves.
UNSEEN = ("sessions", "counts")


class UserTraits(NamedTuple):
    """Traits of n users from their whole log, more than a policy can use.

    Without tastes a model would confuse a well-informed logging policy with an uninformed one, and lose half of the
    effect of other items. Mean depth and mean revisit time are not used: they contain effects of the shown items, which
    a model would take for traits of the user. The `UNSEEN` state groups are omitted for the same reason.
    """

    intercepts: np.ndarray  # float32 [n, 2]: of the logit of a session end, and of mu
    tastes: np.ndarray  # float32 [n, F, A], in units of `NetworkInputs.taste_rms`

    def take(self, rows: np.ndarray) -> UserTraits:
        """Return the users in `rows`."""
        return UserTraits(*(column[rows] for column in self))


@dataclass(frozen=True)
class NetworkInputs:
    """Network inputs: the columns `seen` of a state, the memory, the action, and inner products.

    Inner products are between the action, the embeddings in the state (`parts` [P, A], columns) and a user's tastes.
    """

    seen: np.ndarray  # int64 [C]
    parts: np.ndarray
    tastes: Tastes
    taste_rms: np.ndarray  # float32 [F]
    memory_mean: np.ndarray  # float32 [M]
    memory_std: np.ndarray  # float32 [M]

    @classmethod
    def from_histories(cls, state: StateDefinition, data: Histories) -> NetworkInputs:
        """Create the inputs for a data set."""
        columns = {name: np.arange(group.start, group.stop) for name, group in state.groups.items()}
        seen = np.concatenate([column for name, column in columns.items() if name not in UNSEEN])
        parts = np.array(state.embedding_parts(), np.int64).reshape(-1, state.action_dim)
        tastes = Tastes.from_histories(data)
        rms = np.sqrt(np.square(tastes(data)).mean(axis=(0, 2)))
        mean, std = data.memory.mean(axis=0), np.maximum(data.memory.std(axis=0), 1e-6)
        return cls(seen, parts, tastes, np.maximum(rms, 1e-6).astype(np.float32), mean, std)

    @property
    def vectors(self) -> int:
        """Return the number of vectors with inner products between them."""
        return 1 + len(self.parts) + len(self.taste_rms)

    @property
    def width(self) -> int:
        """Return the number of inputs of the networks."""
        return len(self.seen) + len(self.memory_mean) + self.parts.shape[1] + self.products

    @property
    def products(self) -> int:
        """Return the number of inner products."""
        return self.vectors * (self.vectors - 1) // 2

    def traits(self, data: Histories) -> UserTraits:
        """Return the users of `data`, without intercepts."""
        none = np.zeros((len(data.starts), 2), np.float32)
        return UserTraits(none, self.tastes(data) / self.taste_rms[:, None])

    def logged(self, data: Histories, rows: np.ndarray, traits: UserTraits) -> Tensor:
        """Return the inputs, float32 [n, width], of the impressions `rows` [n] of `data` with the users `traits`."""
        return self(data.state[rows], data.memory[rows], data.action[rows], traits.take(data.user[rows]))

    def __call__(self, state: np.ndarray, memory: np.ndarray, action: np.ndarray, traits: UserTraits) -> Tensor:
        """Return the inputs, float32 [n, width], for scaled states [n, S], memories [n, M] and embeddings [n, A]."""
        vectors = np.concatenate([action[:, None], state[:, self.parts], traits.tastes], axis=1)
        inner = np.matmul(vectors, vectors.transpose(0, 2, 1))
        first, second = np.triu_indices(vectors.shape[1], 1)
        products = _PRODUCT_SCALE * inner[:, first, second]
        recalled = (memory - self.memory_mean) / self.memory_std
        columns = [state[:, self.seen], recalled, action, products]
        return torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32))
