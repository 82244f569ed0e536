"""Loyalty to creators.

Item i is by one of 300 creators b(i) and is shown to a user at most once. Creator b has the lasting value w_b, a
standard normal number. At the k-th item of the creator that a user sees,

    mood <- 0.97 mood + w_b min(k, 5) / 5,    satisfaction = sigmoid(0.2 mood).

Clicks and watch time depend on a bait of the item that is independent of w.

Sources: R. B. Zajonc (1968), "Attitudinal Effects of Mere Exposure"; D. Horton and R. R. Wohl (1956), "Mass
Communication and Para-Social Interaction". A policy has to learn the values of creators from return times only, and
to return to a good creator although the first items help little. Embeddings lie near a point of the creator;
neighbouring creators have independent values.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

CREATORS, FULL = 300, 5


class Creators(LawPlatform):
    """Items of 300 creators in clusters of embeddings, no repeats. State: mood, and exposures to each creator."""

    no_repeats = True
    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.creator = rng.permutation(np.arange(count) % CREATORS)
        self.kinds = {"creator": self.creator}
        self.value, reach = rng.standard_normal((2, CREATORS))
        self.bait = rng.standard_normal(count)
        points = rng.uniform(-0.9, 0.9, (CREATORS, 8))
        self.embeddings = np.clip(points[self.creator] + 0.08 * rng.standard_normal((count, 8)), -1.0, 1.0)
        self.appeal = reach[self.creator] + 0.5 * self.bait

    def begin(self, crowd: Users) -> None:
        crowd.exposures = np.zeros((len(crowd.everyone), CREATORS))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        creator = self.creator[rows]
        crowd.exposures[crowd.everyone, creator] += 1
        share = np.minimum(crowd.exposures[crowd.everyone, creator], FULL) / FULL
        crowd.mood = 0.97 * crowd.mood + self.value[creator] * share
        satisfaction = sigmoid(0.2 * crowd.mood)
        bait = self.bait[rows]
        return Reaction(satisfaction, click=-1.0 + bait, like=-2.5 + 2.0 * satisfaction, watch=-0.5 + 0.3 * bait)

    def cost(self, crowd: Users) -> np.ndarray:
        # A first item of a good creator counts half of the later ones, because it is a step towards them.
        share = 0.5 + 0.5 * np.minimum(crowd.exposures + 1, FULL) / FULL
        return -(self.value * share)[:, self.creator]
