"""Regimes of the platform.

The platform is in one of three regimes z for five days at a time, a Markov chain: it stays with probability 0.4,
and otherwise changes to one of the other two. Regime z has the good direction d_z; the three are at 120 degrees to
each other in a hidden plane. With the item of embedding e_i

    mood <- 0.9 mood + e_i . d_z,    satisfaction = sigmoid(0.25 mood),

and a click has the log-odds 2 e_i . d_z - 1. Source: J. D. Hamilton (1989), "A New Approach to the Economic
Analysis of Nonstationary Time Series and the Business Cycle". A policy has to infer the regime from recent clicks
and follow it: on average over regimes every item is worth nothing.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid
from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS

REGIMES, DAYS, PERIODS = 3, 5, 2_000


class Regimes(LawPlatform):
    """Items with embeddings, uniform in [-1, 1]^8, and the regimes of all periods. State: mood."""

    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        plane = np.linalg.qr(rng.standard_normal((8, 2)))[0]
        angle = 2.0 * np.pi * np.arange(REGIMES) / REGIMES
        self.directions = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ plane.T
        steps = np.where(rng.random(PERIODS) < 0.4, 0, rng.integers(1, REGIMES, PERIODS))
        self.regime = steps.cumsum() % REGIMES
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0

    def good(self, crowd: Users) -> np.ndarray:
        """Return the good direction at the time of each user's next impression, [n, 8]."""
        period = (crowd.time_ms - EPOCH_MS) // (DAYS * DAY_MS)
        return self.directions[self.regime[np.minimum(period, PERIODS - 1)]]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        match = (self.embeddings[rows] * self.good(crowd)).sum(axis=1)
        crowd.mood = 0.9 * crowd.mood + match
        satisfaction = sigmoid(0.25 * crowd.mood)
        return Reaction(satisfaction, click=2.0 * match - 1.0, like=-2.0 + match, watch=-0.5 + 0.5 * match)

    def cost(self, crowd: Users) -> np.ndarray:
        return -(self.good(crowd) @ self.embeddings.T)
