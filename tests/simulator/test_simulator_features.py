"""User features of the platform, and their columns in the state vector."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.simulator.catalogue import CATEGORIES
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.settings import EMBEDDING_DIM, SimulateSettings
from prefrec_ray.simulator.world import World


def test_the_state_is_245_wide():
    assert StateDefinition(feedback=FEEDBACK, user_features=CATEGORIES, action_dim=EMBEDDING_DIM).width == 245


def test_features_hint_at_traits_and_some_are_unknown():
    traits = World(SimulateSettings(users=4000)).traits(np.arange(4000))
    for name, trait, sign in (
        ("activity", traits.log_gap, -1),
        ("age", traits.patience, 1),
        ("persona", traits.generosity, 1),
    ):
        values = traits.features[name]
        known = np.array([value is not None for value in values])
        assert 1 - known.mean() == pytest.approx(0.02, abs=0.01)
        code = np.array([CATEGORIES[name].index(value) for value in values[known]])
        # The trait seen through equal noise (correlation .71), in bands.
        assert 0.55 < sign * np.corrcoef(code, trait[known])[0, 1] < 0.8, name
        assert np.bincount(code).min() > 0.8 * known.sum() / len(CATEGORIES[name])
    assert set(traits.features["brand"]) - {None} == set(CATEGORIES["brand"])


def test_traits_of_a_user_do_not_depend_on_who_else_is_asked_for():
    world = World(SimulateSettings(users=2000))
    everybody, some = world.traits(np.arange(2000)), np.array([3, 255, 256, 1999])
    few = world.traits(some)
    np.testing.assert_array_equal(few.log_gap, everybody.log_gap[some])
    np.testing.assert_array_equal(few.start_ms, everybody.start_ms[some])
    for name in CATEGORIES:
        assert few.features[name].tolist() == everybody.features[name][some].tolist()
