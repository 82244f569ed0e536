"""Variety seeking with an optimum of stimulation.

I is the running mean of the embeddings of a user's items, I <- 0.8 I + 0.2 e_i. The stimulation by an item is its
distance |e_i - I| before this update. User u has an optimum s_u in [0.5, 1.5]. With the shown item

    mood <- 0.9 mood + 1 - 3 (|e_i - I| - s_u)^2,    satisfaction = sigmoid(0.25 mood).

Sources: L. McAlister and E. Pessemier (1982), "Variety Seeking Behavior: An Interdisciplinary Review"; D. E. Berlyne
(1960), "Conflict, Arousal, and Curiosity". A policy has to find the optimum of a user, and to keep this distance from
recent items: neither similar nor random items are good.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import Platform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid


class VariedUsers(Users):
    """State: mood, and the running mean of embeddings."""

    def begin(self) -> None:
        self.mood = np.zeros(len(self.everyone))
        self.mean = np.zeros((len(self.everyone), 8))

    def react(self, rows: np.ndarray) -> Reaction:
        item = self.world.embeddings[rows]
        stimulation = np.linalg.norm(item - self.mean, axis=1)
        effect = 1.0 - 3.0 * (stimulation - self.traits["optimum"]) ** 2
        self.mood = 0.9 * self.mood + effect
        self.mean = 0.8 * self.mean + 0.2 * item
        satisfaction = sigmoid(0.25 * self.mood)
        return Reaction(
            satisfaction, click=-1.0 + self.world.appeal[rows], like=-2.0 + effect, watch=0.2 * effect - 0.5
        )

    def cost(self) -> np.ndarray:
        squares = (self.world.embeddings**2).sum(axis=1) + (self.mean**2).sum(axis=1)[:, None]
        distance = np.sqrt(np.maximum(squares - 2.0 * self.mean @ self.world.embeddings.T, 0.0))
        return (distance - self.traits["optimum"][:, None]) ** 2


class Variety(Platform):
    """Items with embeddings, uniform in [-1, 1]^8."""

    users = VariedUsers
    strength = (0.0, 5.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"optimum": rng.uniform(0.5, 1.5, count)}
