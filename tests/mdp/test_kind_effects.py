"""Effects of kinds: recovered from errors with known effects, and 0 if there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.mdp.kinds import kind_effects

USERS, REQUESTS, KINDS = 400, 100, 30


def made(seed: int, deviation: float, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return errors, users and codes of two kinds of items, and the true effects of the first kind."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USERS), REQUESTS)
    codes = rng.integers(0, KINDS, (len(users), 2)).astype(np.int32)
    effect = deviation * rng.standard_normal(KINDS)
    errors = effect[codes[:, 0]] + noise * rng.standard_normal(len(users))
    return errors + 10.0 * rng.standard_normal(USERS)[users], users, codes, effect - effect.mean()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9999), deviation=st.floats(0.05, 2.0))
def test_known_effects_are_found_whatever_the_means_of_users(seed: int, deviation: float) -> None:
    errors, users, codes, effect = made(seed, deviation)
    first, second = kind_effects(errors, users, codes)
    standard_error = np.sqrt(KINDS / len(users))
    assert np.sqrt(np.square(first - effect).mean()) < 2 * standard_error
    assert np.abs(second).max() < 4 * standard_error


def test_means_without_an_effect_are_shrunk() -> None:
    plain, shrunk = [], []
    for seed in range(20):
        errors, users, codes, _ = made(seed, 0.0)
        first, _ = kind_effects(errors, users, codes)
        within = errors - (np.bincount(users, errors) / REQUESTS)[users]
        plain.append(np.square(np.bincount(codes[:, 0], within) / np.bincount(codes[:, 0])).mean())
        shrunk.append(np.square(first).mean())
    assert np.mean(shrunk) < 0.3 * np.mean(plain)
    assert np.mean([value == 0 for value in shrunk]) > 0.3  # halves agree by chance in half of the logs


def test_unknown_kinds_have_no_effect_and_rare_kinds_little() -> None:
    errors, users, codes, effect = made(0, 1.0)
    codes[:, 1] = -1
    codes[:3, 0] = KINDS  # three impressions of three users, with errors of about 3
    users[:3] = range(3)
    errors[:3] = errors[[3, REQUESTS, 2 * REQUESTS]] + 3.0
    first, second = kind_effects(errors, users, codes)
    assert second.size == 0
    assert first[:KINDS] == pytest.approx(effect, abs=0.3)
    plain = errors[:3] - [errors[users == user].mean() for user in range(3)]
    assert 0 < first[KINDS] < 0.9 * plain.mean()


def test_a_kind_that_nobody_saw_has_no_effect_if_there_is_no_noise() -> None:
    users, codes = np.array([0, 0, 1, 1]), np.array([[0], [2], [0], [2]], np.int32)
    (effect,) = kind_effects(np.array([3.0, 1.0, 3.0, 1.0]), users, codes)
    np.testing.assert_allclose(effect, [1.0, 0.0, -1.0])
