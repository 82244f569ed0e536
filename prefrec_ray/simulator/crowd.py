"""State of simulated users, who advance in lock-step: each step shows one item to each user.

Satisfaction and watch time follow RecSim's long-term-satisfaction environment (Ie et al. 2019, "RecSim: A Configurable
Simulation Platform for Recommender Systems", section 5). Sessions and gaps between them are added.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.simulator.catalogue import Catalogue, Traits, sigmoid
from prefrec_ray.simulator.law import Response
from prefrec_ray.simulator.settings import EMBEDDING_DIM

FEEDBACK = ("click", "like", "watch_ratio", "follow", "share", "comment")
VIDEO_SECONDS = 30.0  # the time watched at a watch ratio of 1
MAX_WATCH_RATIO = 3.0
MAX_WATCH_SECONDS = 1200.0
SESSION_TIMEOUT_MS = 30 * 60 * 1000  # pauses in a session are shorter, gaps between sessions longer

# Log-odds of binary feedback: a constant, and the weights of satisfaction, clickbait and generosity.
ODDS = {
    "click": (-1.5, 0.5, 3.0, 0.0),
    "like": (-3.0, 4.0, 0.0, 1.0),
    "follow": (-5.0, 3.5, 0.0, 1.0),
    "share": (-4.0, 2.0, 1.0, 1.0),
    "comment": (-3.5, 2.5, 0.0, 1.0),
}


class Crowd:
    """State of n users. `time_ms` int64 [n] is the time of the next impression of each user.

    Users with `gone` (bool [n]) have left for good. Their later impressions have no effect and are not logged. Rules:

    - No repeats: an item is shown to a user at most once.
    - Fatigue (`tiring`): an item lowers exposure by `tiring` times its similarity to recent items. This is the mean
      cosine between its embedding and the embeddings of earlier impressions, with a half-life of `tiring_half_life`
      impressions. The similarity is 1 if one item is repeated for hours, and 0 on average for random items. The ten
      best items of a user have 0.7, good items that differ from each other 0.2.
    - Drift: the clickbait direction of a user turns at constant speed on a great circle.
    - Items that come and go: an item can only be shown while it is available.
    """

    def __init__(self, world: Catalogue, traits: Traits, rng: np.random.Generator) -> None:
        users = len(traits.taste)
        self.world, self.law, self.traits, self.rng = world, world.settings.world, traits, rng
        self.features, self.requests = traits.features, traits.requests
        self.exposure = traits.exposure.copy()
        self.time_ms = traits.start_ms.copy()
        self.gone = np.zeros(users, dtype=bool)
        self._shown = 0  # impressions of each user
        self._seen = np.zeros((users, len(world.embeddings)), dtype=bool) if self.law.no_repeats else None
        self._mean = np.zeros((users, EMBEDDING_DIM), dtype=np.float32)

    @property
    def satisfaction(self) -> np.ndarray:
        """Return the hidden satisfaction, float32 [n] in (0, 1)."""
        return sigmoid(self.traits.sensitivity * self.exposure)

    def excluded(self) -> np.ndarray | None:
        """Return the items excluded from the next impression, bool [n, items], read-only; None if none is excluded."""
        if not self.law.new_items:
            return self._seen
        first = self.world.first_available(self.time_ms)[:, None]
        row = np.arange(len(self.world.embeddings))
        away = (row < first) | (row >= first + self.world.settings.available)
        return away if self._seen is None else away | self._seen

    def clickbait(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return clickbait degrees per user, float32: of the items `rows` ([n] or [n, k]), or of all, [n, items]."""
        taste = self.traits.taste
        if not self.law.drift:
            if rows is None:
                return self.world.clickbait[taste]
            return self.world.clickbait[taste.reshape(-1, *[1] * (rows.ndim - 1)), rows]
        direction, embeddings = self.directions().astype(np.float32), self.world.embeddings
        along = direction @ embeddings.T if rows is None else np.einsum("n...a,na->n...", embeddings[rows], direction)
        # In place: for all items of many users, fresh memory would cost more than the sums.
        along *= np.float32(-self.world.clickbait_slope)
        np.exp(along, out=along)
        along += 1.0
        return np.reciprocal(along, out=along)

    def directions(self) -> np.ndarray:
        """Return the current direction of clickbait for each user, unit vectors float64 [n, 8]."""
        angle = self.law.drift * self._shown / 100.0
        return np.cos(angle) * self.world.directions[self.traits.taste] + np.sin(angle) * self.traits.turn

    def likeness(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the similarity in [-1, 1] of items to the recent items of each user.

        The items are `rows` [n], one per user, or all items, [n, items].
        """
        if rows is None:
            return self._mean @ self.world.units.T
        return np.einsum("na,na->n", self.world.units[rows], self._mean)

    def offer(self, users: np.ndarray, rows: np.ndarray) -> None:
        """Exclude the items `rows` [m, k] of a page from later pages of the `users` [m], if no item is repeated."""
        if self._seen is not None:
            self._seen[users[:, None], rows] = True

    def show(self, rows: np.ndarray) -> Response:
        """Show each user the item in row `rows` (int64 [n]) of the table, and advance to the next impression."""
        law, world, count, clickbait = self.law, self.world, len(rows), self.clickbait(rows)
        uniform = self.rng.random((len(ODDS) + 1, count), dtype=np.float32)
        watch_noise, innovation, gap_noise = self.rng.standard_normal((3, count), dtype=np.float32)

        before = self.satisfaction
        location = world.watch_nutritious + (world.watch_clickbait - world.watch_nutritious) * clickbait
        seconds = np.minimum(np.exp(location * before + world.watch_noise * watch_noise), MAX_WATCH_SECONDS)
        feedback = np.empty((count, len(FEEDBACK)), np.float32)
        feedback[:, FEEDBACK.index("watch_ratio")] = np.minimum(seconds / VIDEO_SECONDS, MAX_WATCH_RATIO)
        for row, (name, (constant, satisfied, bait, generous)) in enumerate(ODDS.items()):
            odds = constant + satisfied * before + bait * clickbait + generous * self.traits.generosity
            feedback[:, FEEDBACK.index(name)] = uniform[row] < sigmoid(odds)

        self.exposure = world.memory_discount * self.exposure - 2.0 * (clickbait - 0.5) + world.innovation * innovation
        if law.tiring:
            self.exposure = self.exposure - law.tiring * self.likeness(rows)
            decay = np.float32(0.5 ** (1.0 / world.tiring_half_life))
            self._mean = decay * self._mean + (1 - decay) * world.units[rows]
        self._shown += 1
        self.offer(np.arange(count), rows[:, None])
        after = self.satisfaction
        clicked = feedback[:, FEEDBACK.index("click")]
        stay = world.stay_base + self.traits.patience + world.stay_click * clicked + world.stay_satisfaction * after
        leaves = uniform[-1] >= sigmoid(stay)
        if law.leaving:
            self.gone = self.gone | (leaves & (self.rng.random(count) < law.leaving * (1.0 - after) ** 2))
        log_away = self.traits.log_gap - world.gap_satisfaction * (after - 0.5) + world.gap_noise * gap_noise
        # One second to swipe, or one second more than the session timeout.
        gap_ms = np.where(leaves, SESSION_TIMEOUT_MS + 1000.0 * (1.0 + np.exp(log_away)), 1000.0 * (1.0 + seconds))
        self.time_ms = self.time_ms + gap_ms.astype(np.int64)
        return Response(feedback, after, leaves)
