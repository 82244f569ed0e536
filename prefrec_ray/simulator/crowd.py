"""State of simulated users, who advance in lock-step: each step shows one item to each user.

Satisfaction and watch time follow RecSim's long-term-satisfaction environment (Ie et al. 2019, "RecSim: A Configurable
Simulation Platform for Recommender Systems", section 5). Sessions and gaps between them are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefrec_ray.simulator.law import Response
from prefrec_ray.simulator.rules import Rules

if TYPE_CHECKING:
    from prefrec_ray.simulator.world import Traits, World

FEEDBACK = ("click", "like", "watch_ratio", "follow", "share", "comment")
VIDEO_SECONDS = 30.0  # the time watched at a watch ratio of 1
MAX_WATCH_RATIO = 3.0
MAX_WATCH_SECONDS = 1200.0
LONGEST = np.float32(
    22.0
)  # logarithm of the longest gap in seconds, about a hundred years, so that times do not overflow
SESSION_TIMEOUT_MS = 30 * 60 * 1000  # pauses in a session are shorter, gaps between sessions longer

# Log-odds of binary feedback: a constant, and the weights of satisfaction, clickbait and generosity.
ODDS = {
    "click": (-1.5, 0.5, 3.0, 0.0),
    "like": (-3.0, 4.0, 0.0, 1.0),
    "follow": (-5.0, 3.5, 0.0, 1.0),
    "share": (-4.0, 2.0, 1.0, 1.0),
    "comment": (-3.5, 2.5, 0.0, 1.0),
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), with the precision of `x`."""
    return 1.0 / (1.0 + np.exp(-x))


class Crowd:
    """State of n users. `time_ms` int64 [n] is the time of the next impression of each user.

    Users with `gone` (bool [n]) have left for good. Their later impressions have no effect and are not logged.
    """

    def __init__(self, world: World, traits: Traits, rng: np.random.Generator) -> None:
        self.world, self.traits, self.rng = world, traits, rng
        self.rules = Rules(world, traits)
        self.features, self.requests = traits.features, traits.requests
        self.exposure = traits.exposure.copy()
        self.time_ms = traits.start_ms.copy()
        self.gone = np.zeros(len(self.time_ms), dtype=bool)

    @property
    def satisfaction(self) -> np.ndarray:
        """Return the hidden satisfaction, float32 [n] in (0, 1)."""
        return sigmoid(self.traits.sensitivity * self.exposure)

    def excluded(self) -> np.ndarray | None:
        """Return the items excluded from the next impression, bool [n, items], read-only; None if none is excluded."""
        return self.rules.excluded(self.time_ms)

    def show(self, rows: np.ndarray) -> Response:
        """Show each user the item in row `rows` (int64 [n]) of the table, and advance to the next impression."""
        law, count, clickbait = self.world.settings.world, len(rows), self.rules.clickbait(rows)
        uniform = self.rng.random((len(ODDS) + 1, count), dtype=np.float32)
        watch_noise, innovation, gap_noise = self.rng.standard_normal((3, count), dtype=np.float32)

        before = self.satisfaction
        location = law.watch_nutritious + (law.watch_clickbait - law.watch_nutritious) * clickbait
        seconds = np.minimum(np.exp(location * before + law.watch_noise * watch_noise), MAX_WATCH_SECONDS)
        feedback = np.empty((count, len(FEEDBACK)), np.float32)
        feedback[:, FEEDBACK.index("watch_ratio")] = np.minimum(seconds / VIDEO_SECONDS, MAX_WATCH_RATIO)
        for row, (name, (constant, satisfied, bait, generous)) in enumerate(ODDS.items()):
            odds = constant + satisfied * before + bait * clickbait + generous * self.traits.generosity
            feedback[:, FEEDBACK.index(name)] = uniform[row] < sigmoid(odds)

        self.exposure = law.memory_discount * self.exposure - 2.0 * (clickbait - 0.5) + law.innovation * innovation
        if law.tiring:
            self.exposure = self.exposure - law.tiring * self.rules.likeness(rows)
        self.rules.shown(rows)
        after = self.satisfaction
        clicked = feedback[:, FEEDBACK.index("click")]
        stay = law.stay_base + self.traits.patience + law.stay_click * clicked + law.stay_satisfaction * after
        leaves = uniform[-1] >= sigmoid(stay)
        if law.leaving:
            self.gone = self.gone | (leaves & (self.rng.random(count) < law.leaving * (1.0 - after) ** 2))
        log_away = self.traits.log_gap - law.gap_satisfaction * (after - 0.5) + law.gap_noise * gap_noise
        away = np.exp(np.minimum(log_away, LONGEST))
        # One second to swipe, or one second more than the session timeout.
        gap_ms = np.where(leaves, SESSION_TIMEOUT_MS + 1000.0 * (1.0 + away), 1000.0 * (1.0 + seconds))
        self.time_ms = self.time_ms + gap_ms.astype(np.int64)
        return Response(feedback, after, leaves)
