"""The propensities of a log are the frequencies with which the logging policy shows items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from prefrec_ray.simulator import servers
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.law import generator
from prefrec_ray.simulator.servers import LoggingPolicy, SlatePropensity
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World

DRAWS = 1_000_000


def crowd(law: WorldSettings, strength: float, users: int, items: int, slate: int = 15) -> Crowd:
    world = World(SimulateSettings(users=users, items=items, requests=2, regimes=False, seed=3, world=law))
    world.strength, world.slate = (strength, strength), slate
    return Crowd(world, world.traits(np.arange(users)), generator(0, 4))


def assert_frequencies(count: np.ndarray, propensity: np.ndarray) -> None:
    """Chi-square over all cells that expect five draws or more."""
    expected = propensity * count.sum()
    kept = expected >= 5
    statistic = (np.square(count - expected)[kept] / expected[kept]).sum()
    assert statistic < chi2.ppf(0.999, kept.sum() - 1)


@pytest.mark.parametrize(("strength", "slate"), [(-6.0, 15), (0.0, 15), (10.0, 15), (4.0, 1), (7.0, 3)])
def test_of_a_slate(strength, slate):
    many = crowd(WorldSettings(), strength, users=20_000, items=40, slate=slate)
    server, count = LoggingPolicy(many, generator(0, 5)), np.zeros(40)
    propensity = np.full(40, np.nan)
    for _ in range(DRAWS // 20_000):
        rows, propensities = server.serve(many.time_ms, None)
        count += np.bincount(rows, minlength=40)
        propensity[rows] = propensities
    own = SlatePropensity(many.world.clickbait, np.zeros(1, np.int64), slate)
    every = np.array([own(np.float32([strength]), many.world.clickbait[:, item])[0] for item in range(40)])
    shown = ~np.isnan(propensity)
    np.testing.assert_allclose(propensity[shown], every[shown], rtol=1e-4)
    assert every.sum() == pytest.approx(1, abs=1e-4)
    assert_frequencies(count, every)


def test_the_only_item_is_certain():
    propensity = SlatePropensity(np.full((1, 1), 0.4, np.float32), np.zeros(50, np.int64), 15)
    strength = np.linspace(-6, 10, 50, dtype=np.float32)
    probabilities = propensity(strength, np.full(50, 0.4, np.float32))
    np.testing.assert_allclose(probabilities, 1, rtol=1e-4)
    assert probabilities.max() <= 1


def test_of_many_items_groups_stand_for_the_catalogue(monkeypatch):
    degree = World(SimulateSettings(items=20_000)).clickbait
    users = degree, np.zeros(60, np.int64), 15
    strength, shown = np.linspace(-6, 10, 60, dtype=np.float32), degree[0, :60]
    grouped = SlatePropensity(*users)(strength, shown)
    monkeypatch.setattr(servers, "_GROUPS", 20_000)
    np.testing.assert_allclose(grouped, SlatePropensity(*users)(strength, shown), rtol=1e-3)


@pytest.mark.parametrize("strength", [-6.0, 10.0])
def test_of_all_that_may_be_shown(strength):
    many = crowd(WorldSettings(no_repeats=True, drift=0.5), strength, users=20_000, items=12)
    server, rng = LoggingPolicy(many, generator(0, 5)), np.random.default_rng(0)
    excluded = rng.random((20_000, 12)) < 0.3
    excluded[:, 0] = False
    count, expected = np.zeros((20_000, 12)), np.exp(strength * many.clickbait().astype(float))
    expected[excluded] = 0
    expected /= expected.sum(axis=1, keepdims=True)
    user = np.arange(20_000)
    for _ in range(DRAWS // 20_000):
        rows, propensity = server.serve(many.time_ms, excluded)
        count[user, rows] += 1
        np.testing.assert_allclose(propensity, expected[user, rows], rtol=1e-4)
    assert not count[excluded].any()
    assert_frequencies(count.sum(axis=0), expected.mean(axis=0))
