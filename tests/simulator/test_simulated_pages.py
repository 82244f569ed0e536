"""Pages of the simulator against plain computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from prefrec_ray.bench.laws.topics import MOST
from prefrec_ray.bench.worlds import world_of
from prefrec_ray.errors import UserError
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.law import SimulatedWorld, generator
from prefrec_ray.simulator.rollout import EXAMINED, logged_history, outcome, start_of_log
from prefrec_ray.simulator.servers import OneOfBest
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block

SETTINGS = SimulateSettings(users=80, requests=30, items=300, seed=4, truth=True)
RULES = WorldSettings(tastes=2, no_repeats=True, tiring=2.0, drift=0.3, leaving=0.1)


def worlds(page: int) -> dict[str, SimulatedWorld]:
    changes = {"users": 80, "requests": 30, "page": page}
    return {
        "own law": World(SETTINGS.model_copy(update={"page": page})),
        "rules": World(SETTINGS.model_copy(update={"page": page, "world": RULES})),
        "topics": world_of("topics", **changes),
        "creators": world_of("creators", **changes),
    }


@pytest.mark.parametrize("name", ["own law", "rules", "topics", "creators"])
def test_pages_of_one_item_are_a_plain_loop(name: str) -> None:
    world = worlds(1)[name]
    crowd, server = start_of_log(world, 0)
    steps = []
    for _ in range(int(crowd.requests.max())):
        now, made = crowd.time_ms, ~crowd.gone
        rows, propensity = server.serve(now, crowd.excluded())
        response = crowd.show(rows)
        server.observe(now, rows, response.feedback)
        steps.append((made, now, rows, np.float32(propensity), response.feedback, response.satisfaction))
    made, now, rows, propensity, feedback, satisfaction = (
        np.stack(column, axis=1) for column in zip(*steps, strict=True)
    )
    made &= np.arange(made.shape[1]) < crowd.requests[:, None]
    log = log_block(world, 0)
    assert log.column_names == ["user_id", "item_id", "timestamp", "propensity", *world.feedback, "satisfaction"]
    expected = [made.nonzero()[0], rows[made], now[made], propensity[made], *feedback[made].T, satisfaction[made]]
    for column, values in zip(log.columns, expected, strict=True):
        np.testing.assert_array_equal(column.to_numpy(), values)


@pytest.mark.parametrize("page", [2, 5])
@pytest.mark.parametrize("name", ["own law", "rules", "topics", "creators"])
def test_a_log_has_whole_pages_of_distinct_items(name: str, page: int) -> None:
    world = worlds(page)[name]
    _, history = logged_history(world, 0)
    log = log_block(world, 0).to_pandas()
    assert (log.position.to_numpy() == np.tile(np.arange(page), len(log) // page)).all()
    pages = log.groupby("page")
    assert (pages.size() == page).all()
    assert (pages.item_id.nunique() == page).all()
    assert (pages.timestamp.nunique() == 1).all()
    assert log.examined[log.position == 0].all()
    assert not log.loc[~log.examined, list(world.feedback)].any(axis=None)
    if name in ("rules", "creators"):  # no item twice, examined or not
        assert not log.duplicated(["user_id", "item_id"]).any()
    # The examined rows are the impressions of the history, in order.
    made, seen = history.made, log[log.examined]
    np.testing.assert_array_equal(seen.item_id, history.rows[made])
    np.testing.assert_array_equal(seen[list(world.feedback)], history.feedback[made])
    np.testing.assert_array_equal(seen.satisfaction, history.satisfaction[made])
    before = log.satisfaction.shift()[~log.examined]
    np.testing.assert_array_equal(log.satisfaction[~log.examined], before)


def test_positions_are_examined_with_decaying_probability_until_the_session_ends() -> None:
    stays, leaves = (World(SETTINGS.model_copy(update={"page": 4})) for _ in range(2))
    stays.stay_base, leaves.stay_base = 50.0, -50.0
    log = log_block(stays, 0).to_pandas()
    whole = log[log.page < log.groupby("user_id").page.transform("max")]  # the last page may be cut
    share = whole.groupby("position").examined.mean().to_numpy()
    assert np.abs(share - EXAMINED ** np.arange(4)).max() < 4 * 0.5 / np.sqrt(len(whole) / 4)
    left = log_block(leaves, 0).to_pandas()
    assert (left.examined == (left.position == 0)).all()


@pytest.mark.parametrize("name", ["own law", "rules"])
def test_propensities_are_given_the_items_before(name: str) -> None:
    """The mean of u / propensity is 1 at each position, with u uniform over the remaining items."""
    world = worlds(3)[name]
    log = log_block(world, 0).to_pandas()
    shown = log.groupby("user_id").cumcount() if name == "rules" else log.position
    inverse = 1 / ((world.settings.items - shown) * log.propensity)
    for position in range(3):
        own = inverse[log.position == position]
        by_user = own.groupby(log.user_id).mean()
        assert abs(by_user.mean() - 1) < 4 * by_user.std() / np.sqrt(len(by_user))


def test_depth_is_of_impressions_and_times_away_of_pages() -> None:
    world = World(SETTINGS.model_copy(update={"page": 5}))
    _, history = logged_history(world, 0)
    opened = pd.DataFrame(log_block(world, 0).to_pandas()).drop_duplicates("page")
    opened["session"] = (opened.groupby("user_id").timestamp.diff() > 1_800_000).groupby(opened.user_id).cumsum()
    visits = opened.groupby(["user_id", "session"]).timestamp.agg(["min", "max", "size"])
    away = (visits["min"].groupby("user_id").shift(-1) - visits["max"]).groupby("user_id").mean()
    found = outcome(history, np.ones(80), np.ones(80), 0.5)
    np.testing.assert_allclose(found.depth, 5 * visits["size"].groupby("user_id").mean())
    np.testing.assert_allclose(found.revisit_hours, away / 3.6e6)


def test_the_best_known_page_counts_its_own_items() -> None:
    """In `topics` no item is the fifth of its topic among 30, if users examine whole pages."""
    world = world_of("topics", users=8, page=5)
    crowd, everyone = world.crowd(np.arange(8), generator(0, 4)), np.arange(8)
    server = OneOfBest(crowd, world.controls["best known"], generator(0, 5))
    for number in range(8):
        before = crowd.recent.copy()
        rows, _ = server.serve_pages(everyone, crowd.time_ms, None, 5)
        np.testing.assert_array_equal(crowd.recent, before)
        for position in range(5):
            counts = world.counts(crowd)[everyone, world.topic[rows[:, position]]]
            assert counts.max() < MOST, (number, position)
            crowd.show(rows[:, position])


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="expected a page of at most 300 items; found 301"):
        SimulateSettings(items=300, page=301)
    few = SETTINGS.model_copy(update={"page": 10, "items": 60, "world": WorldSettings(no_repeats=True)})
    with pytest.raises(UserError, match="found no items left for a user"):
        log_block(World(few), 0)


def test_feedback_is_in_the_order_of_the_law() -> None:
    log = log_block(World(SETTINGS.model_copy(update={"page": 5})), 0)
    assert log.column_names == [
        *("user_id", "item_id", "timestamp", "propensity", *FEEDBACK),
        *("page", "position", "examined", "satisfaction"),
    ]
