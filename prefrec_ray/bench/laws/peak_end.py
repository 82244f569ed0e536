"""Memory of a session by its peak and its end.

Item i has one of 30 genres of intensity x in [-1, 1]. A user adapts to intensity, r <- 0.85 r + 0.15 x, and feels y
= x - 0.7 r, with r before this update. The memory of a session is half its largest y, and half the mean of its last
two y (one after the first item). It alone decides how soon the user is back:

    satisfaction = sigmoid(2 memory),    hours until the next session are multiplied by exp(-2.5 (memory - 0.3)).

The session continues with log-odds 1.6 - 1.2 x. Sources: D. Kahneman et al. (1993), "When More Pain Is Preferred to
Less: Adding a Better End"; H. Helson (1964), "Adaptation-Level Theory". A policy has to save intense items for the
peak and the end of a session, because steady intensity is not felt. Items have one category, the genre, and no
embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

INTENSITIES = 30


class PeakEnd(LawPlatform):
    """Items of 30 genres. State: adaptation, and of this session the largest and the last feeling (NaN: none)."""

    strength = (-2.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.genre = rng.integers(0, INTENSITIES, count)
        self.kinds = {"genre": self.genre}
        self.intensity = rng.permutation(np.linspace(-1.0, 1.0, INTENSITIES))
        self.appeal = self.intensity[self.genre] + 0.5 * rng.standard_normal(INTENSITIES)[self.genre]

    def begin(self, crowd: Users) -> None:
        crowd.adaptation = np.zeros(len(crowd.everyone))
        crowd.peak = np.full(len(crowd.everyone), np.nan)
        crowd.last = np.full(len(crowd.everyone), np.nan)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        intensity = self.intensity[self.genre[rows]]
        feeling = intensity - 0.7 * crowd.adaptation
        crowd.adaptation = 0.85 * crowd.adaptation + 0.15 * intensity
        crowd.peak = np.fmax(crowd.peak, feeling)
        memory = crowd.peak / 2 + np.where(np.isnan(crowd.last), feeling, (feeling + crowd.last) / 2) / 2
        crowd.last = feeling
        stay, away = 1.6 - 1.2 * intensity, -2.5 * (memory - 0.3)
        like = -2.0 + feeling
        return Reaction(
            sigmoid(2.0 * memory), click=-1 + intensity, like=like, watch=0.3 * feeling, stay=stay, away=away
        )

    def ends(self, crowd: Users, leaves: np.ndarray) -> None:
        crowd.peak[leaves] = crowd.last[leaves] = np.nan

    def cost(self, crowd: Users) -> np.ndarray:
        # An intense item at the start of a session, and then whenever light items have lowered the adaptation.
        ready = (crowd.position == 0) | (crowd.adaptation < -0.5)
        return np.where(ready, -1.0, 1.0)[:, None] * self.intensity[self.genre]
