"""Q, less what it costs to show more of the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.networks.critic import Critic

#: In requests: of the running mean of what was shown that an item is compared with.
HALF_LIFE = 32.0


@dataclass(frozen=True)
class Tired:
    """Q(s, a) - weight * a . m(s): m(s) [A] is the running mean of the embeddings of what the user was shown.

    `columns` [A] of a scaled state, times `std` plus `mean` [A], are m(s).
    """

    critic: Critic
    weight: float
    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    standardised: ClassVar[bool] = True

    @classmethod
    def of(cls, critic: Critic, weight: float, state: StateDefinition, normaliser: Normaliser) -> Tired:
        """Compares with the running mean of the half-life that is nearest to `HALF_LIFE`."""
        columns = shown_columns(state)
        mean, std = (np.asarray(part, np.float32)[columns] for part in (normaliser.mean, normaliser.std))
        return cls(critic, weight, columns, mean, std)

    def scores(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 [n, k] of k actions for each state: float32 [n, S] and [n, k, A]."""
        shown = states[:, self.columns] * self.std + self.mean
        return self.critic.scores(states, candidates) - np.float32(self.weight) * likeness(candidates, shown)


def likeness(actions: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Inner products [n, k] of k actions [n, k, A] with what was shown [n, A]."""
    return (np.ascontiguousarray(actions) @ shown[:, :, None])[..., 0]


def shown_columns(state: StateDefinition) -> np.ndarray:
    """Columns int64 [A] of the running mean of item embeddings whose half-life is nearest to `HALF_LIFE`."""
    nearest = np.abs(np.log(np.maximum(state.item_half_lives, 1e-3)) - np.log(HALF_LIFE)).argmin()
    start = state.groups["items"].start + int(nearest) * state.action_dim
    return np.arange(start, start + state.action_dim)
