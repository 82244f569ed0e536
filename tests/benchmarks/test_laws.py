"""Properties of every law of the truth bench."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.bench.worlds import DEVELOPMENT, VALIDATION, world_of
from prefrec_ray.engagement import levels_against, session_table, user_means
from prefrec_ray.simulator.law import CrowdServer, SimulatedWorld, generator
from prefrec_ray.simulator.rollout import History, roll_out
from prefrec_ray.simulator.servers import OneOfBest
from tests.benchmarks.test_laws_plainly import LAWS
from tests.simulator.excluding import NeverExcluded

REQUESTS = 60
NAMES = (*DEVELOPMENT, *VALIDATION)


def history_of(world: SimulatedWorld, users: np.ndarray, seed: int = 0) -> History:
    crowd = world.crowd(users, generator(seed, 90))
    return roll_out(crowd, NeverExcluded(world.logging_policy(crowd, generator(seed, 91))), REQUESTS)


def test_the_halves_are_fixed_and_equally_large() -> None:
    assert not set(DEVELOPMENT) & set(VALIDATION)
    assert len(DEVELOPMENT) == len(VALIDATION)
    assert set(NAMES) == set(LAWS)
    assert {"topics", "creators"} <= set(DEVELOPMENT)


@pytest.mark.parametrize("name", NAMES)
def test_histories_are_in_range_and_equal_for_equal_seeds(name: str) -> None:
    world, users = world_of(name), np.arange(40)
    history = history_of(world, users)
    assert history.feedback.shape == (40, REQUESTS, len(world.feedback))
    for column, values in zip(world.feedback, np.moveaxis(history.feedback, 2, 0), strict=True):
        assert values.min() >= 0
        assert values.max() <= (3 if column == "watch_ratio" else 1)
        assert column == "watch_ratio" or set(np.unique(values)) == {0, 1}
    assert 0 <= history.satisfaction.min() < history.satisfaction.max() <= 1
    assert 0 < history.propensity.min() <= history.propensity.max() <= 1
    assert (np.diff(history.time_ms, axis=1) > 0).all()
    # Sessions end after a pause of 30 minutes, as in a log without session ids.
    np.testing.assert_array_equal(np.diff(history.session, axis=1), np.diff(history.time_ms, axis=1) > 1_800_000)
    again, other = history_of(world_of(name), users), history_of(world, users, seed=1)
    for field in ("rows", "time_ms", "feedback", "satisfaction", "propensity"):
        np.testing.assert_array_equal(getattr(again, field), getattr(history, field))
    assert (other.rows != history.rows).any()


@pytest.mark.parametrize("name", NAMES)
def test_traits_of_a_user_do_not_depend_on_the_others(name: str) -> None:
    world = world_of(name)
    many, few = (world.crowd(users, generator(0, 90)) for users in (np.arange(250, 300), np.array([255, 256, 270])))
    np.testing.assert_array_equal(many.time_ms[[5, 6, 20]], few.time_ms)
    for feature in world.categories:
        assert list(many.features[feature][[5, 6, 20]]) == list(few.features[feature])


@pytest.mark.parametrize("name", NAMES)
def test_items_have_embeddings_or_categories(name: str) -> None:
    world = world_of(name)
    items = world.items().to_pandas()
    assert list(items.item_id) == list(range(world.settings.items))
    if "embedding" in items:
        assert np.abs(np.stack(items.embedding)).max() <= 1
    else:
        assert all(items[kind].nunique() > 1 for kind in items.columns[1:])


@pytest.mark.parametrize("name", NAMES)
def test_the_best_known_policy_is_above_the_logging_policy(name: str) -> None:
    world, users, requests = world_of(name), 40, 150
    tables = []
    for best in (False, True):
        crowd, rng = world.crowd(np.arange(users), generator(0, 90)), generator(0, 91)
        server: CrowdServer = (
            OneOfBest(crowd, world.controls["best known"], rng) if best else world.logging_policy(crowd, rng)
        )
        history = roll_out(crowd, server, requests)
        user = np.repeat(np.arange(users), requests)[history.made.ravel()]
        tables.append(session_table(user, history.time_ms[history.made], history.session[history.made]))
    logged = tables[0]
    means = [user_means(logged.user, values, users) for values in (logged.depth, logged.revisit_ms)]
    found = [levels_against(table, *means, 0.5) for table in tables]
    assert max(np.nanmean(found[1][task]) - np.nanmean(found[0][task]) for task in ("depth", "frequency")) > 0.5
