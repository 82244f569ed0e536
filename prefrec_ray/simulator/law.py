"""The protocol of a law: items and users of a simulated platform, and the reactions of users to shown items.

The simulator's own law is `world.World`. A user's own class is set by `simulate.world: module:Class`; it is
created with `SimulateSettings` in each process. Equal settings must make equal worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from prefrec_ray.simulator.settings import BLOCK, SimulateSettings

EPOCH_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
DAY_MS = 86_400_000

# Streams of random numbers. Each is a function only of (seed, stream, part).
ITEMS, TRAITS, LOGGING, ROLLOUT, TASTES, DRIFT, EXAMINATION = range(7)


def generator(seed: int, stream: int, *part: int) -> np.random.Generator:
    """Return an independent generator for each (seed, stream, part)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *part])))


def by_block(users: np.ndarray, draw: Callable[[int], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return arrays [n, ...] of `users` (numbers [n], ascending) from `draw(block)`, arrays [BLOCK, ...] by name.

    Blocks are drawn whole, so that a user does not depend on the other drawn users.
    """
    parts = [(draw(int(block)), users[users // BLOCK == block] % BLOCK) for block in np.unique(users // BLOCK)]
    return {name: np.concatenate([drawn[name][rows] for drawn, rows in parts]) for name in parts[0][0]}


#: Cost of each item for each user, float [n, items], from the hidden state of a crowd.
Cost = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Response:
    """The outcome of one impression of each of n users."""

    feedback: np.ndarray  # float32 [n, feedback columns]
    satisfaction: np.ndarray  # float32 [n], hidden, after the item
    leaves: np.ndarray  # bool [n]: the session ends here


class SimulatedCrowd(Protocol):
    """State of n users who advance in lock-step: each step shows one item to each user.

    For pages, a law that excludes shown items also has the method `offer(users, rows)`: the users in the rows `users`
    (int64 [m]) see a page of the items `rows` (int64 [m, k]), some of which they may not examine.
    """

    world: Any
    features: dict[str, np.ndarray]  # user features, strings [n], None if unknown
    requests: np.ndarray  # int64 [n], number of impressions of each user in the log
    time_ms: np.ndarray  # int64 [n], time of the next impression
    gone: np.ndarray  # bool [n]: left for good; later impressions have no effect and are not logged

    def excluded(self) -> np.ndarray | None:
        """Return the items excluded from the next impression, bool [n, items], read-only; None if none is excluded."""

    def show(self, rows: np.ndarray) -> Response:
        """Show each user the item in row `rows` (int64 [n]), and advance to the next impression."""


class Choice(NamedTuple):
    """Items that a server shows to n users."""

    rows: np.ndarray  # of the item table, int64 [n]
    propensity: np.ndarray | float  # the probability of the choice, [n] or one for all


class CrowdServer(Protocol):
    """Serves one crowd of n users, from its first impression on."""

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        """Return items for impressions at `time_ms` (int64 [n]), except for `excluded` (bool [n, items])."""

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Register the feedback on the served items, float32 [n, feedback columns]."""


class SimulatedWorld(Protocol):
    """Items and users under one law, created with the settings."""

    settings: SimulateSettings
    feedback: tuple[str, ...]  # names of the feedback columns
    categories: Mapping[str, tuple[str, ...]]  # values of each user feature
    controls: Mapping[str, Cost]  # costs by name of a control that serves one of the ten items of lowest cost

    def items(self) -> pa.Table:
        """Return the items: item_id, 0 to items - 1, then embedding; without it only columns of categories."""

    def crowd(self, users: np.ndarray, rng: np.random.Generator) -> SimulatedCrowd:
        """Return `users` (numbers int64 [n], ascending) before their first impressions; their noise is from `rng`.

        The traits of a user do not depend on the other users.
        """

    def logging_policy(self, crowd: Any, rng: np.random.Generator) -> CrowdServer:
        """Return the policy that writes the log of `crowd`, a crowd of this world, with exact propensities."""
