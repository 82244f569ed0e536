"""Popularity that spreads between users.

P_i is the popularity of item i among the users who are simulated together: at every step P <- 0.97 P, plus the
share of these users who like the item. q_i is its quality, a standard normal number. With the shown item

    x = 0.4 q_i + 0.5 log(1 + 40 P_i) - 4 [i among the user's last 20 items],    mood <- 0.9 mood + x - 1,
    satisfaction = sigmoid(0.25 mood),

and a like has the log-odds x - 1. Source: M. J. Salganik, P. S. Dodds and D. J. Watts (2006), "Experimental Study
of Inequality and Unpredictability in an Artificial Cultural Market". A policy has to show all users the same
rotating set of hits: their value comes from other users, and the log of one user does not contain it.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

WINDOW = 20


class Contagion(LawPlatform):
    """Items with embeddings, uniform in [-1, 1]^8. State: mood and the last 20 items (-1: none) of each user, and the
    popularity of items.
    """

    strength = (0.0, 4.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.quality = rng.standard_normal(count)
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0 + 0.5 * rng.standard_normal(count)

    def begin(self, crowd: Users) -> None:
        crowd.recent = np.full((len(crowd.everyone), WINDOW), -1)
        crowd.popularity = np.zeros(self.settings.items)

    def worth(self, crowd: Users) -> np.ndarray:
        """Return the quality of each item plus the effect of its popularity, [items]."""
        return 0.4 * self.quality + 0.5 * np.log1p(40.0 * crowd.popularity)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        effect = self.worth(crowd)[rows] - 4.0 * (crowd.recent == rows[:, None]).any(axis=1)
        crowd.mood = 0.9 * crowd.mood + effect - 1.0
        crowd.recent = np.concatenate([crowd.recent[:, 1:], rows[:, None]], axis=1)
        likes = crowd.rng.random(len(rows)) < sigmoid(effect - 1.0)
        crowd.popularity *= 0.97
        np.add.at(crowd.popularity, rows[likes], 1.0 / len(rows))
        like = np.where(likes, 50.0, -50.0)
        return Reaction(sigmoid(0.25 * crowd.mood), click=-1.0 + self.appeal[rows], like=like, watch=-0.5)

    def cost(self, crowd: Users) -> np.ndarray:
        cost = np.tile(-self.worth(crowd), (len(crowd.everyone), 1))
        user, place = np.nonzero(crowd.recent >= 0)
        cost[user, crowd.recent[user, place]] += 10.0
        return cost
