"""Levels and means of roll-outs against loops over each user's requests."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.simulator.rollout import History, outcome


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 30), st.floats(0, 1))
def test_against_a_plain_computation(seed, users, requests, weight):
    rng = np.random.default_rng(seed)
    session = np.cumsum(rng.random((users, requests)) < 0.3, axis=1)
    session -= session[:, :1]
    # Half of the users leave for good after some requests.
    last = np.where(rng.random(users) < 0.5, requests, rng.integers(1, requests + 1, users))
    made = np.arange(requests) < last[:, None]
    history = History(
        time_ms=np.cumsum(rng.integers(1, 10_000_000, (users, requests)), axis=1),
        page=np.zeros((users, requests, 1), int),
        position=np.zeros((users, requests), int),
        feedback=np.zeros((users, requests, 6), np.float32),
        satisfaction=rng.random((users, requests), np.float32),
        session=session,
        propensity=np.ones((users, requests, 1), np.float32),
        made=made,
    )
    mean_depth = rng.uniform(0.7, 9, users)
    mean_revisit = np.where(rng.random(users) < 0.2, np.nan, rng.uniform(1e5, 1e8, users))
    result = outcome(history, mean_depth, mean_revisit, weight)

    for user in range(users):
        visits: dict[int, list[int]] = {}
        until, left = slice(int(last[user])), bool(last[user] < requests)
        for time, number in zip(history.time_ms[user, until].tolist(), session[user, until].tolist(), strict=True):
            visits.setdefault(number, []).append(time)
        times = list(visits.values())
        gaps = [after[0] - before[-1] for before, after in pairwise(times)]
        depth = [min(5, math.floor(len(t) / mean_depth[user])) for t in times]
        frequency = [] if math.isnan(mean_revisit[user]) else [min(5, math.floor(mean_revisit[user] / g)) for g in gaps]
        if left and not math.isnan(mean_revisit[user]):
            frequency.append(0)  # of the session after which the user left
        mixture = [weight * d + (1 - weight) * f for d, f in zip(depth, frequency, strict=False)]
        for task, levels in (("depth", depth), ("frequency", frequency), ("mixture", mixture)):
            expected = np.sum(levels) / len(levels) * last[user] / requests if levels else np.nan
            np.testing.assert_allclose(result.levels[task][user], expected, rtol=1e-12)
            assert result.sessions[task][user] == len(levels)
        np.testing.assert_allclose(result.depth[user], last[user] / len(times))
        np.testing.assert_allclose(result.revisit_hours[user], np.mean(gaps) / 3.6e6 if gaps else np.nan)
        np.testing.assert_allclose(result.satisfaction[user], history.satisfaction[user, until].mean(), rtol=1e-5)
