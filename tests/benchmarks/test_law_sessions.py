"""Sessions, gaps and the logging policy of the truth bench's laws, against plain computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prefrec_ray.bench.laws.platform import Reaction, Softmax
from prefrec_ray.bench.worlds import world_of
from prefrec_ray.simulator.law import generator
from prefrec_ray.simulator.rollout import History, roll_out

USERS, REQUESTS = 60, 150


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def simulated(world: Any) -> tuple[Any, History, list[Reaction]]:
    """Return a crowd after its roll-out, the histories, and the reactions of each step."""
    crowd, reactions = world.crowd(np.arange(USERS), generator(6, 92)), []
    react = world.react

    def recorded(crowd: Any, rows: np.ndarray) -> Reaction:
        reactions.append(react(crowd, rows))
        return reactions[-1]

    world.react = recorded
    history = roll_out(crowd, world.logging_policy(crowd, generator(6, 93)), REQUESTS)
    return crowd, history, reactions


def starts(history: History) -> np.ndarray:
    """Return True for the first impression of each session, [users, requests]."""
    return np.diff(history.session, axis=1, prepend=-1) > 0


def test_satisfied_users_stay_longer_and_return_sooner() -> None:
    crowd, history, _ = simulated(world_of("daytime"))
    chance = sigmoid(-0.2 + 3.4 * history.satisfaction + crowd.traits["patience"][:, None])[:, :-1]
    stays = np.diff(history.session, axis=1) == 0
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)):
        part = (chance >= np.quantile(chance, low)) & (chance <= np.quantile(chance, high))
        error = (stays - chance)[part].sum()
        assert abs(error) < 4 * np.sqrt((chance * (1 - chance))[part].sum())
    hours = (np.diff(history.time_ms, axis=1)[~stays] - 1_801_000) / 3_600_000
    expected = crowd.traits["log_hours"][:, None] - 3 * (history.satisfaction[:, :-1] - 0.5)
    noise = np.log(hours) - np.broadcast_to(expected, stays.shape)[~stays]
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(len(noise))
    assert noise.std() == pytest.approx(0.5, rel=0.05)


def test_a_spent_budget_ends_sessions() -> None:
    world = world_of("budget")
    _, history, reactions = simulated(world)
    for user in range(USERS):
        day, left = None, 0.0
        for step in range(REQUESTS):
            if history.time_ms[user, step] // 86_400_000 != day:
                day, left = history.time_ms[user, step] // 86_400_000, 20.0
            left -= world.length[history.rows[user, step]]
            assert reactions[step].stay[user] == (2 if left > 0 else 0)


def test_the_same_genre_again_keeps_a_session_going() -> None:
    world = world_of("overload")
    _, history, reactions = simulated(world)
    genre, first = world.genre[history.rows], starts(history)
    same = np.zeros_like(first)
    same[:, 1:] = (genre[:, 1:] == genre[:, :-1]) & ~first[:, 1:]
    stay = np.stack([reaction.stay for reaction in reactions], axis=1)
    np.testing.assert_allclose(stay, -0.2 + 3.4 * history.satisfaction + 0.6 * same, atol=1e-5)
    assert 0.02 < same.mean() < 0.5


def test_habits_shorten_gaps_and_joy_lengthens_sessions() -> None:
    world = world_of("habit")
    _, history, reactions = simulated(world)
    kind, first = world.format[history.rows], starts(history)
    joy, habit = np.zeros(USERS), np.full(USERS, 0.3)
    for step, reaction in enumerate(reactions):
        ritual = world.ritual[kind[:, step]]
        habit = np.where(first[:, step], np.where(ritual, 0.7 * habit + 0.3, 0.8 * habit), habit)
        joy = 0.8 * joy + 0.2 * world.joy[kind[:, step]]
        np.testing.assert_allclose(reaction.stay, 3 * sigmoid(3 * joy))
        np.testing.assert_allclose(reaction.away, 3 * (0.4 - habit))


def test_intense_items_end_sessions_and_memories_shorten_gaps() -> None:
    world = world_of("peak_end")
    _, history, reactions = simulated(world)
    for step, reaction in enumerate(reactions):
        np.testing.assert_allclose(reaction.stay, 1.6 - 1.2 * world.intensity[world.genre[history.rows[:, step]]])
        memory = np.log(history.satisfaction[:, step] / (1 - history.satisfaction[:, step])) / 2
        np.testing.assert_allclose(reaction.away, -2.5 * (memory - 0.3), atol=1e-4)


def test_three_misses_end_a_session_and_sometimes_all() -> None:
    crowd, history, _ = simulated(world_of("departing"))
    click, ends = history.feedback[:, :, 0], np.diff(history.session, axis=1) > 0
    streaks = 0
    for user in range(USERS):
        misses = 0
        for step in range(REQUESTS - 1):
            misses = 0 if click[user, step] else misses + 1
            if misses == 3:
                assert ends[user, step]
                streaks, misses = streaks + 1, 0
            if not history.made[user, step + 1] and history.made[user, step]:
                assert misses == 0
                assert not click[user, step]
    assert streaks > 100
    assert 0.1 < crowd.gone.mean() < 0.9


@pytest.mark.parametrize("name", ["creators", "departing"])
def test_propensities_are_those_of_a_softmax(name: str) -> None:
    world = world_of(name)
    crowd = world.crowd(np.arange(20), generator(6, 92))
    server = Softmax(crowd, generator(6, 93))
    for _ in range(5):
        excluded = None if crowd.seen is None else crowd.seen.copy()
        choice = server.serve(crowd.time_ms, excluded)
        for user, row in enumerate(choice.rows):
            weight = np.exp(server.strength[user] * world.appeal)
            weight = weight if excluded is None else weight * ~excluded[user]
            assert choice.propensity[user] == pytest.approx(weight[row] / weight.sum())
        crowd.show(choice.rows)
    # Drawn with this probability: over many draws the mean of 1 / propensity is the number of items that may be shown.
    inverse = [1 / server.serve(crowd.time_ms, crowd.seen).propensity for _ in range(300)]
    open_items = world.settings.items - (0 if crowd.seen is None else 5)
    assert np.median(np.mean(inverse, axis=0)) == pytest.approx(open_items, rel=0.25)
