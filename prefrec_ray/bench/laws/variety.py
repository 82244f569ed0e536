"""Variety seeking with an optimum of stimulation.

I is the running mean of the embeddings of a user's items, I <- 0.8 I + 0.2 e_i. The stimulation by an item is its
distance |e_i - I| before this update. User u has an optimum s_u in [0.5, 1.5]. With the shown item

    mood <- 0.9 mood + 1 - 3 (|e_i - I| - s_u)^2,    satisfaction = sigmoid(0.25 mood).

Sources: L. McAlister and E. Pessemier (1982), "Variety Seeking Behavior: An Interdisciplinary Review"; D. E.
Berlyne (1960), "Conflict, Arousal, and Curiosity". A policy has to find the optimum of a user, and to keep this
distance from recent items: neither similar nor random items are good.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid


class Variety(LawPlatform):
    """Items with embeddings, uniform in [-1, 1]^8. State: mood, and the running mean of embeddings."""

    strength = (0.0, 5.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.embeddings = rng.uniform(-1.0, 1.0, (count, 8))
        self.appeal = self.embeddings @ rng.standard_normal(8) / 2.0

    def draw_traits(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"optimum": rng.uniform(0.5, 1.5, count)}

    def begin(self, crowd: Users) -> None:
        crowd.mean = np.zeros((len(crowd.everyone), 8))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        item = self.embeddings[rows]
        stimulation = np.linalg.norm(item - crowd.mean, axis=1)
        effect = 1.0 - 3.0 * (stimulation - crowd.traits["optimum"]) ** 2
        crowd.mood = 0.9 * crowd.mood + effect
        crowd.mean = 0.8 * crowd.mean + 0.2 * item
        satisfaction = sigmoid(0.25 * crowd.mood)
        return Reaction(satisfaction, click=-1.0 + self.appeal[rows], like=-2.0 + effect, watch=0.2 * effect - 0.5)

    def cost(self, crowd: Users) -> np.ndarray:
        squares = (self.embeddings**2).sum(axis=1) + (crowd.mean**2).sum(axis=1)[:, None]
        distance = np.sqrt(np.maximum(squares - 2.0 * crowd.mean @ self.embeddings.T, 0.0))
        return (distance - crowd.traits["optimum"][:, None]) ** 2
