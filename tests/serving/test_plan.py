"""Plan of a canary: outcomes of a log, and the users until a gain is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.engagement import session_table
from prefrec_ray.serving.experiment.plan import (
    DAY_MS,
    REPEATS,
    LoggedOutcomes,
    outcomes_of_sessions,
    plan,
    shifted,
    users_until_seen,
)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=50), st.floats(-0.4, 0.4))
def test_shifted_levels_have_the_gain_and_stay_in_range(levels: list[int], gain: float) -> None:
    values = np.array(levels, np.float64)
    if not 0.01 < values.mean() + gain < 4.99:
        return
    better = shifted(values, gain)
    assert better.mean() - values.mean() == pytest.approx(gain, abs=1e-9)
    assert better.min() >= 0
    assert better.max() <= 5


def test_a_gain_beyond_the_largest_level_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found a gain of 2 on a mean level of 4\.00"):
        shifted(np.full(10, 4.0), 2.0)


@settings(max_examples=5)
@given(st.floats(0.2, 1.0), st.sampled_from([0.05, 0.2, 0.5]))
def test_no_fewer_users_than_a_test_with_one_look_needs(gain: float, share: float) -> None:
    """(1.96 + 0.84)^2 variances are needed by a two-sided test at 5 % with power .8."""
    levels = np.clip(np.random.default_rng(1).normal(1.5, 0.8, 2000), 0, 5)
    users = users_until_seen(levels, gain, share, 0.8)
    one_look = 7.84 * levels.var() * (1 / share + 1 / (1 - share)) / gain**2
    assert users is not None
    assert 0.9 * one_look < users < 6 * one_look + 300


def test_larger_gains_and_more_power_change_the_number_as_they_should() -> None:
    levels = np.clip(np.random.default_rng(1).normal(1.5, 0.8, 2000), 0, 5)

    def users(gain: float, power: float = 0.8) -> int:
        found = users_until_seen(levels, gain, 0.2, power)
        assert found is not None
        return found

    assert users(0.5) < users(0.25) < users(0.125)
    assert users(0.25, 0.5) < users(0.25, 1 - 1 / REPEATS)


def test_outcomes_are_levels_of_a_users_days_against_earlier_averages() -> None:
    """Sessions of 2 impressions every 12 hours, then of 6 every 4 hours: both levels are at most 3."""
    hour = DAY_MS // 24
    starts = np.concatenate([np.arange(0, 20 * 24, 12), np.arange(20 * 24, 40 * 24, 4)]) * hour
    depth = np.where(starts < 20 * DAY_MS, 2, 6)
    time_ms = np.repeat(starts, depth) + np.concatenate([np.arange(n) for n in depth])
    number = np.repeat(np.arange(len(starts)), depth)
    users = np.repeat(np.arange(30), len(time_ms))
    table = session_table(users, np.tile(time_ms, 30), np.tile(number, 30))
    by_task = {task: outcomes_of_sessions(table, task, 3.0) for task in ("depth", "frequency")}
    assert all(logged.users == 30 and len(logged.levels) == 30 for logged in by_task.values())
    # Own averages also contain the deeper sessions between the middle of the history and the user's days.
    assert all(1 <= level <= 3 for level in by_task["depth"].levels)
    assert by_task["depth"].levels.max() == 3
    assert 1 < by_task["frequency"].levels.mean() <= 3
    assert by_task["depth"].arrived[0] == 1.0  # a session every four hours


def test_days_follow_from_arrivals_and_too_many_users_have_none() -> None:
    levels = np.clip(np.random.default_rng(1).normal(1.5, 0.8, 2000), 0, 5)
    logged = LoggedOutcomes(levels, np.array([0.0, 0.5, 1.0]), users=400)
    few, many = plan(logged, [1.0, 0.05], [0.5], 3.0, 0.8)
    assert few.users is not None
    assert few.days == (6.0 if few.users <= 200 else 7.0)
    assert (many.users is None or many.users > 400, many.days) == (True, None)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--task", "clicks"], "--task: found clicks; expected one of depth, frequency, mixture"),
        (["--gains", "a"], "--gains: found 'a'; expected numbers from 0.01 to 5, separated by commas"),
        (["--shares", "0.9"], "--shares: found '0.9'; expected numbers from 0.001 to 0.5, separated by commas"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert prefrec(["plan-test", "no-dataset", *arguments]) == 2
    assert capsys.readouterr().err == f"prefrec: error: {problem}\n"


def test_users_whose_history_is_shorter_than_the_days_are_excluded() -> None:
    """Twenty users with sessions every four hours in 40 days; ten users in 3 days, whose second half is too short."""
    hour = DAY_MS // 24
    users, starts = [], []
    for user in range(30):
        times = np.arange(0, (40 if user < 20 else 3) * 24, 4) * hour
        users.append(np.full(len(times), user))
        starts.append(times)
    user, time = np.concatenate(users), np.concatenate(starts)
    number = np.concatenate([np.arange(len(part)) for part in starts])
    logged = outcomes_of_sessions(session_table(user, time, number), "depth", 3.0)
    assert (logged.users, len(logged.levels)) == (30, 20)


def test_a_plan_for_guard_rails_needs_the_users_of_a_smaller_error_rate() -> None:
    """With 48 guard-rails a night decides at 5 % / 50: the planned number is the one at this rate."""
    levels = np.clip(np.random.default_rng(1).normal(1.5, 0.8, 2000), 0, 5)
    logged = LoggedOutcomes(levels, np.ones(1), 10**6)
    alone, railed = (plan(logged, [0.2], [0.1], 3.0, 0.8, rails=rails)[0].users for rails in (0, 48))
    assert railed == users_until_seen(levels, 0.2, 0.1, 0.8, 0.001)
    assert alone == users_until_seen(levels, 0.2, 0.1, 0.8, 0.025)
    assert alone < railed
