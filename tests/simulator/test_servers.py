"""The logging policy against its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.simulator.servers import BEST_ITEMS, ClickChaser, OneOf, clickbait_rows, nutrition_rows
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World, generator


def test_the_click_chaser_is_a_softmax_over_its_slate():
    """With two items and a slate of two: both equal with chance 1/4 each, else a logistic choice (Gumbel noise)."""
    settings = SimulateSettings(items=2, world=WorldSettings(slate=2, strength=(3.0, 3.0)))
    world = World(settings)
    rows = ClickChaser(world, 400_000, generator(0, 5)).serve(np.zeros(400_000, np.int64))
    first, second = (float(degree) for degree in world.clickbait)
    expected = 0.25 + 0.5 / (1 + np.exp(-3.0 * (second - first)))
    assert rows.mean() == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("regimes", [True, False])
def test_regimes_change_within_a_history_or_not_at_all(regimes):
    settings = SimulateSettings(
        items=50, regimes=regimes, world=WorldSettings(strength=(-2.0, 5.0), regime_requests=(20, 40))
    )
    server, seen = ClickChaser(World(settings), 200, generator(0, 5)), []
    for _ in range(300):
        server.serve(np.zeros(200, np.int64))
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
    world = World(SimulateSettings(items=300))
    worst, best = clickbait_rows(world), nutrition_rows(world)
    others = np.delete(np.arange(300), np.r_[worst, best])
    assert len(worst) == len(best) == BEST_ITEMS
    assert world.clickbait[best].max() < world.clickbait[others].min()
    assert world.clickbait[worst].min() > world.clickbait[others].max()
    served = OneOf(best, generator(0, 5)).serve(np.zeros(1000, np.int64))
    assert set(served.tolist()) == set(best.tolist())
