"""Error of a back-test: the known error of the users most like the policy, and about 0 if errors have no relation."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.users.checks import backtest_error


def histories(seed: int, users: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Histories of users in the log, and under a policy that raises the first of three inputs."""
    logged = np.random.default_rng(seed).standard_normal((users, 3)).astype(np.float32)
    return logged, logged[: users // 2] + np.float32([4.0, 0.0, 0.0])


@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_an_error_that_grows_towards_the_policy_is_found(slope: float) -> None:
    logged, policy = histories(0)
    error = slope * logged[:, 0] + 0.2 * np.random.default_rng(1).standard_normal(len(logged))
    # The mean of the highest quarter of standard normal numbers is 1.27.
    assert backtest_error(error, logged, policy) == pytest.approx(0.3 * 1.27, rel=0.15)
    unit = np.float32([1.0, 1000.0, 0.01])
    assert backtest_error(error, logged * unit, policy * unit) == pytest.approx(
        backtest_error(error, logged, policy), rel=0.01
    )
    assert backtest_error(slope * logged[:, 1], logged, policy) < 0.08  # another direction


def test_errors_without_a_relation_are_mostly_none() -> None:
    found = []
    for seed in range(60):
        logged, policy = histories(seed)
        error = 1.0 + np.random.default_rng(1000 + seed).standard_normal(len(logged))
        found.append(backtest_error(error, logged, policy))
    assert np.mean(found) < 0.05  # the sampling error of the quarter is .06
    assert np.median(found) == 0.0


def test_users_without_a_level_and_equal_histories_do_not_count() -> None:
    logged, policy = histories(0)
    error = np.where(np.arange(len(logged)) < 50, np.nan, 0.3 * logged[:, 0])
    assert backtest_error(error, logged, policy) == backtest_error(error[50:], logged[50:], policy)
    assert backtest_error(error, np.ones_like(logged), policy) == 0.0
    assert backtest_error(error[:52], logged[:52], policy) == 0.0
    logged[50:60], policy[:9] = np.nan, np.nan  # users without an examined impression
    assert backtest_error(error, logged, policy) == backtest_error(error[60:], logged[60:], policy[9:])
    assert backtest_error(error, logged, policy[:9]) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_an_error_is_found_in_one_of_many_correlated_directions(seed: int) -> None:
    """60 inputs follow three factors. Users differ most in two of them, the policy moves the third, which is weaker."""
    rng = np.random.default_rng(seed)
    users, scale = 400, np.array([1.0, 3.0, 3.0])
    factors = rng.standard_normal((users, 3)) * scale
    into = rng.standard_normal((3, 60))
    into[0] = np.arange(60) < 6
    logged = factors @ into + 0.3 * rng.standard_normal((users, 60))
    moved = rng.standard_normal((users // 2, 3)) * scale + [3.0, 0.0, 0.0]
    policy = moved @ into + 0.3 * rng.standard_normal((users // 2, 60))
    error = 0.3 * factors[:, 0] + 0.2 * rng.standard_normal(users)
    assert backtest_error(error, logged, policy) == pytest.approx(0.3 * 1.27, rel=0.25)
    other = 0.3 * factors[:, 1] / 3 + 0.2 * rng.standard_normal(users)
    assert backtest_error(other, logged, policy) < 0.1
