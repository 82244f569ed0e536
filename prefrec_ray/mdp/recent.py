"""Recent items of a user: the running mean of item embeddings in the state vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.columns import closest
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition

#: Preferred half-life, in impressions, of the running mean with which an item is compared.
HALF_LIFE = 32.0


@dataclass(frozen=True)
class RecentItems:
    """Mean embedding of recent items: the `columns` [A] of a scaled state, times `std` plus `mean` [A]."""

    columns: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def find(cls, state: StateDefinition, normaliser: Normaliser, items: ItemTable) -> RecentItems | None:
        """Find the running mean with the half-life nearest to `HALF_LIFE`; None if states have no running means.

        The mean is divided by the mean squared length of an item. One item repeated for hours then has a similarity of
        about 1 in any unit of the embeddings, and random items have about 0.
        """
        length = float(np.square(items.embeddings, dtype=np.float64).sum(axis=1).mean())
        if not state.item_half_lives or length == 0:
            return None
        start = state.groups["items"].start + closest(state.item_half_lives, HALF_LIFE) * state.action_dim
        columns = np.arange(start, start + state.action_dim)
        mean, std = (np.asarray(part, np.float64)[columns] / length for part in (normaliser.mean, normaliser.std))
        return cls(columns, mean.astype(np.float32), std.astype(np.float32))

    def likeness(self, states: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return similarities [n, k] of k items, [n, k, A] or [k, A], to the recent items in scaled states [n, S]."""
        shown = states[:, self.columns] * self.std + self.mean
        if candidates.ndim == 2:
            return shown @ candidates.T
        return (np.ascontiguousarray(candidates) @ shown[:, :, None])[..., 0]
