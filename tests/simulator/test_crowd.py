"""The dynamics against a plain loop over numbers, and their required properties."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import Choice, generator
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World

HALF_HOUR_MS = 1_800_000


class Listed:
    """Serves each user the next row of a list."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.step = rows, -1

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        self.step += 1
        return Choice(self.rows[:, self.step], 1.0)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        pass


def crowd(clickbait: np.ndarray, users: int = 8, seed: int = 0, **law: float) -> Crowd:
    """Users in a world with other constants `law`, whose items have the degrees `clickbait` [items]."""
    world = World(SimulateSettings(users=users, items=len(clickbait), seed=seed))
    for name, value in law.items():
        setattr(world, name, value)
    world.clickbait = np.float32(clickbait)[None]
    return Crowd(world, world.traits(np.arange(users)), generator(seed, 99))


def test_one_user_follows_the_published_dynamics():
    clickbait = np.array([0.0, 0.9, 0.5, 1.0, 0.2], np.float32)
    rows = np.array([[0, 0, 1, 3, 3, 3, 4, 2, 0, 1] * 4])
    one = crowd(clickbait, users=1, innovation=0.0, watch_noise=0.0, memory_discount=0.9, sensitivity=0.3)
    exposure, sensitivity = float(one.traits.exposure[0]), float(one.traits.sensitivity[0])
    history = roll_out(one, Listed(rows), rows.shape[1])

    for step, row in enumerate(rows[0]):
        before = 1 / (1 + math.exp(-sensitivity * exposure))
        bait = float(clickbait[row])
        seconds = math.exp((bait * 5.0 + (1 - bait) * 4.0) * before)
        exposure = 0.9 * exposure - 2 * (bait - 0.5)
        after = 1 / (1 + math.exp(-sensitivity * exposure))
        np.testing.assert_allclose(history.satisfaction[0, step], after, rtol=1e-4)
        watch_ratio = history.feedback[0, step, FEEDBACK.index("watch_ratio")]
        np.testing.assert_allclose(watch_ratio, min(seconds / 30, 3.0), rtol=1e-4)
        if step + 1 < rows.shape[1] and history.session[0, step + 1] == history.session[0, step]:
            gap = history.time_ms[0, step + 1] - history.time_ms[0, step]
            np.testing.assert_allclose(gap, 1000 + 1000 * seconds, rtol=1e-3, atol=2)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    gap_hours=st.floats(0.01, 1e3),
    gap_satisfaction=st.floats(0, 10),
    watch=st.floats(0, 12),
)
def test_half_an_hour_tells_sessions_apart_in_any_world(seed, gap_hours, gap_satisfaction, watch):
    law = {"gap_hours": gap_hours, "gap_satisfaction": gap_satisfaction, "watch_clickbait": watch}
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 5, (8, 40))
    history = roll_out(crowd(rng.random(5), seed=seed, **law), Listed(rows), 40)
    gaps = np.diff(history.time_ms, axis=1)
    new = np.diff(history.session, axis=1)
    assert gaps.min() > 0
    np.testing.assert_array_equal(new, gaps > HALF_HOUR_MS)


def test_clickbait_holds_users_now_and_loses_them_later():
    def outcome(bait: float, requests: int) -> tuple[float, float]:
        """Shares of users still in their first visit after 3 requests, and who leave at the last request."""
        start = crowd(np.array([bait]), users=4000)
        start.exposure[:] = -8
        history = roll_out(start, Listed(np.zeros((4000, requests), int)), requests)
        return (history.session[:, 2] == 0).mean(), np.diff(history.session[:, -2:], axis=1).mean()

    (stay_bait, leave_bait), (stay_kale, leave_kale) = outcome(1.0, 80), outcome(0.0, 80)
    assert stay_bait > stay_kale + 0.03
    assert leave_bait > 4 * leave_kale


def test_satisfaction_shows_in_the_log():
    rows = np.zeros((3000, 60), int)
    happy, unhappy = (roll_out(crowd(np.array([bait]), users=3000), Listed(rows), 60) for bait in (0.3, 0.7))
    assert happy.satisfaction[:, -1].mean() > 0.7 > 0.3 > unhappy.satisfaction[:, -1].mean()
    for name in ("like", "watch_ratio", "follow", "share", "comment"):
        column = FEEDBACK.index(name)
        assert happy.feedback[:, 40:, column].mean() > 1.3 * unhappy.feedback[:, 40:, column].mean(), name
    click = FEEDBACK.index("click")
    assert unhappy.feedback[:, :, click].mean() > 1.3 * happy.feedback[:, :, click].mean()
    assert np.diff(unhappy.time_ms[:, [40, 59]]).mean() > 3 * np.diff(happy.time_ms[:, [40, 59]]).mean()
