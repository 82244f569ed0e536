"""Each law of the truth bench against a plain loop over the impressions of one user."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.truth.bench import WORLDS
from prefrec_ray.settings import load_yaml
from prefrec_ray.simulator.load import load_world
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import generator

REQUESTS = 120


@dataclass(frozen=True)
class User:
    """One user's impressions in order: item rows, times in ms, sessions from 0 and feedback by name."""

    world: Any
    rows: list[int]
    time_ms: list[int]
    session: list[int]
    feedback: dict[str, list[float]]
    traits: dict[str, Any]


#: Satisfaction after each impression, from the formulas of the docstrings.
Plain = Callable[[User], list[float]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def topics(user: User) -> list[float]:
    mood, seen, found = 0.0, [], []
    for row in user.rows:
        topic = int(user.world.topic[row])
        tired = seen[-30:].count(topic) >= 4
        mood = 0.95 * mood + 1 - 2 * user.world.topic_cost[topic] - (3 if tired else 0)
        seen.append(topic)
        found.append(sigmoid(0.2 * mood))
    return found


def creators(user: User) -> list[float]:
    mood, seen, found = 0.0, [], []
    for row in user.rows:
        creator = int(user.world.creator[row])
        seen.append(creator)
        mood = 0.95 * mood + user.world.value[creator] * min(seen.count(creator), 5) / 5
        found.append(sigmoid(0.1 * mood))
    return found


LAWS: dict[str, Plain] = {"topics": topics, "creators": creators}


@pytest.mark.parametrize("name", sorted(file.stem for file in WORLDS.glob("*.py")))
def test_a_law_is_its_formula(name: str) -> None:
    world: Any = load_world(SimulateSettings.model_validate(load_yaml(str(WORLDS / f"{name}.yaml"))["simulate"]))
    crowd = world.crowd(np.arange(12), generator(5, 92))
    history = roll_out(crowd, world.logging_policy(crowd, generator(5, 93)), REQUESTS)
    for user in range(12):
        own = User(
            world,
            history.rows[user].tolist(),
            history.time_ms[user].tolist(),
            history.session[user].tolist(),
            dict(zip(world.feedback, history.feedback[user].T.tolist(), strict=True)),
            {trait: values[user] for trait, values in crowd.traits.items()},
        )
        np.testing.assert_allclose(history.satisfaction[user], LAWS[name](own), atol=1e-5)
