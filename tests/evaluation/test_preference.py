"""Preference scores of policies in a world with a closed form."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hand_made import made_histories

from prefrec_ray.algorithms.reward.labels import RewardFunction, label_users
from prefrec_ray.evaluation.selection import preference
from prefrec_ray.evaluation.selection.preference import PreferenceScore, fit_score
from prefrec_ray.users.histories import Histories

USERS, REQUESTS, KEEPS, HORIZON = 200, 60, 0.8, 10
GOOD = np.array([0.6, -0.8], dtype=np.float32)


@pytest.fixture(scope="module")
def world() -> Histories:
    """A mood keeps 0.8 of itself from request to request and rises by GOOD . action; the other states are noise."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, size=(USERS, REQUESTS, 2)).astype(np.float32)
    state = rng.normal(size=(USERS, REQUESTS, 3)).astype(np.float32)
    state[:, 0, 0] = 0
    for step in range(1, REQUESTS):
        state[:, step, 0] = KEEPS * state[:, step - 1, 0] + action[:, step - 1] @ GOOD
    user = np.arange(USERS)
    return made_histories(state.reshape(-1, 3), action.reshape(-1, 2), user * REQUESTS, user, np.full(USERS, np.nan))


@pytest.fixture(scope="module")
def score(world: Histories) -> PreferenceScore:
    """Return the score for a reward equal to the mood of the next state."""
    weights = {"net.0.weight": np.array([[1.0, 0.0]], np.float32), "net.0.bias": np.zeros(1, np.float32)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preference, "UPDATES", 300)  # enough for one state and a linear effect
        return fit_score(world, RewardFunction(weights, (), [0, 1]), HORIZON)


def fake(act: Any) -> Any:
    """A policy with these actions."""
    return SimpleNamespace(penalises_repetition=False, act=act, served_for=lambda actions: actions)


def always(action: np.ndarray) -> Any:
    # A policy that scores items returns an item's embedding as its action.
    return fake(lambda states, recent: np.broadcast_to(action, (len(states), 2)))


def spread(world: Histories) -> float:
    """Standard deviation of the labels."""
    mood = world.state.reshape(USERS, REQUESTS, 3)[:, 1:, 0]
    return float(label_users(mood.ravel(), world.pages, HORIZON).std())


@pytest.mark.parametrize("size", [-1.0, -0.5, 0.5, 1.0])
def test_a_score_is_what_one_action_does_to_the_requests_after_it(
    world: Histories, score: PreferenceScore, size: float
) -> None:
    # The mean over h requests of KEEPS^k; fewer than HORIZON are left at the end of a history.
    left = np.minimum(HORIZON, np.arange(REQUESTS - 1, 0, -1))
    lasting = ((1 - KEEPS**left) / (1 - KEEPS) / left).mean()
    expected = 1000 * size * float(GOOD @ GOOD) * lasting / spread(world)
    assert score(always(size * GOOD)) == pytest.approx(expected, abs=0.15 * 1000 * lasting / spread(world))


def test_what_changes_nothing_scores_nothing(world: Histories, score: PreferenceScore) -> None:
    across = np.array([0.8, 0.6], dtype=np.float32)
    assert abs(score(always(across))) < 0.15 * score(always(GOOD))
    assert abs(score(always(np.zeros(2, np.float32)))) < 0.15 * score(always(GOOD))


def test_it_is_a_function_of_its_arguments(world: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preference, "UPDATES", 100)
    weights = {"net.0.weight": np.array([[1.0, 0.0]], np.float32), "net.0.bias": np.zeros(1, np.float32)}
    once, again = (fit_score(world, RewardFunction(weights, (), [0, 1]), HORIZON) for _ in range(2))
    assert once(always(GOOD)) == again(always(GOOD)) != 0


def test_a_score_is_over_the_logged_items(world: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that shows the logged items scores 0, even if networks with few updates predict something else."""
    monkeypatch.setattr(preference, "UPDATES", 5)
    shifted = replace(world, action=world.action + np.float32([0.9, -0.4]))
    logged = {state.tobytes(): action for state, action in zip(shifted.state, shifted.action, strict=True)}
    weights = {"net.0.weight": np.array([[1.0, 0.0]], np.float32), "net.0.bias": np.zeros(1, np.float32)}
    score = fit_score(shifted, RewardFunction(weights, (), [0, 1]), HORIZON)
    again = fake(lambda states, recent: np.stack([logged[s.tobytes()] for s in states]))
    assert abs(1000 * score.logged) > 1
    assert score(again) == pytest.approx(0, abs=1e-3)
    assert replace(score, logged=score.logged - 0.25)(again) == pytest.approx(250, abs=1e-3)
