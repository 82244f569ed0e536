"""The fatigue estimate on users with a known law: it finds fatigue, and does not confuse liking with fatigue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prefrec_ray.engagement.fatigue import PARTS, FatigueEstimate, estimate
from prefrec_ray.engagement.impressions import Impressions

USERS, REQUESTS, WIDTH, HALF_LIFE = 200, 120, 4, 20.0


def platform(tiring: float, seed: int) -> Impressions:
    """A platform that mostly shows a user what the user likes: likeness comes with good service.

    Satisfaction is a sigmoid of a decaying sum of taste . item - tiring * likeness.
    """
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((300, WIDTH)) / np.sqrt(WIDTH)
    taste = np.tile(np.eye(WIDTH)[0], (USERS, 1)) * np.where(rng.random((USERS, 1)) < 0.5, -1, 1)
    decay = 0.5 ** (1 / HALF_LIFE)
    mean, index, now = np.zeros((USERS, WIDTH)), np.zeros(USERS), np.zeros(USERS)
    strength = rng.uniform(-1, 3, USERS)
    columns: dict[str, list[np.ndarray]] = {"items": [], "time": [], "ends": [], "feedback": []}
    for request in range(REQUESTS):
        if request % 40 == 0:
            strength = rng.uniform(-1, 3, USERS)
        shown = items[(strength[:, None] * (taste @ items.T) + rng.gumbel(size=(USERS, len(items)))).argmax(axis=1)]
        columns["feedback"].append(rng.random(USERS) < 1 / (1 + np.exp(2 - 3 / (1 + np.exp(-index)))))
        index = decay * index + 0.3 * (taste * shown).sum(axis=1) - tiring * (shown * mean).sum(axis=1)
        mean = decay * mean + (1 - decay) * shown
        satisfied = 1 / (1 + np.exp(-index))
        ends = rng.random(USERS) < 0.4 - 0.35 * satisfied
        columns["items"].append(shown)
        columns["time"].append(now)
        columns["ends"].append(ends)
        away = np.exp(rng.normal(10.5 - 3 * satisfied, 0.5)) * 1000
        now = now + np.where(ends, 1_800_000 + away, 10_000)
    by_user = {name: np.stack(column, axis=1) for name, column in columns.items()}
    ends = by_user["ends"]
    session = np.cumsum(ends, axis=1) - ends
    return Impressions(
        starts=np.arange(USERS) * REQUESTS,
        embeddings=by_user["items"].reshape(-1, WIDTH).astype(np.float32),
        session=session.reshape(-1),
        timestamp=by_user["time"].reshape(-1).astype(np.int64),
        feedback=by_user["feedback"].reshape(-1, 1).astype(np.float32),
    )


def test_fatigue_is_found_and_not_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    tired = estimate(platform(0.6, 1), 0)
    assert tired is not None
    monkeypatch.setattr("prefrec_ray.engagement.fatigue.HALF_LIVES", (tired.half_life,))
    fresh = estimate(platform(0.0, 2), 0)
    assert fresh is not None
    assert np.mean(tired.parts) > 6
    assert np.mean(tired.parts) > np.mean(fresh.parts) + 3 * (tired.error + fresh.error)
    assert np.mean(fresh.parts) < 1.5  # no fatigue, up to the curvature of outcomes


def test_a_plain_regression_would_be_fooled() -> None:
    """Nobody tires, and yet likeness goes with fewer ends: what this module is there for."""
    shown = platform(0.0, 2)
    decay, likeness = 0.5 ** (1 / HALF_LIFE), np.zeros((USERS, REQUESTS))
    items, mean = shown.embeddings.reshape(USERS, REQUESTS, WIDTH), np.zeros((USERS, WIDTH))
    for request in range(REQUESTS):
        likeness[:, request] = (items[:, request] * mean).sum(axis=1)
        mean = decay * mean + (1 - decay) * items[:, request]
    ends = np.diff(shown.session.reshape(USERS, REQUESTS), axis=1)
    x, y = likeness[:, :-1].ravel(), ends.ravel()
    t = np.corrcoef(x, y)[0, 1] * np.sqrt(len(x))
    assert t < -4


def test_the_same_seed_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrec_ray.engagement.fatigue.HALF_LIVES", (HALF_LIFE,))
    shown = platform(0.6, 3).take(np.arange(16))
    assert estimate(shown, 5) == estimate(shown, 5) != estimate(shown, 6)


def test_constant_feedback_does_not_change_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is 0 for any model, so that its likelihood would outweigh all other outcomes."""
    monkeypatch.setattr("prefrec_ray.engagement.fatigue.HALF_LIVES", (HALF_LIFE,))
    shown = platform(0.6, 1).take(np.arange(40))
    constants = np.tile(np.float32([0.0, 0.1]), (len(shown.feedback), 1))
    more = estimate(replace(shown, feedback=np.concatenate([shown.feedback, constants], axis=1)), 0)
    plain = estimate(shown, 0)
    assert more is not None
    assert plain is not None
    assert more.parts == pytest.approx(plain.parts, rel=1e-3)


def test_a_log_without_sessions_or_users_says_nothing() -> None:
    shown = platform(0.0, 4)
    one_session = Impressions(
        shown.starts, shown.embeddings, np.zeros_like(shown.session), shown.timestamp, shown.feedback
    )
    assert estimate(one_session, 0) is None
    assert estimate(shown.take(np.arange(PARTS)), 0) is None


def test_parts_that_disagree_say_nothing() -> None:
    assert FatigueEstimate((0.0, 9.0, 20.0, 3.0), 20.0).variety is None
    assert FatigueEstimate((5.0, 5.5, 4.5, 5.0), 20.0).variety == pytest.approx(5.0)
    assert FatigueEstimate((-3.0, -2.0, -2.5, -2.0), 20.0).variety == 1.0
    assert FatigueEstimate((0.0, 5.0, 10.0, 15.0), 20.0).error > 2.5
