"""Effects of items by time of day: recovered from feedback with a known effect, and about 0 if there is none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_users import ITEMS, histories

from prefrec_ray.mdp.state import DAY_MS, time_columns
from prefrec_ray.users.effects import Effects
from prefrec_ray.users.histories import Histories

WEEK_MS = 7 * DAY_MS


def times(data: Histories, seed: int) -> np.ndarray:
    """Return the time columns of impressions at any time of the week, centered."""
    columns = time_columns(np.random.default_rng(seed).integers(0, WEEK_MS, len(data.row)))
    return columns - columns.mean(axis=0)


def effects_of(data: Histories, time: np.ndarray, truth: np.ndarray, seed: int) -> Effects:
    """Return the effects if feedback is `truth` [N] and noise of variance 1."""
    noise = np.random.default_rng((seed, 1)).normal(size=len(truth))
    data = replace(data, feedback=(truth + noise)[:, None].astype(np.float32))
    return Effects.from_histories(data, ITEMS.kinds, time)


def on_feedback(effects: Effects, data: Histories, time: np.ndarray) -> np.ndarray:
    """Return the estimated effects on feedback [N] for users outside of the fit."""
    return effects.at(data.row, data.action, time, np.full(len(data.row), 2))[:, 0]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), strength=st.floats(0.5, 2.0))
def test_an_effect_of_the_hour_is_found_in_the_half_that_has_it(seed: int, strength: float) -> None:
    data = histories(users=200, requests=60, seed=seed)
    time = times(data, seed)
    product = strength * time[:, 0] * data.action[:, 1]
    found = on_feedback(effects_of(data, time, product, seed), data, time)
    assert np.polyfit(product, found, 1)[0] == pytest.approx(1.0, abs=0.15)
    assert np.corrcoef(product, found)[0, 1] > 0.95
    effects = effects_of(data, time, np.where(data.user % 2 == 0, product, 0.0), seed)
    even, odd, _ = effects.by_time[:, 1, 0, 0]
    assert even == pytest.approx(strength, rel=0.3)
    assert abs(odd) < 0.15


def test_without_an_effect_of_the_hour_little_is_found() -> None:
    """Least squares would have the error of 20 slopes: ten independent columns of time, two of the embedding."""
    sizes = []
    for seed in range(10):
        data = histories(users=100, requests=60, seed=seed)
        time = times(data, seed)
        effects = effects_of(data, time, data.action[:, 0], seed)
        by_time = replace(effects, of_kinds=np.zeros_like(effects.of_kinds))
        sizes.append(on_feedback(by_time, data, time).var())
    assert np.mean(sizes) < 0.6 * 20 / 6000
