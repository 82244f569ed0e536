"""Levels (Eq. 11) against exact fractions, user by user."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.engagement import depth_levels, frequency_levels, task_levels
from prefrec_ray.settings import TASKS

session = st.tuples(st.integers(1, 40), st.integers(1, 60))
users = st.lists(st.lists(session, min_size=1, max_size=14), min_size=1, max_size=5)


def clipped(ratio):
    return min(max(math.floor(ratio), 0), 5)


@settings(deadline=None, max_examples=150)
@given(users, st.sampled_from([1, 997, 86_400_000]))
def test_levels_equal_exact_arithmetic(histories, unit):
    user, depth, revisit, deep, often = [], [], [], [], []
    for name, history in enumerate(histories):
        depths = [d for d, _ in history]
        returns = [e * unit for _, e in history[:-1]]  # none after the last session
        mean_depth = Fraction(sum(depths), len(depths))
        mean_return = Fraction(sum(returns), len(returns)) if returns else None
        user += [name] * len(history)
        depth += depths
        revisit += [*returns, np.nan]
        deep += [clipped(d / mean_depth) for d in depths]
        often += [*(clipped(mean_return / e) for e in returns), np.nan]
    np.testing.assert_array_equal(depth_levels(np.array(user), np.array(depth)), deep)
    np.testing.assert_array_equal(frequency_levels(np.array(user), np.array(revisit)), often)


def test_every_level_begins_where_the_equation_says():
    """Users with mean depths 4 and 2, and a user with mean revisit time 60."""
    depth = [3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 24, 5, *[1] * 32]
    level = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 1, *[0] * 32]
    assert sum(depth) == 4 * len(depth)
    user = np.repeat([7, 8], [len(depth), 3])
    np.testing.assert_array_equal(depth_levels(user, np.array([*depth, 1, 2, 3])), [*level, 0, 1, 1])
    revisit = [61, 60, 31, 30, 21, 20, 16, 15, 13, 12, 10, 1, 490]
    level = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 0]
    assert sum(revisit) == 60 * len(revisit)
    user = np.repeat([7, 8, 9], [14, 3, 1])
    values = np.array([*revisit, np.nan, 2, 4, np.nan, np.nan])
    np.testing.assert_array_equal(frequency_levels(user, values), [*level, np.nan, 1, 0, np.nan, np.nan])


def test_levels_equal_pandas():
    rng = np.random.default_rng(3)
    log = pd.DataFrame({"user": np.sort(rng.integers(0, 20, 400)), "depth": rng.integers(1, 50, 400)})
    log["revisit"] = rng.exponential(1e7, 400)
    log.loc[~log["user"].duplicated(keep="last"), "revisit"] = np.nan
    mean = log.groupby("user").transform("mean")
    mine = depth_levels(log["user"].to_numpy(), log["depth"].to_numpy())
    np.testing.assert_array_equal(mine, np.floor(log["depth"] / mean["depth"]).clip(0, 5))
    mine = frequency_levels(log["user"].to_numpy(), log["revisit"].to_numpy())
    np.testing.assert_array_equal(mine, np.floor(mean["revisit"] / log["revisit"]).clip(0, 5))


def test_float32_is_summed_in_float64():
    """In float32, 2^24 + 1 = 2^24 and (2^24 - 1) + 2^24 = 2^25."""
    depth, revisit = np.float32([2**24, 1]), np.float32([2**24 - 1, 2**24, np.nan])
    np.testing.assert_array_equal(depth_levels(np.zeros(2), depth), [1, 0])
    np.testing.assert_array_equal(frequency_levels(np.zeros(3), revisit), [1, 0, np.nan])


def test_mixture_is_null_where_frequency_is():
    deep, often = np.array([1.0, 4.0, 2.0]), np.array([3.0, 0.0, np.nan])
    np.testing.assert_array_equal(task_levels("mixture", deep, often, 0.5), [2.0, 2.0, np.nan])
    np.testing.assert_array_equal(task_levels("mixture", deep, often, 1.0), [1.0, 4.0, np.nan])
    np.testing.assert_array_equal(task_levels("mixture", deep, often, 0.25), [2.5, 1.0, np.nan])


def test_each_task_has_its_levels():
    deep, often = np.array([1.0, 4.0]), np.array([3.0, np.nan])
    expected = {"depth": deep, "frequency": often, "mixture": [1.4, np.nan]}
    assert set(TASKS) == set(expected)
    for task in TASKS:
        np.testing.assert_allclose(task_levels(task, deep, often, 0.8), expected[task])
        assert task_levels(task, deep.astype(int), often.astype(np.float32), 0.8).dtype == np.float64
    with pytest.raises(KeyError, match="revenue"):
        task_levels("revenue", deep, often, 0.5)


def test_no_sessions():
    with np.errstate(all="raise"):
        assert depth_levels(np.zeros(0), np.zeros(0)).shape == (0,)
        assert frequency_levels(np.zeros(0), np.zeros(0)).shape == (0,)
