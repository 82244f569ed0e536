"""Users who depart after a streak of misses.

A user is of one of four hidden types z. Item i belongs to one of 30 groups g, and is a hit with the probability
p_zg: a click. After three misses in a row the session ends, and it is the user's last with probability 0.03. With
every item

    trust <- 0.9 trust + 0.1 hit,    satisfaction = sigmoid(6 (trust - 0.5)).

Source: O. Ben-Porat et al. (2022), "Modeling Attrition in Recommender Systems with Departing Bandits". A policy has
to find the type of a user, and to show a safe item after a miss. Half of the groups are safe for all types (p =
0.6); the others have p = 0.95 for one type and 0.2 for the other three. Embeddings lie near a point of the group.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

TYPES, GROUPS, STREAK = 4, 30, 3
CERTAIN = 50.0  # log-odds of a sure event


class Departing(LawPlatform):
    """Items of 30 groups, some safe and some for one type of users. State: trust, and the number of misses in a row."""

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.group = rng.integers(0, GROUPS, count)
        points = rng.uniform(-0.9, 0.9, (GROUPS, 8))
        self.embeddings = np.clip(points[self.group] + 0.1 * rng.standard_normal((count, 8)), -1.0, 1.0)
        self.chance = np.full((TYPES, GROUPS), 0.6)
        for group in range(GROUPS // 2):
            self.chance[:, group] = 0.2
            self.chance[group % TYPES, group] = 0.95
        self.appeal = rng.standard_normal(GROUPS)[self.group]

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"type": rng.integers(0, TYPES, count)}

    def begin(self, crowd: Users) -> None:
        crowd.trust = np.full(len(crowd.everyone), 0.5)
        crowd.misses = np.zeros(len(crowd.everyone), dtype=np.int64)

    def chances(self, crowd: Users) -> np.ndarray:
        """Return the probability of a hit by group, [n, groups]."""
        return self.chance[crowd.traits["type"]]

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        uniform = crowd.rng.random((2, len(rows)))
        hit = uniform[0] < self.chances(crowd)[crowd.everyone, self.group[rows]]
        crowd.misses = np.where(hit, 0, crowd.misses + 1)
        crowd.trust = 0.9 * crowd.trust + 0.1 * hit
        over = crowd.misses == STREAK
        crowd.misses[over] = 0
        crowd.gone = crowd.gone | (over & (uniform[1] < 0.03))
        satisfaction = sigmoid(6.0 * (crowd.trust - 0.5))
        stay = np.where(over, -CERTAIN, -0.2 + 3.4 * satisfaction)
        return Reaction(
            satisfaction, np.where(hit, CERTAIN, -CERTAIN), like=-3.0 + 1.5 * hit, watch=-1 + hit, stay=stay
        )

    def cost(self, crowd: Users) -> np.ndarray:
        return -self.chances(crowd)[:, self.group]
