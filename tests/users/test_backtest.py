"""Error of a back-test: the known error at the policy's histories, and about 0 if errors have no relation to them."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.users.checks import backtest_error

PARTS = 6


def histories(seed: int, users: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Histories [users, PARTS, 3] in the log, and under a policy that raises the first of three inputs by 4."""
    logged = np.random.default_rng(seed).standard_normal((users, PARTS, 3)).astype(np.float32)
    return logged, logged[: users // 2] + np.float32([4.0, 0.0, 0.0])


def noise(seed: int, scale: float, users: int = 100) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((users, PARTS))


@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_an_error_that_grows_towards_the_policy_is_found(slope: float) -> None:
    logged, policy = histories(0)
    error = slope * logged[..., 0] + noise(1, 0.2)
    assert backtest_error(error, logged, policy) == pytest.approx(0.3 * 4.0, rel=0.1)
    # Users of any level, as their intercepts leave it, and in any unit of the inputs.
    apart = error + 5.0 * np.arange(len(error))[:, None]
    assert backtest_error(apart, logged, policy) == pytest.approx(backtest_error(error, logged, policy), rel=1e-6)
    unit = np.float32([1.0, 1000.0, 0.01])
    assert backtest_error(error, logged * unit, policy * unit) == pytest.approx(
        backtest_error(error, logged, policy), rel=0.01
    )
    assert backtest_error(slope * logged[..., 1], logged, policy) < 0.2  # another direction


def test_differences_between_users_are_no_error() -> None:
    """Users whose mean history is like the policy's have other levels, for reasons of their own."""
    logged, policy = histories(0)
    logged = logged + 3.0 * np.random.default_rng(5).standard_normal((len(logged), 1, 3)).astype(np.float32)
    error = logged[..., 0].mean(axis=1, keepdims=True) + np.zeros_like(logged[..., 0])
    assert backtest_error(error, logged, policy) == pytest.approx(0.0, abs=1e-6)


def test_errors_without_a_relation_are_mostly_none() -> None:
    """Also if the errors of a user's parts are alike: the first half, or the second half of a history."""
    found = []
    for seed in range(60):
        logged, policy = histories(seed)
        halves = np.repeat(noise(1000 + seed, 1.0)[:, :2], PARTS // 2, axis=1)
        trend = np.repeat(np.float32([-1.0, 1.0]), PARTS // 2)[None, :, None] * logged[:, :1]
        found.append([backtest_error(1.0 + halves, logged + trend, policy), backtest_error(halves, logged, policy)])
    # An interval of 95 % excludes the truth in about 3 of 60.
    assert (np.count_nonzero(found, axis=0) <= 8).all()
    assert np.count_nonzero(found) > 0


def test_parts_without_a_level_and_equal_histories_do_not_count() -> None:
    logged, policy = histories(0)
    error = np.where(np.arange(len(logged))[:, None] < 50, np.nan, 0.3 * logged[..., 0])
    expected = backtest_error(error, logged, policy)
    assert expected == pytest.approx(backtest_error(error[50:], logged[50:], policy))
    only = error.copy()
    only[50:52, 1:] = np.nan  # a single part has no other to be compared with
    assert backtest_error(only, logged, policy) == pytest.approx(backtest_error(error[52:], logged[52:], policy))
    assert backtest_error(error, np.ones_like(logged), policy) == 0.0
    assert backtest_error(error[:52], logged[:52], policy) == 0.0
    logged[50:60], policy[:9] = np.nan, np.nan  # without an examined impression
    assert backtest_error(error, logged, policy) == pytest.approx(backtest_error(error[60:], logged[60:], policy[9:]))
    assert backtest_error(error, logged, np.full_like(policy, np.nan)) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_an_error_is_found_in_one_of_many_correlated_directions(seed: int) -> None:
    """60 inputs follow three factors. Histories differ most in two of them, the policy moves the third, weaker one."""
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 3.0, 3.0])
    factors = rng.standard_normal((100, PARTS, 3)) * scale
    into = rng.standard_normal((3, 60))
    into[0] = np.arange(60) < 6
    logged = factors @ into + 0.3 * rng.standard_normal((100, PARTS, 60))
    moved = rng.standard_normal((50, PARTS, 3)) * scale + [3.0, 0.0, 0.0]
    policy = moved @ into + 0.3 * rng.standard_normal((50, PARTS, 60))
    error = 0.3 * factors[..., 0] + 0.2 * rng.standard_normal((100, PARTS))
    assert backtest_error(error, logged, policy) == pytest.approx(0.3 * 3.0, rel=0.25)
    other = 0.3 * factors[..., 1] / 3 + 0.2 * rng.standard_normal((100, PARTS))
    assert backtest_error(other, logged, policy) < 0.2
