"""The plain baseline: its target by closed forms, and what it serves."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.bench.plain import BestByTrees, Log, columns_of, effects_on_return, mean_of_next
from prefrec_ray.mdp.items import ItemTable

HOUR_MS = 3_600_000
ITEMS = ItemTable(np.arange(6), np.eye(6, dtype=np.float32))


def log_of(hours, feedback, users):
    """Return a log of sessions of two impressions: the hours after each session, its mean feedback [F], its user."""
    users, mean = np.repeat(users, 2), np.repeat(np.asarray(feedback, np.float32), 2, axis=0)
    step = np.stack([np.zeros(len(hours)), hours], axis=1).ravel() * HOUR_MS
    time_ms = np.concatenate([[0.0], np.cumsum(step)[:-1]]).astype(np.int64)
    mean[::2] += 0.25  # only the mean of a session counts
    mean[1::2] -= 0.25
    return Log(users, np.arange(len(users)) // 2, time_ms, np.zeros(len(users), int), mean)


def test_effects_on_the_return_are_those_of_the_law() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(5), 12)
    feedback = rng.random((60, 2))
    # Users differ in their mean feedback and in their hours, in the direction opposite to the effect.
    feedback[:, 0] += users
    hours = np.exp(2.0 * users - (0.7 * feedback[:, 0] - 0.2 * feedback[:, 1]))
    log = log_of(hours, feedback, users)
    np.testing.assert_allclose(effects_on_return(log), [0.7, -0.2], atol=1e-3)


def test_the_target_is_the_mean_of_twenty_values_of_the_same_user() -> None:
    users = np.repeat([0, 1, 2], [22, 19, 20])
    values = np.arange(61.0)
    target = mean_of_next(values, users)
    np.testing.assert_allclose(target[:3], [9.5, 10.5, 11.5])
    assert np.isnan(target[3:41]).all()
    assert target[41] == pytest.approx(50.5)
    assert np.isnan(target[42:]).all()


def test_columns_of_an_impression_know_only_the_impressions_before() -> None:
    rng = np.random.default_rng(1)
    log = log_of(np.full(6, 5.0), rng.random((6, 1)), [0, 0, 0, 0, 1, 1])
    columns = columns_of(log, ITEMS, HOUR_MS)
    changed = log.feedback.copy()
    changed[3] += 1.0
    after = columns_of(Log(log.users, log.sessions, log.time_ms, log.rows, changed), ITEMS, HOUR_MS)
    differs = (columns != after).any(axis=1)
    assert differs.tolist() == [place in {4, 5, 6, 7} for place in range(12)]


class FirstIsBest:
    """Stands for trees that prefer items like the last one: the fourth column is the likeness to it."""

    def predict(self, columns: np.ndarray) -> np.ndarray:
        return columns[:, 3] * 100.0


def test_the_best_candidate_that_is_not_excluded_is_served() -> None:
    server = BestByTrees(FirstIsBest(), ITEMS, 1, HOUR_MS, np.random.default_rng(0))
    now, none = np.zeros(2, np.int64), np.zeros((2, 6), bool)
    server.serve(now, none)
    server.observe(now, np.array([4, 2]), np.ones((2, 1), np.float32))
    assert {tuple(server.serve(now, none).rows) for _ in range(30)} == {(4, 2)}
    excluded = none.copy()
    excluded[0, 4] = excluded[1, 0] = True
    chosen = np.array([server.serve(now, excluded).rows for _ in range(60)])
    assert set(chosen[:, 0]) == {0, 1, 2, 3, 5}
    assert set(chosen[:, 1]) == {2}
