"""Preferences that drift towards what is shown.

User u has a taste t, a unit vector, and item i the direction e_i, its embedding scaled to length 1. a = e_i . t is
the affinity. The supply s_i = 0.3 + 1.2 max(e_i . g, 0)^4 is good near one hidden direction g. With the shown item

    mood <- 0.9 mood + a |a| s_i,    satisfaction = sigmoid(0.25 mood),
    t <- (t + 0.15 a e_i) / |t + 0.15 a e_i|,

and a click has the log-odds 2 a - 1. Sources: R. Jiang et al. (2019), "Degenerate Feedback Loops in Recommender
Systems"; S. Dean and J. Morgenstern (2022), "Preference Dynamics Under Personalized Recommendations". A policy has
to lead tastes step by step to the good supply, through items near the present taste, instead of serving the taste.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid


class Bubble(LawPlatform):
    """Items with embeddings, uniform in [-1, 1]^8, and users with tastes in all directions. State: mood and taste."""

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.units = self.embeddings / np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        directions = rng.standard_normal((2, 8))
        self.along, self.appeal = directions / np.linalg.norm(directions, axis=1, keepdims=True) @ self.units.T
        self.supply = 0.3 + 1.2 * np.maximum(self.along, 0.0) ** 4

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        taste = rng.standard_normal((count, 8))
        return {"taste": taste / np.linalg.norm(taste, axis=1, keepdims=True)}

    def begin(self, crowd: Users) -> None:
        crowd.taste = crowd.traits["taste"].copy()

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        item = self.units[rows]
        affinity = (item * crowd.taste).sum(axis=1)
        effect = affinity * np.abs(affinity) * self.supply[rows]
        crowd.mood = 0.9 * crowd.mood + effect
        moved = crowd.taste + 0.15 * affinity[:, None] * item
        crowd.taste = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return Reaction(
            sigmoid(0.25 * crowd.mood), click=2.0 * affinity - 1.0, like=2.0 * effect - 2.0, watch=-0.5 + 0.3 * affinity
        )

    def cost(self, crowd: Users) -> np.ndarray:
        affinity = crowd.taste @ self.units.T
        # Movement towards the good supply pays at all later impressions.
        return -affinity * (np.abs(affinity) * self.supply + self.along)
