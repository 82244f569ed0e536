"""Tastes and random intercepts against their true values, and against a search."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from prefrec_ray.users.histories import Histories
from prefrec_ray.users.traits import Known, Spread, Tastes, covariances, intercepts, spread_of

ALONG = np.array([0.8, -0.6, 0.0])


def histories(users: int, requests: int, tastes: float, seed: int = 0) -> tuple[Histories, np.ndarray]:
    """Two kinds of feedback of random items of three numbers; one half of the users likes what lies `ALONG`, the other
    half the opposite; and the true covariances [U, 2, 3]. The second kind is noise."""
    rng = np.random.default_rng(seed)
    n = users * requests
    action = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    user = np.repeat(np.arange(users), requests)
    sign = np.where(np.arange(users) % 2, 1.0, -1.0)
    like = tastes * sign[user] * (action @ ALONG) + rng.normal(size=n)
    true = np.zeros((users, 2, 3))
    true[:, 0] = tastes * sign[:, None] * ALONG / 3
    feedback = np.stack([like, rng.normal(size=n)], axis=1).astype(np.float32)
    starts, zero, none = np.arange(users) * requests, np.zeros(n, np.int64), np.zeros((n, 0))
    means = np.ones(users)
    state, last = np.zeros((n, 1)), (zero, zero, zero, zero)
    data = Histories(starts, zero, zero, zero, state, action, feedback, none, means, means, *last)
    return data, true


def test_covariances_are_those_of_each_user() -> None:
    data, _ = histories(users=4, requests=9, tastes=1.0)
    covariance = covariances(data).reshape(4, 2, 3)
    kept = np.arange(36) % 2 == 0
    half = covariances(data, kept).reshape(4, 2, 3)
    for user in range(4):
        for rows, given in ((data.user == user, covariance), ((data.user == user) & kept, half)):
            both = np.cov(np.hstack([data.feedback[rows], data.action[rows]]).T, bias=True)
            np.testing.assert_allclose(given[user], both[:2, 2:], atol=1e-6)


def test_tastes_lose_their_noise_and_their_products_are_not_too_weak() -> None:
    data, true = histories(users=500, requests=40, tastes=1.0)
    tastes = Tastes.from_histories(data)
    assert len(tastes.signal) == 1
    raw, denoised = covariances(data).reshape(true.shape), tastes(data)
    assert np.square(denoised - true).mean() < 0.3 * np.square(raw - true).mean()
    items = np.random.default_rng(1).uniform(-1, 1, (100, 3))

    def slope(known: np.ndarray) -> float:
        """Return the regression slope of true liking on these tastes."""
        estimated, liked = (known[:, 0] @ items.T).ravel(), (true[:, 0] @ items.T).ravel()
        return float(estimated @ liked / (estimated @ estimated))

    assert slope(denoised) == pytest.approx(1.0, abs=0.05)
    assert slope(raw) < 0.85


def test_a_users_tastes_are_believed_as_far_as_its_log_is_long() -> None:
    tastes = Tastes.from_histories(histories(users=500, requests=40, tastes=0.5)[0])
    few, _ = histories(users=1, requests=10, tastes=0.5, seed=3)
    four = np.concatenate([np.arange(10)] * 4)
    many = replace(few, **{name: getattr(few, name)[four] for name in ("timestamp", "row", "action", "feedback")})
    far = [np.abs(tastes(data) - tastes.mean.reshape(2, 3)).max() for data in (few, many)]
    assert 0 < far[0] < 0.6 * far[1]


def test_where_tastes_are_noise_all_users_have_the_same() -> None:
    data, _ = histories(users=500, requests=40, tastes=0.0)
    tastes = Tastes.from_histories(data)
    assert len(tastes.signal) == 0
    np.testing.assert_allclose(tastes(data), np.broadcast_to(tastes.mean.reshape(2, 3), (500, 2, 3)), atol=1e-6)
    none = replace(data, feedback=data.feedback[:, :0])
    assert Tastes.from_histories(none)(none).shape == (500, 0, 3)


def test_intercepts_are_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    user, ends = np.repeat([0, 1, 2], [30, 5, 1]), rng.random(36) < 0.3
    stays, away, prior = rng.normal(size=36), rng.normal(size=36) + 0.5, Spread(0.4, 0.2, 0.7)
    estimates = intercepts(Known(user, 4, ends, stays, away), prior)
    for one in range(3):
        own = user == one

        def loss(u: np.ndarray, own: np.ndarray = own) -> float:
            logit = stays[own] + u[0]
            misses = np.logaddexp(0, logit) - ends[own] * logit + 0.5 * ends[own] * (away[own] - u[1]) ** 2 / 0.7
            return float(misses.sum() + (0.5 * u**2 / prior[:2]).sum())

        np.testing.assert_allclose(estimates[one], minimize(loss, np.zeros(2)).x, atol=1e-4)
    np.testing.assert_array_equal(estimates[3], 0)  # a user without impressions
    never = intercepts(Known(user, 4, np.zeros(36, bool), stays + 8.0, away), Spread(stays=100.0))
    assert ((never[:3, 0] > -20) & (never[:3, 0] < -4)).all()  # full Newton steps overshoot by far


def test_intercepts_are_found_if_predictions_are_extreme() -> None:
    """Ends that were hardly expected: Newton's method from zero would leave the range of floats."""
    user, ends = np.repeat([0, 1], 40), np.arange(80) % 4 == 0
    stays = np.where(user == 0, -7.0, 7.0)
    prior = Spread(2.2, 1.0, 1.0)
    for one, found in enumerate(intercepts(Known(user, 2, ends, stays, np.zeros(80)), prior)[:, 0]):
        chance = 1 / (1 + np.exp(-(stays + found)))
        assert (ends - chance)[user == one].sum() == pytest.approx(found / prior.stays, abs=1e-3)


def test_the_spread_of_intercepts_is_found_again() -> None:
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(400), 100)
    own = rng.normal(size=(400, 2)) * np.sqrt([0.5, 0.2])
    stays, noise = rng.normal(size=len(user)) - 1.0, 0.3 * rng.normal(size=len(user))
    ends = rng.random(len(user)) < 1 / (1 + np.exp(-(stays + own[user, 0])))
    known = Known(user, 400, ends, stays, own[user, 1] + noise)
    start = spread_of(known, Spread())
    spread = spread_of(known, start)
    np.testing.assert_allclose(spread, [0.5, 0.2, 0.09], rtol=0.2)
    some = known._replace(user=known.user * 2, users=900)  # others have no impressions here
    np.testing.assert_allclose(spread_of(some, start), spread)
    assert spread_of(known._replace(ends=np.zeros(len(user), bool)), spread) == spread
    assert np.isfinite(spread_of(known._replace(error=np.zeros(len(user))), spread)).all()
    alike = known._replace(ends=rng.random(len(user)) < 1 / (1 + np.exp(-stays)), error=noise)
    for _ in range(2):
        spread = spread_of(alike, spread)
    assert max(spread[:2]) < 0.02
