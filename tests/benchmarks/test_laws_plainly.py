"""Each law of the truth bench against a plain loop over the impressions of one user."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from prefrec_ray.bench.worlds import world_of
from prefrec_ray.simulator.law import generator
from prefrec_ray.simulator.rollout import History, roll_out

REQUESTS = 120


@dataclass(frozen=True)
class User:
    """One user's impressions in order: item rows, times in ms, sessions from 0 and feedback by name.

    `crowd` has the impressions of all users.
    """

    world: Any
    rows: list[int]
    time_ms: list[int]
    session: list[int]
    feedback: dict[str, list[float]]
    traits: dict[str, Any]
    crowd: History


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
        mood = 0.97 * mood + user.world.value[creator] * min(seen.count(creator), 5) / 5
        found.append(sigmoid(0.2 * mood))
    return found


def budget(user: User) -> list[float]:
    joy, day, left, found = 0.4, None, 20.0, []
    for row, time_ms in zip(user.rows, user.time_ms, strict=True):
        if time_ms // 86_400_000 != day:
            day, left = time_ms // 86_400_000, 20.0
        left -= user.world.length[row]
        joy = 0.9 * joy + 0.1 * (user.world.value[row] - (1 if left < 0 else 0))
        found.append(sigmoid(8 * (joy - 0.4)))
    return found


def wearout(user: User) -> list[float]:
    mood, found = 0.0, []
    brands = [int(user.world.brand[row]) for row in user.rows]
    for now, brand in enumerate(brands):
        count = sum(0.97 ** (now - then) for then in range(now + 1) if brands[then] == brand)
        mood = 0.93 * mood + user.world.worth[brand] * (1 - math.exp(-count)) - (count / 6) ** 2
        found.append(sigmoid(0.4 * mood))
    return found


def daytime(user: User) -> list[float]:
    mood, found = 0.0, []
    for row, time_ms in zip(user.rows, user.time_ms, strict=True):
        angle = 2 * math.pi * (time_ms % 86_400_000) / 86_400_000
        cosine, sine = (
            sum(a * b for a, b in zip(user.world.embeddings[row], u, strict=True)) for u in user.world.plane
        )
        mood = 0.9 * mood + math.cos(angle) * cosine + math.sin(angle) * sine
        found.append(sigmoid(0.25 * mood))
    return found


def overload(user: User) -> list[float]:
    ease, found = 0.0, []
    genres = [int(user.world.genre[row]) for row in user.rows]
    for now, genre in enumerate(genres):
        met = [g for g, session in zip(genres[: now + 1], user.session, strict=False) if session == user.session[now]]
        effect = user.traits["liking"][genre] - 0.8 * max(len(set(met)) - 3, 0) - 0.6 * max(met.count(genre) - 3, 0)
        ease = 0.85 * ease + 0.15 * effect
        found.append(sigmoid(1.5 * ease))
    return found


def departing(user: User) -> list[float]:
    trust, found = 0.5, []
    for hit in user.feedback["click"]:
        trust = 0.9 * trust + 0.1 * hit
        found.append(sigmoid(6 * (trust - 0.5)))
    return found


def contagion(user: User) -> list[float]:
    mood, found = 0.0, []
    popularity: dict[int, float] = {}
    users, like = len(user.crowd.rows), user.world.feedback.index("like")
    for now, row in enumerate(user.rows):
        effect = 0.4 * user.world.quality[row] + 0.5 * math.log(1 + 40 * popularity.get(row, 0.0))
        effect -= 4 if row in user.rows[max(now - 20, 0) : now] else 0
        mood = 0.9 * mood + effect - 1
        found.append(sigmoid(0.25 * mood))
        popularity = {item: 0.97 * value for item, value in popularity.items()}
        for other in range(users):
            item = int(user.crowd.rows[other, now])
            popularity[item] = popularity.get(item, 0.0) + user.crowd.feedback[other, now, like] / users
    return found


def regimes(user: User) -> list[float]:
    mood, found = 0.0, []
    for row, time_ms in zip(user.rows, user.time_ms, strict=True):
        good = user.world.directions[user.world.regime[(time_ms - 1_704_067_200_000) // (5 * 86_400_000)]]
        mood = 0.9 * mood + sum(a * b for a, b in zip(user.world.embeddings[row], good, strict=True))
        found.append(sigmoid(0.25 * mood))
    return found


def variety(user: User) -> list[float]:
    mood, mean, found = 0.0, [0.0] * 8, []
    for row in user.rows:
        item = user.world.embeddings[row]
        effect = 1 - 3 * (math.dist(item, mean) - user.traits["optimum"]) ** 2
        mood, mean = 0.9 * mood + effect, [0.8 * m + 0.2 * e for m, e in zip(mean, item, strict=True)]
        found.append(sigmoid(0.25 * mood))
    return found


def habit(user: User) -> list[float]:
    joy, strength, found = 0.0, 0.3, []
    for now, row in enumerate(user.rows):
        kind = user.world.format[row]
        if now == 0 or user.session[now] != user.session[now - 1]:
            strength = strength + 0.3 * (1 - strength) if user.world.ritual[kind] else 0.8 * strength
        joy = 0.8 * joy + 0.2 * user.world.joy[kind]
        found.append((strength + sigmoid(3 * joy)) / 2)
    return found


def peak_end(user: User) -> list[float]:
    adaptation, feelings, found = 0.0, [], []
    for now, row in enumerate(user.rows):
        if now and user.session[now] != user.session[now - 1]:
            feelings = []
        intensity = user.world.intensity[user.world.genre[row]]
        feelings.append(intensity - 0.7 * adaptation)
        adaptation = 0.85 * adaptation + 0.15 * intensity
        end = feelings[-2:]
        found.append(sigmoid(2 * (0.5 * max(feelings) + 0.5 * sum(end) / len(end))))
    return found


def recharging(user: User) -> list[float]:
    mood, shown, found = 0.0, {}, []
    for row, time_ms in zip(user.rows, user.time_ms, strict=True):
        category = int(user.world.category[row])
        hours = (time_ms - shown[category]) / 3_600_000 if category in shown else math.inf
        shown[category] = time_ms
        payoff = user.world.value[category] * (1 - math.exp(-hours / user.world.recharge[category]))
        mood = 0.9 * mood + 2 * payoff - 1
        found.append(sigmoid(0.4 * mood))
    return found


def bubble(user: User) -> list[float]:
    mood, taste, found = 0.0, user.traits["taste"], []
    for row in user.rows:
        item = user.world.embeddings[row] / math.hypot(*user.world.embeddings[row])
        affinity = float(item @ taste)
        mood = 0.9 * mood + affinity * abs(affinity) * user.world.supply[row]
        taste = taste + 0.15 * affinity * item
        taste = taste / math.hypot(*taste)
        found.append(sigmoid(0.25 * mood))
    return found


LAWS: dict[str, Plain] = {
    law.__name__: law
    for law in (
        *(topics, creators, budget, wearout, daytime, overload, departing),
        *(contagion, regimes, variety, habit, peak_end, recharging, bubble),
    )
}


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_its_formula(name: str) -> None:
    world: Any = world_of(name)
    crowd = world.crowd(np.arange(12), generator(5, 92))
    history = roll_out(crowd, world.logging_policy(crowd, generator(5, 93)), REQUESTS)
    for number in range(12):
        own = User(
            world,
            history.rows[number].tolist(),
            history.time_ms[number].tolist(),
            history.session[number].tolist(),
            dict(zip(world.feedback, history.feedback[number].T.tolist(), strict=True)),
            {trait: values[number] for trait, values in crowd.traits.items()},
            history,
        )
        np.testing.assert_allclose(history.satisfaction[number], LAWS[name](own), atol=1e-5)
