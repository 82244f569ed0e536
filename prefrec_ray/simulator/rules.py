"""Rules of a world: exclusion of items, fatigue and drift of tastes.

- No repeats: an item is shown to a user at most once.
- Fatigue (`tiring`): an item lowers exposure by `tiring` times its similarity to recent items: the mean cosine between
  its embedding and the embeddings of earlier impressions, with a half-life of `tiring_half_life` impressions. The
  similarity is 1 if one item is repeated for hours, and 0 on average for random items. The ten best items of a user
  have 0.7, good items that differ from each other 0.2.
- Drift: the clickbait direction of a user turns at constant speed on a great circle.
- Items that come and go: an item can only be shown while it is available.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefrec_ray.simulator.settings import EMBEDDING_DIM

if TYPE_CHECKING:
    from prefrec_ray.simulator.world import Traits, World


class Rules:
    """State of the rules for n users. Call `shown` after each impression."""

    def __init__(self, world: World, traits: Traits) -> None:
        law, users = world.settings.world, len(traits.taste)
        self._world, self._law, self._traits = world, law, traits
        self._requests = 0
        self._seen = np.zeros((users, len(world.embeddings)), dtype=bool) if law.no_repeats else None
        self._mean = np.zeros((users, EMBEDDING_DIM), dtype=np.float32)

    def excluded(self, time_ms: np.ndarray) -> np.ndarray | None:
        """Return the items excluded at `time_ms` [n], bool [n, items], read-only; None if none is excluded."""
        if not self._law.new_items:
            return self._seen
        first = self._world.first_available(time_ms)[:, None]
        row = np.arange(len(self._world.embeddings))
        away = (row < first) | (row >= first + self._world.settings.available)
        return away if self._seen is None else away | self._seen

    def clickbait(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return clickbait degrees per user, float32: of the items `rows` ([n] or [n, k]), or of all, [n, items]."""
        taste = self._traits.taste
        if not self._law.drift:
            if rows is None:
                return self._world.clickbait[taste]
            return self._world.clickbait[taste.reshape(-1, *[1] * (rows.ndim - 1)), rows]
        direction, embeddings = self.directions().astype(np.float32), self._world.embeddings
        along = direction @ embeddings.T if rows is None else np.einsum("n...a,na->n...", embeddings[rows], direction)
        # In place: for all items of many users, fresh memory would cost more than the sums.
        along *= np.float32(-self._law.clickbait_slope)
        np.exp(along, out=along)
        along += 1.0
        return np.reciprocal(along, out=along)

    def directions(self) -> np.ndarray:
        """Return the current direction of clickbait for each user, unit vectors float64 [n, 8]."""
        angle = self._law.drift * self._requests / 100.0
        return np.cos(angle) * self._world.directions[self._traits.taste] + np.sin(angle) * self._traits.turn

    def likeness(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the similarity in [-1, 1] of items to the recent items of each user.

        The items are `rows` [n], one per user, or all items, [n, items].
        """
        if rows is None:
            return self._mean @ self._world.units.T
        return np.einsum("na,na->n", self._world.units[rows], self._mean)

    def shown(self, rows: np.ndarray) -> None:
        """Register an impression of the item in `rows` [n] for each user."""
        self._requests += 1
        if self._seen is not None:
            self._seen[np.arange(len(rows)), rows] = True
        if self._law.tiring:
            decay = np.float32(0.5 ** (1.0 / self._law.tiring_half_life))
            self._mean = decay * self._mean + (1 - decay) * self._world.units[rows]
