"""Wear-in and wear-out of brands.

Item i is of one of 60 brands b with worth w_b in [-1, 1]. n_b is a discounted count of the brand's items, n <- 0.97
n at every impression, plus 1 for the shown brand. With the shown item

    mood <- 0.93 mood + w_b (1 - exp(-n_b)) - (n_b / 6)^2,    satisfaction = sigmoid(0.4 mood).

Sources: D. E. Berlyne (1970), "Novelty, Complexity, and Hedonic Value" (two factors); C. Pechmann and D. W. Stewart
(1988), "Advertising Repetition: A Critical Review of Wearin and Wearout". A policy has to repeat good brands until
they work, and to rest them before they wear out. Items have one category, the brand, and no embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

BRANDS = 60


class Wearout(LawPlatform):
    """Items of 60 brands, some of which are shown often. State: mood, and discounted exposures to each brand."""

    strength = (-1.0, 2.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.brand = rng.integers(0, BRANDS, count)
        self.kinds = {"brand": self.brand}
        self.worth = rng.permutation(np.linspace(-1.0, 1.0, BRANDS))
        self.appeal = rng.standard_normal(BRANDS)[self.brand]

    def begin(self, crowd: Users) -> None:
        crowd.exposures = np.zeros((len(crowd.everyone), BRANDS))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        brand = self.brand[rows]
        crowd.exposures *= 0.97
        crowd.exposures[crowd.everyone, brand] += 1
        count, worth = crowd.exposures[crowd.everyone, brand], self.worth[brand]
        effect = worth * (1 - np.exp(-count)) - (count / 6) ** 2
        crowd.mood = 0.93 * crowd.mood + effect
        satisfaction = sigmoid(0.4 * crowd.mood)
        return Reaction(satisfaction, click=-1.0 + effect, like=-2.5 + 3.0 * satisfaction, watch=-0.3 + 0.3 * effect)

    def cost(self, crowd: Users) -> np.ndarray:
        count = 0.97 * crowd.exposures + 1
        # Tedium counts more than once, because it also lowers the effect of later items of the brand.
        effect = self.worth * (1 - np.exp(-count)) - 2.0 * (count / 6) ** 2
        return -effect[:, self.brand]
