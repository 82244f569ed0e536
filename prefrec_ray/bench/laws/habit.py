"""Habits of return.

Item i has one of 20 formats; four are rituals, such as a briefing. The habit h in [0, 1] changes only with the
first item of a session: h <- h + 0.3 (1 - h) with a ritual, h <- 0.8 h with another item. A ritual has the joy j =
-1, another format a joy between -1 and 1. With every item

    joy <- 0.8 joy + 0.2 j,    satisfaction = (h + sigmoid(3 joy)) / 2.

Joy decides if the session continues. Hours until the next session are multiplied by exp(3 (0.4 - h)). Sources: W.
Wood and D. T. Neal (2007), "A New Look at Habits and the Habit-Goal Interface"; P. Lally et al. (2010), "How Are
Habits Formed". A policy has to open every session with a ritual, which nothing in this session rewards, and to
continue with other items. Items have one category, the format, and no embeddings.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.bench.laws.platform import LawPlatform, Reaction, Users
from prefrec_ray.simulator.catalogue import sigmoid

FORMATS, RITUALS = 20, 4


class Habit(LawPlatform):
    """Items of 20 formats. State: joy and habit."""

    strength = (0.0, 2.0)

    def draw_items(self, count: int, rng: np.random.Generator) -> None:
        self.format = rng.integers(0, FORMATS, count)
        self.kinds = {"format": self.format}
        order = rng.permutation(FORMATS)
        self.ritual = order < RITUALS
        self.joy = np.where(self.ritual, -1.0, np.linspace(-1.0, 1.0, FORMATS)[order])
        self.appeal = rng.standard_normal(FORMATS)[self.format]

    def begin(self, crowd: Users) -> None:
        crowd.joy = np.zeros(len(crowd.everyone))
        crowd.habit = np.full(len(crowd.everyone), 0.3)

    def react(self, crowd: Users, rows: np.ndarray) -> Reaction:
        kind = self.format[rows]
        changed = np.where(self.ritual[kind], crowd.habit + 0.3 * (1.0 - crowd.habit), 0.8 * crowd.habit)
        crowd.habit = np.where(crowd.position == 0, changed, crowd.habit)
        joy = self.joy[kind]
        crowd.joy = 0.8 * crowd.joy + 0.2 * joy
        pleasure = sigmoid(3.0 * crowd.joy)
        satisfaction, stay, away = (crowd.habit + pleasure) / 2, 3.0 * pleasure, 3.0 * (0.4 - crowd.habit)
        return Reaction(satisfaction, click=-0.5 + joy, like=-2.0 + joy, watch=-0.5 + 0.5 * joy, stay=stay, away=away)

    def cost(self, crowd: Users) -> np.ndarray:
        first = (crowd.position == 0)[:, None]
        return np.where(first, -1.0 * self.ritual, -self.joy)[:, self.format]
