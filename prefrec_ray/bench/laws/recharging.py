"""Categories that recharge with the hours since they were shown.

Item i has one of 40 categories c of value v_c in [0, 1] and recharge time r_c of 2 to 100 hours. t is the number of
hours since the user saw the category (infinite: never). With the shown item

    mood <- 0.9 mood + 2 v_c (1 - exp(-t / r_c)) - 1,    satisfaction = sigmoid(0.4 mood).

Source: R. Kleinberg and N. Immorlica (2018), "Recharging Bandits". A policy has to rotate between good categories,
each at its own pace: the clock counts, not the number of impressions between, so that within one session no
category comes twice. Items have one category and no embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.mdp.excluded import HOUR_MS
from prefrec_ray.simulator.catalogue import sigmoid

CATEGORIES = 40


class Recharging(LawPlatform):
    """Items of 40 categories, some of which are shown often. State: mood, and the time in ms at which each category was
    shown (-inf: never).
    """

    strength = (0.0, 3.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.category = rng.integers(0, CATEGORIES, count)
        self.kinds = {"category": self.category}
        self.value = rng.permutation(np.linspace(0.0, 1.0, CATEGORIES))
        self.recharge = np.exp(rng.uniform(np.log(2.0), np.log(100.0), CATEGORIES))
        self.appeal = rng.standard_normal(CATEGORIES)[self.category]

    def begin(self, crowd: Users) -> None:
        crowd.shown_ms = np.full((len(crowd.everyone), CATEGORIES), -np.inf)

    def payoffs(self, crowd: Users) -> np.ndarray:
        """Return the payoff of each category at the next impression, [n, categories]."""
        hours = (crowd.time_ms[:, None] - crowd.shown_ms) / HOUR_MS
        return self.value * (1.0 - np.exp(-hours / self.recharge))

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        category = self.category[rows]
        payoff = self.payoffs(crowd)[crowd.everyone, category]
        crowd.shown_ms[crowd.everyone, category] = crowd.time_ms
        crowd.mood = 0.9 * crowd.mood + 2.0 * payoff - 1.0
        satisfaction = sigmoid(0.4 * crowd.mood)
        click = -1.0 + self.appeal[rows]
        return Reaction(satisfaction, click=click, like=-2.0 + 2.0 * payoff, watch=-0.5 + 0.3 * payoff)

    def cost(self, crowd: Users) -> np.ndarray:
        return -self.payoffs(crowd)[:, self.category]
