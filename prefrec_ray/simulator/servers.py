"""Servers choose the items: a policy, the logging policy, and controls that know the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.world import World

BEST_ITEMS = 10  # among which a control that knows the truth chooses


class Server(Protocol):
    """Serves one crowd of n users, from its first request on."""

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        """Rows of the item table, int64 [n], for requests at `time_ms` (int64 [n])."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Takes the feedback on the served items, float32 [n, FEEDBACK]."""


class ServedPolicy(Protocol):
    """A policy that can be rolled out, such as `prefrec_ray.policy.Policy`."""

    @property
    def items(self) -> ItemTable:
        """The items; their ids are rows of the world's table."""

    def recommend(self, states: np.ndarray, k: int, exclude: Any = None, seed: int | None = None) -> np.ndarray:
        """Item ids [n, k] for states float32 [n, S]; `exclude`, bool [n, I], are items that may not be shown."""

    def tracker(self, user_features: Any) -> StateTracker:
        """A tracker of the policy's states for n users without history."""


class PolicyServer:
    """Serves a policy, which sees only what a log holds. `features`: the known strings of each user."""

    def __init__(self, policy: ServedPolicy, features: Mapping[str, np.ndarray], rng: np.random.Generator) -> None:
        self.policy, self.tracker, self.rng = policy, policy.tracker(features), rng

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        seed = int(self.rng.integers(2**32))
        return self.policy.recommend(self.tracker.states(time_ms), 1, None, seed)[:, 0]

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        self.tracker.observe(time_ms, rows, dict(zip(FEEDBACK, feedback.T, strict=True)))


class _IgnoresFeedback:
    """A server that does not depend on feedback."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Does nothing."""


class LoggingPolicy(_IgnoresFeedback):
    """Serves the item of a random slate with the largest strength * clickbait + Gumbel noise.

    It knows the `taste` [n] of each user.
    """

    def __init__(self, world: World, taste: np.ndarray, rng: np.random.Generator) -> None:
        self.world, self.taste, self.rng = world, taste, rng
        self.strength = np.empty(len(taste), np.float32)
        self.remaining = np.zeros(len(taste), np.int64)

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        law = self.world.settings.world
        self._change_regimes()
        shape = (len(time_ms), law.slate)
        slate = self.rng.integers(0, self.world.settings.items, shape, dtype=np.int32)
        # -log of a standard exponential is standard Gumbel: the largest sum is the smallest of these products.
        noise = self.rng.standard_exponential(shape, dtype=np.float32)
        degree = self.world.clickbait[self.taste[:, None], slate]
        best = np.argmin(noise * np.exp(-self.strength[:, None] * degree), axis=1)
        return slate[np.arange(len(best)), best].astype(np.int64)

    def _change_regimes(self) -> None:
        settings = self.world.settings
        ended = np.flatnonzero(self.remaining == 0)
        if len(ended):
            self.strength[ended] = self.rng.uniform(*settings.world.strength, len(ended))
            low, high = settings.world.regime_requests
            self.remaining[ended] = self.rng.integers(low, high + 1, len(ended)) if settings.regimes else -1
        self.remaining -= 1


class OneOf(_IgnoresFeedback):
    """Serves each user a random one of the items `rows`: [k] for all users, or [n, k]."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng = rows, rng

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        drawn = self.rng.integers(0, self.rows.shape[-1], len(time_ms))
        return self.rows[drawn] if self.rows.ndim == 1 else self.rows[np.arange(len(drawn)), drawn]


def clickbait_rows(world: World) -> np.ndarray:
    """The items with the highest clickbait degrees for each taste, [tastes, BEST_ITEMS]."""
    return np.argsort(-world.clickbait, axis=1, kind="stable")[:, :BEST_ITEMS]


def nutrition_rows(world: World) -> np.ndarray:
    """The items with the lowest degrees for each taste, [tastes, BEST_ITEMS]: the best in the long run."""
    return np.argsort(world.clickbait, axis=1, kind="stable")[:, :BEST_ITEMS]
