"""A budget of attention per day.

Item i has a length L_i of 1 to 8 minutes and belongs to one of 40 genres of value g in [0, 1]; v_i = 0.6 g + 0.05
L_i. A user has B = 20 minutes at the first impression of a day (UTC). With every item

    B <- B - L_i,    joy <- 0.9 joy + 0.1 (v_i - [B < 0]),    satisfaction = sigmoid(8 (joy - 0.4)).

A session continues with log-odds 2 if B > 0, and 0 otherwise. Sources: E. Ie et al. (2019), "SlateQ: A Tractable
Decomposition for Reinforcement Learning with Recommendation Sets" (budgets of time); D. Kahneman (1973), "Attention
and Effort". A policy has to learn that long items are liked but use up the day: value per minute counts, and short
items at the end of a day. Items have two categories, length and genre, and no embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid
from prefrec_ray.simulator.law import DAY_MS

GENRES, LONGEST, MINUTES = 40, 8, 20


class Budget(LawPlatform):
    """Items with a length and a genre. State: joy, the day of the last impression, and the minutes left on this day."""

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.length = rng.integers(1, LONGEST + 1, count)
        genre = rng.integers(0, GENRES, count)
        self.kinds = {"length": self.length, "genre": genre}
        self.value = 0.6 * rng.permutation(np.linspace(0.0, 1.0, GENRES))[genre] + 0.05 * self.length
        self.appeal = 0.3 * self.length + 0.5 * rng.standard_normal(GENRES)[genre]

    def begin(self, crowd: Users) -> None:
        crowd.joy = np.full(len(crowd.everyone), 0.4)
        crowd.day = np.full(len(crowd.everyone), -1)
        crowd.budget = np.zeros(len(crowd.everyone))

    def left(self, crowd: Users) -> np.ndarray:
        """Return the minutes left before the next impression, [n]."""
        return np.where(crowd.time_ms // DAY_MS == crowd.day, crowd.budget, MINUTES)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        crowd.budget = self.left(crowd) - self.length[rows]
        crowd.day = crowd.time_ms // DAY_MS
        value, over = self.value[rows], crowd.budget < 0
        crowd.joy = 0.9 * crowd.joy + 0.1 * (value - over)
        satisfaction = sigmoid(8.0 * (crowd.joy - 0.4))
        watch = -1.0 + 0.2 * self.length[rows] - 0.5 * over
        stay = np.where(crowd.budget > 0, 2.0, 0.0)
        return Reaction(satisfaction, click=3.0 * value - 2.0, like=-3.0 + 4.0 * value - over, watch=watch, stay=stay)

    def cost(self, crowd: Users) -> np.ndarray:
        over = self.left(crowd)[:, None] < self.length
        return -(self.value - 0.1 * self.length) + over
