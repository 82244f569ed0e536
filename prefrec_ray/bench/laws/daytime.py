"""Tastes that follow the time of day.

Item i has the embedding e_i. At the hour h of the day (UTC) the good direction is d(h) = cos(2 pi h / 24) a + sin(2
pi h / 24) b, with two hidden directions a and b at right angles. With the shown item

    mood <- 0.9 mood + e_i . d(h),    satisfaction = sigmoid(0.25 mood).

Sources: S. A. Golder and M. W. Macy (2011), "Diurnal and Seasonal Mood Vary with Work, Sleep, and Daylength Across
Diverse Cultures"; Q. Yuan et al. (2013), "Time-aware Point-of-interest Recommendation". A policy has to learn an
interaction of item and clock: on average over the day every item is worth nothing.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.mdp.excluded import HOUR_MS
from prefrec_ray.simulator.catalogue import sigmoid


class Daytime(LawPlatform):
    """Items with embeddings, uniform in [-1, 1]^8; the appeal has a direction of its own. State: mood."""

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        axes = np.linalg.qr(rng.standard_normal((8, 3)))[0].T
        self.plane = axes[:2]
        self.appeal = self.embeddings @ (axes[2] + 0.5 * axes[0])

    def directions(self, crowd: Users) -> np.ndarray:
        """Return the good direction for each user at the time of the next impression, [n, 8]."""
        angle = 2.0 * np.pi * (crowd.time_ms / HOUR_MS % 24) / 24
        return np.cos(angle)[:, None] * self.plane[0] + np.sin(angle)[:, None] * self.plane[1]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        match = (self.embeddings[rows] * self.directions(crowd)).sum(axis=1)
        crowd.mood = 0.9 * crowd.mood + match
        satisfaction = sigmoid(0.25 * crowd.mood)
        click = -1.0 + self.appeal[rows]
        return Reaction(satisfaction, click=click, like=-2.5 + match + 2.0 * satisfaction, watch=-0.5 + 0.3 * match)

    def cost(self, crowd: Users) -> np.ndarray:
        return -(self.directions(crowd) @ self.embeddings.T)
