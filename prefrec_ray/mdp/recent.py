"""What a user was just shown: the running mean of item embeddings that is a part of every state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.columns import closest
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition

#: In requests: of the running mean that an item is compared with.
HALF_LIFE = 32.0


@dataclass(frozen=True)
class RecentItems:
    """`columns` [A] of a scaled state, times `std` plus `mean` [A], are the mean embedding of what was just shown."""

    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, state: StateDefinition, normaliser: Normaliser, items: ItemTable) -> RecentItems | None:
        """The running mean of the half-life nearest to `HALF_LIFE`; None where states have no such mean.

        Divided by the mean squared length of an item, so that the same item shown for hours has a likeness of about 1,
        whatever the embeddings' units, and items drawn at random one of about 0.
        """
        length = float(np.square(items.embeddings, dtype=np.float64).sum(axis=1).mean())
        if not state.item_half_lives or length == 0:
            return None
        start = state.groups["items"].start + closest(state.item_half_lives, HALF_LIFE) * state.action_dim
        columns = np.arange(start, start + state.action_dim)
        mean, std = (np.asarray(part, np.float64)[columns] / length for part in (normaliser.mean, normaliser.std))
        return cls(columns, mean.astype(np.float32), std.astype(np.float32))

    def likeness(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 [n, k] of k items by embeddings [n, k, A], or the same for all, [k, A], to scaled states [n, S]."""
        shown = states[:, self.columns] * self.std + self.mean
        if candidates.ndim == 2:
            return shown @ candidates.T
        return (np.ascontiguousarray(candidates) @ shown[:, :, None])[..., 0]
