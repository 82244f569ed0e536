"""Who picks the items: a policy, the logging policy, and servers made by hand from the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.world import World

BEST_ITEMS = 10  # that a server made by hand takes turns with


class Server(Protocol):
    """Serves one crowd of n users, from its first request on."""

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        """Rows of the item table, int64 [n], for requests at `time_ms` (int64 [n])."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Takes in what the items served led to; `feedback` is float32 [n, FEEDBACK]."""


class ServedPolicy(Protocol):
    """What a policy must be to be rolled out; `prefrec_ray.policy.Policy` is one."""

    @property
    def items(self) -> ItemTable:
        """Items whose ids are rows of the world's table."""

    @property
    def serving(self) -> str:
        """How an action becomes an item: `nearest` or `dot`."""

    def act(self, states: np.ndarray) -> np.ndarray:
        """Actions float32 [n, A] for states float32 [n, S]."""

    def tracker(self, user_features: Any) -> StateTracker:
        """A tracker of the policy's states for n users without history."""


class PolicyServer:
    """Serves a policy, which sees no more than a log would hold. `features` are the strings known of each user."""

    def __init__(self, policy: ServedPolicy, features: Mapping[str, np.ndarray]) -> None:
        self.policy, self.tracker = policy, policy.tracker(features)

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        actions = self.policy.act(self.tracker.states(time_ms))
        return self.policy.items.ids[self.policy.items.nearest(actions, 1, self.policy.serving)[:, 0]]

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        self.tracker.observe(time_ms, rows, dict(zip(FEEDBACK, feedback.T, strict=True)))


class _Blind:
    """Learns nothing from what happens."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Nothing to do."""


class ClickChaser(_Blind):
    """The logging policy: the item of a random slate with the largest strength * clickbait + Gumbel noise.

    It knows what each user clicks: `taste` [n].
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
        # -log of a standard exponential is standard Gumbel: the largest appeal + Gumbel is the smallest of these.
        noise = self.rng.standard_exponential(shape, dtype=np.float32)
        degree = self.world.clickbait[self.taste[:, None], slate]
        best = np.argmin(noise * np.exp(-self.strength[:, None] * degree), axis=1)
        return slate[np.arange(len(best)), best].astype(np.int64)

    def _change_regimes(self) -> None:
        settings = self.world.settings
        over = np.flatnonzero(self.remaining == 0)
        if len(over):
            self.strength[over] = self.rng.uniform(*settings.world.strength, len(over))
            low, high = settings.world.regime_requests
            self.remaining[over] = self.rng.integers(low, high + 1, len(over)) if settings.regimes else -1
        self.remaining -= 1


class OneOf(_Blind):
    """Serves each user one of the given items at random: `rows` [k] for everybody, or [n, k]."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng = rows, rng

    def serve(self, time_ms: np.ndarray) -> np.ndarray:
        drawn = self.rng.integers(0, self.rows.shape[-1], len(time_ms))
        return self.rows[drawn] if self.rows.ndim == 1 else self.rows[np.arange(len(drawn)), drawn]


def clickbait_rows(world: World) -> np.ndarray:
    """The items of the highest clickbait degree, for each taste [tastes, BEST_ITEMS]."""
    return np.argsort(-world.clickbait, axis=1, kind="stable")[:, :BEST_ITEMS]


def nutrition_rows(world: World) -> np.ndarray:
    """The items of the lowest degree, for each taste [tastes, BEST_ITEMS]: the best to serve in the long run."""
    return np.argsort(world.clickbait, axis=1, kind="stable")[:, :BEST_ITEMS]
