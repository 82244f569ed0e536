"""Levels of the logging policy, random items and the best known policy, without training: `python -m benchmarks laws`.

Users are the first of each world, with levels against their means under the logging policy. A law is useful if the best
known policy is far above the logging policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefrec_ray.bench.results import markdown
from prefrec_ray.bench.worlds import DEVELOPMENT, VALIDATION, world_of
from prefrec_ray.engagement import session_table, user_means
from prefrec_ray.settings import TASKS
from prefrec_ray.simulator.law import ROLLOUT, SimulatedWorld, generator
from prefrec_ray.simulator.rollout import History, outcome, roll_out
from prefrec_ray.simulator.servers import OneOfBest, RandomItems

#: Weight of depth in the mixture.
WEIGHT = 0.5


def main(worlds: Sequence[str] | None = None, users: int = 200, requests: int = 250) -> dict[str, Any]:
    """Print one row per world that has its own law."""
    rows = []
    for name in worlds or (*DEVELOPMENT, *VALIDATION):
        rows.append({"world": name, **levels(world_of(name), users, requests)})
    print(markdown(rows[0], [[v if isinstance(v, str) else f"{v:.2f}" for v in row.values()] for row in rows]))
    return {"rows": rows}


def levels(world: SimulatedWorld, users: int, requests: int) -> dict[str, float]:
    """Return mean levels of the first `users` users by subject and task, against means under the logging policy."""
    servers = {
        "logging policy": world.logging_policy,
        "random": lambda crowd, rng: RandomItems(world.settings.items, rng),
        "best known": lambda crowd, rng: OneOfBest(crowd, world.controls["best known"], rng),
    }
    found, logged = {}, None
    for name, make in servers.items():
        crowd = world.crowd(np.arange(users), generator(world.settings.seed, ROLLOUT, 0, 0))
        history = roll_out(crowd, make(crowd, generator(world.settings.seed, ROLLOUT, 0, 1)), requests)
        logged = logged or logged_means(history)
        found[name] = outcome(history, *logged, WEIGHT)
    return {f"{name}: {task}": float(np.nanmean(own.levels[task])) for task in TASKS for name, own in found.items()}


def logged_means(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Return each user's mean depth and mean revisit time in ms."""
    users, requests = history.made.shape
    user = np.repeat(np.arange(users), requests)[history.made.ravel()]
    table = session_table(user, history.time_ms[history.made], history.session[history.made])
    return user_means(table.user, table.depth, users), user_means(table.user, table.revisit_ms, users)
