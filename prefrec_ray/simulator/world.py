"""The simulator's own law: its items, its users and its logging policy; and the choice of a user's own law."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from prefrec_ray import plugins
from prefrec_ray.errors import UserError
from prefrec_ray.simulator.catalogue import CATEGORIES, Catalogue, Traits, draw_features
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import DAY_MS, DRIFT, EPOCH_MS, TASTES, TRAITS, Cost, SimulatedWorld, by_block, generator
from prefrec_ray.simulator.servers import LoggingPolicy, clickbait, nutrition
from prefrec_ray.simulator.settings import BLOCK, EMBEDDING_DIM, SimulateSettings

ARRIVAL_DAYS = 28  # days within which users see their first item
#: Attributes of a class that is a law.
ATTRIBUTES = ("feedback", "categories", "controls", "items", "crowd", "logging_policy")


class World(Catalogue):
    """Items and users of the simulator's law; equal settings make equal worlds."""

    feedback: tuple[str, ...] = FEEDBACK
    categories: Mapping[str, tuple[str, ...]] = CATEGORIES
    controls: Mapping[str, Cost] = {"clickbait": clickbait, "nutrition": nutrition}

    def crowd(self, users: np.ndarray, rng: np.random.Generator) -> Crowd:
        """Return `users` (numbers [n], ascending) before their first impressions."""
        return Crowd(self, self.traits(users), rng)

    def logging_policy(self, crowd: Crowd, rng: np.random.Generator) -> LoggingPolicy:
        """Return the policy that writes the log of `crowd`."""
        return LoggingPolicy(crowd, rng)

    def traits(self, users: np.ndarray) -> Traits:
        """Return the traits of any `users` (numbers [n], ascending)."""
        drawn = by_block(users, self._block_traits)
        features = {name: drawn.pop(name) for name in CATEGORIES}
        return Traits(**drawn, features=features)

    def _block_traits(self, block: int) -> dict[str, np.ndarray]:
        law = self.settings.world
        rng = generator(self.settings.seed, TRAITS, block)
        mood, sensitive, patience, generosity, gap = rng.standard_normal((5, BLOCK))
        length = np.clip(0.8 + rng.exponential(0.2, BLOCK), 0.8, 2.0)
        hints = {"age": patience, "activity": -gap, "persona": generosity}
        taste = np.zeros(BLOCK, dtype=np.int64)
        if law.tastes > 1:
            # Tastes have their own stream, so that all other traits are the same for any number of tastes.
            taste = generator(self.settings.seed, TASTES, block).integers(0, law.tastes, BLOCK)
            scores = ndtri((np.arange(law.tastes) + 0.5) / law.tastes)
            hints["interest"] = (scores / scores.std())[taste]
        turn = np.zeros((BLOCK, EMBEDDING_DIM))
        if law.drift:
            start = self.directions[taste]
            turn = generator(self.settings.seed, DRIFT, block).standard_normal(turn.shape)
            turn -= (turn * start).sum(axis=1, keepdims=True) * start
            turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        return dict(
            exposure=(4.0 * mood).astype(np.float32),
            sensitivity=(self.sensitivity * np.exp(self.sensitivity_spread * sensitive)).astype(np.float32),
            patience=(0.3 * patience).astype(np.float32),
            generosity=(0.4 * generosity).astype(np.float32),
            log_gap=(np.log(3600.0 * self.gap_hours) + self.gap_spread * gap).astype(np.float32),
            start_ms=EPOCH_MS + rng.integers(0, ARRIVAL_DAYS * DAY_MS, BLOCK),
            requests=np.maximum(1, np.rint(length * self.settings.requests)).astype(np.int64),
            taste=taste,
            turn=turn,
            **draw_features(hints, rng),
        )


def load_world(settings: SimulateSettings) -> SimulatedWorld:
    """Return the world of `settings`. Raises `UserError` for a law that cannot be imported or lacks an attribute."""
    law = settings.world.law
    if law is None:
        return World(settings)
    make = plugins.load("worlds", law, "simulate.world")
    missing = [name for name in ATTRIBUTES if not hasattr(make, name)]
    if missing:
        raise UserError(f"simulate.world: found '{law}' without '{missing[0]}'; expected module:Class of a law")
    world: SimulatedWorld = make(settings)
    return world
