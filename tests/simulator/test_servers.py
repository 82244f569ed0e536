"""The logging policy against its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.law import generator
from prefrec_ray.simulator.servers import LoggingPolicy, OneOfBest, clickbait, nutrition
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World


def crowd(settings: SimulateSettings, users: int, **law: object) -> Crowd:
    """Users in a world with other constants `law`."""
    world = World(settings)
    for name, value in law.items():
        setattr(world, name, value)
    return Crowd(world, world.traits(np.arange(users)), generator(0, 4))


def test_the_click_chaser_is_a_softmax_over_its_slate():
    """With two items and a slate of two: both equal with chance 1/4 each, else a logistic choice (Gumbel noise)."""
    many = crowd(SimulateSettings(items=2), users=400_000, slate=2, strength=(3.0, 3.0))
    rows, _ = LoggingPolicy(many, generator(0, 5)).serve(many.time_ms, None)
    first, second = (float(degree) for degree in many.world.clickbait[0])
    expected = 0.25 + 0.5 / (1 + np.exp(-3.0 * (second - first)))
    assert rows.mean() == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("regimes", [True, False])
def test_regimes_change_within_a_history_or_not_at_all(regimes):
    settings = SimulateSettings(items=50, regimes=regimes)
    users = crowd(settings, users=200, strength=(-2.0, 5.0), regime_requests=(20, 40))
    server, seen = LoggingPolicy(users, generator(0, 5)), []
    for _ in range(300):
        rows, _ = server.serve(users.time_ms, None)
        server.observe(users.time_ms, rows, np.empty((200, 0)))
        seen.append(server.strength.copy())
    strength = np.array(seen)
    assert strength.min() >= -2
    assert strength.max() <= 5
    assert np.ptp(strength[0]) > 5
    for user in strength.T:
        changes = np.flatnonzero(np.diff(user)) + 1
        if not regimes:
            assert len(changes) == 0
            continue
        lengths = np.diff([0, *changes])
        assert lengths.min() >= 20
        assert lengths.max() <= 40
        assert 300 - changes[-1] <= 40


def test_servers_by_hand_know_the_truth():
    users = crowd(SimulateSettings(items=300), users=1000)
    (degree,) = users.world.clickbait
    order = np.argsort(degree)
    for cost, expected in ((nutrition, order[:10]), (clickbait, order[-10:])):
        served = OneOfBest(users, cost, generator(0, 5)).serve(users.time_ms, None)
        assert set(served.rows.tolist()) == set(expected.tolist())
        assert served.propensity == 0.1


def test_opposite_tastes_want_opposite_items():
    settings = SimulateSettings(users=600, items=300, world=WorldSettings(tastes=2))
    world, plain = World(settings), World(SimulateSettings(users=600, items=300))
    np.testing.assert_allclose(world.clickbait[0], 1 - world.clickbait[1], atol=1e-6)
    np.testing.assert_array_equal(world.clickbait[:1], plain.clickbait)

    traits, plain_traits = world.traits(np.arange(600)), plain.traits(np.arange(600))
    np.testing.assert_array_equal(traits.patience, plain_traits.patience)
    assert set(traits.taste.tolist()) == {0, 1}
    assert not plain_traits.taste.any()
    # With equal users, the logging policy shows each user the clickbait of this user.
    world.strength = (4.0, 4.0)
    users = Crowd(world, traits, generator(0, 4))
    rows, _ = LoggingPolicy(users, generator(0, 5)).serve(users.time_ms, None)
    assert world.clickbait[traits.taste, rows].mean() > 0.7
    assert abs(world.clickbait[0, rows].mean() - 0.5) < 0.1
    best, _ = OneOfBest(users, nutrition, generator(0, 5)).serve(users.time_ms, None)
    assert world.clickbait[traits.taste, best].max() < 0.1


def test_a_taste_shows_in_one_feature_with_noise():
    world = World(SimulateSettings(users=6000, items=20, world=WorldSettings(tastes=2)))
    traits = world.traits(np.arange(6000))
    known = np.array([value is not None for value in traits.features["interest"]])
    number = np.array([int(value.split()[1]) for value in traits.features["interest"][known]])
    taste = traits.taste[known]
    right = ((number > 12) == (taste == 1)).mean()
    # A trait of +-1 behind standard normal noise: Phi(1).
    assert abs(right - 0.8413) < 0.02


def test_more_tastes_come_in_opposite_pairs():
    directions = World(SimulateSettings(items=20, world=WorldSettings(tastes=5))).directions
    assert directions.shape == (5, 8)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions[[0, 2]], -directions[[1, 3]])
    assert abs(directions[0] @ directions[2]) < 0.99
