"""The rules of worlds, each against a plain computation."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.simulator.crowd import Crowd
from prefrec_ray.simulator.law import DAY_MS, EPOCH_MS, Choice, generator
from prefrec_ray.simulator.rollout import History, roll_out
from prefrec_ray.simulator.servers import FirstOf, LoggingPolicy, OneOfBest, RandomItems, clickbait, nutrition
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block
from tests.simulator.excluding import NeverExcluded

RULES = {
    "no repeats": {"no_repeats": True},
    "tiring": {"tiring": 3.0},
    "drift": {"drift": 0.5, "tastes": 2},
    "come and go": {"new_items": 0.1},
    "leaving": {"leaving": 0.1},
    "all at once": {"no_repeats": True, "tiring": 3.0, "drift": 0.5, "tastes": 2, "new_items": 0.1, "leaving": 0.1},
}
BINARY = ("click", "like", "follow", "share", "comment")


def world_of(rule: str, users: int = 128, items: int = 1200, requests: int = 60) -> World:
    return World(
        SimulateSettings(users=users, items=items, requests=requests, seed=7, world=WorldSettings(**RULES[rule]))
    )


def crowd_of(world: World, seed: int = 1) -> Crowd:
    return Crowd(world, world.traits(np.arange(world.settings.users)), generator(seed, 99))


class Rows:
    """Serves everybody the same rows, one after the other, from the start again."""

    def __init__(self, *rows: int) -> None:
        self.rows, self.step = rows, -1

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        self.step += 1
        return Choice(np.full(len(time_ms), self.rows[self.step % len(self.rows)]), 1.0)

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        pass


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        (SimulateSettings(users=300, requests=30, items=100, seed=3), "ae12abacaee0d2c2"),
        (
            SimulateSettings(users=260, requests=30, items=100, seed=4, regimes=False, world=WorldSettings(tastes=4)),
            "187f5cce5a1ccd53",
        ),
    ],
)
def test_without_rules_logs_are_those_of_earlier_versions(settings, digest):
    checksum, world = hashlib.sha256(), World(settings)
    for block in range(world.settings.blocks):
        log = log_block(world, block)
        for name in ("user_id", "item_id", *BINARY):
            checksum.update(log[name].to_numpy().astype(np.int64).tobytes())
    assert checksum.hexdigest().startswith(digest)


@pytest.mark.parametrize("rule", RULES)
def test_nobody_shows_what_may_not_be_shown_and_who_knows_the_truth_does_best(rule):
    world = world_of(rule, requests=150)
    satisfaction = {}
    for name in ("logging policy", "random", "constant", "clickbait", "nutrition"):
        crowd = crowd_of(world)
        server = {
            "logging policy": LoggingPolicy(crowd, generator(1, 5)),
            "random": RandomItems(world.settings.items, generator(1, 5)),
            "constant": FirstOf(np.square(world.embeddings).sum(axis=1).argsort()),
            "clickbait": OneOfBest(crowd, clickbait, generator(1, 5)),
            "nutrition": OneOfBest(crowd, nutrition, generator(1, 5)),
        }[name]
        history = roll_out(crowd, NeverExcluded(server), 150)
        assert history.propensity.min() > 0
        assert history.propensity.max() <= 1
        satisfaction[name] = (history.satisfaction * history.made).mean()
    assert satisfaction["nutrition"] > satisfaction["random"] + 0.15
    assert satisfaction["nutrition"] > satisfaction["logging policy"] + 0.25
    assert satisfaction["clickbait"] < satisfaction["logging policy"]


def test_no_item_comes_twice_to_a_user():
    log = log_block(world_of("no repeats"), 0).to_pandas()
    assert not log.duplicated(["user_id", "item_id"]).any()
    assert log_block(world_of("leaving"), 0).to_pandas().duplicated(["user_id", "item_id"]).any()


def test_likeness_is_the_mean_cosine_to_what_was_shown():
    world = World(SimulateSettings(users=1, items=20, world=WorldSettings(tiring=1.0)))
    world.tiring_half_life = 3.0
    crowd, rows = crowd_of(world), [3, 3, 7, 1, 19]
    for row in rows:
        crowd.show(np.array([row]))
    expected = []
    for e in world.embeddings.astype(float):
        total = 0.0
        for age, row in enumerate(reversed(rows)):
            f = world.embeddings[row].astype(float)
            cosine = (e @ f) / math.sqrt((e @ e) * (f @ f))
            total += cosine * 0.5 ** (age / 3) * (1 - 0.5 ** (1 / 3))
        expected.append(total)
    np.testing.assert_allclose(crowd.likeness()[0], expected, atol=1e-6)
    np.testing.assert_allclose(crowd.likeness(np.array([7])), expected[7], atol=1e-6)


def test_the_same_corner_tires_and_variety_does_not():
    world = world_of("tiring", users=500)
    world.clickbait[:] = 0.4
    corner = np.square(world.embeddings - world.embeddings[0]).sum(axis=1).argsort()[:5]
    same, near, varied = (
        roll_out(crowd_of(world), Rows(*rows), 60).satisfaction[:, -1].mean() for rows in ([0], corner, range(60))
    )
    assert same < near < 0.35 < 0.6 < varied


def test_an_item_lowers_exposure_by_its_likeness():
    world = World(SimulateSettings(users=40, items=20, world=WorldSettings(tiring=2.0)))
    world.innovation = 0.0
    crowd = crowd_of(world)
    for row in (4, 5):
        before, likeness = crowd.exposure.copy(), crowd.likeness(np.full(40, row))
        crowd.show(np.full(40, row))
        degree = world.clickbait[0, row]
        np.testing.assert_allclose(crowd.exposure, 0.965 * before - 2 * (degree - 0.5) - 2 * likeness, rtol=1e-5)
    assert (likeness != 0).all()


def test_a_direction_turns_by_what_is_said_and_to_each_users_own_side():
    world = World(SimulateSettings(users=30, items=50, world=WorldSettings(drift=0.4, tastes=2)))
    crowd = crowd_of(world)
    start = world.directions[crowd.traits.taste]
    np.testing.assert_allclose(crowd.directions(), start)
    for _ in range(250):
        crowd.show(np.zeros(30, np.int64))
    now = crowd.directions()
    np.testing.assert_allclose(np.linalg.norm(now, axis=1), 1)
    np.testing.assert_allclose(np.arccos((start * now).sum(axis=1)), 0.4 * 250 / 100)
    assert len(np.unique(now.round(6), axis=0)) == 30
    expected = [[1 / (1 + math.exp(-3 * float(e @ d))) for e in world.embeddings.astype(float)] for d in now]
    np.testing.assert_allclose(crowd.clickbait(), expected, rtol=1e-5)
    rows = np.arange(30) % 7
    np.testing.assert_allclose(crowd.clickbait(rows), np.array(expected)[np.arange(30), rows], rtol=1e-5)


def test_items_come_and_go_as_their_life_spans_say():
    world = world_of("come and go")
    items = world.items().to_pandas()
    start, end = items.from_ms.to_numpy(), items.until_ms.fillna(np.inf).to_numpy()
    assert world.settings.available == 300
    for day in (0, 0.0123, 3, 29.99, 30, 31, 500):
        now = EPOCH_MS + round(day * DAY_MS)
        available = (start <= now) & (now < end)
        assert available.sum() == 300
        # A tenth of 300 items a day, until the last of 1,200 has come after 30 days.
        assert np.flatnonzero(available)[0] == min(math.floor(30 * day), 900)
        crowd = crowd_of(world)
        crowd.time_ms[:] = now
        np.testing.assert_array_equal(available, ~crowd.excluded()[0])
    log = log_block(world, 0).to_pandas()
    assert (start[log.item_id] <= log.timestamp).all()
    assert (log.timestamp < end[log.item_id]).all()
    assert log.item_id.nunique() > 900


def test_who_leaves_is_gone_and_the_unhappy_leave():
    world = World(SimulateSettings(users=2000, items=2, world=WorldSettings(leaving=0.3)))

    def history(degree: float) -> History:
        world.clickbait[:] = degree
        return roll_out(crowd_of(world), Rows(0), 200)

    bait, kale = history(1.0), history(0.0)
    for one in (bait, kale):
        assert one.made[:, 0].all()
        assert not (~one.made[:, :-1] & one.made[:, 1:]).any()
        # Users leave only at the end of a session.
        last = one.made.sum(axis=1)
        gone = np.flatnonzero(last < 200)
        assert (one.session[gone, last[gone]] == one.session[gone, last[gone] - 1] + 1).all()
    assert kale.made.mean() > 3 * bait.made.mean()
    # After 40 requests the unhappy are as unhappy as can be: of the ends of sessions the share that is the last.
    ends = (np.diff(bait.session, axis=1) > 0)[:, 40:] & bait.made[:, 40:-1]
    lasts = ends & ~bait.made[:, 41:]
    expected = 0.3 * (1 - bait.satisfaction[:, 40:-1][ends]) ** 2
    assert lasts.sum() / ends.sum() == pytest.approx(expected.mean(), rel=0.1)
    assert lasts.sum() > 300


def test_logs_of_users_who_leave_are_the_first_part_of_what_they_would_be():
    settings = SimulateSettings(users=200, requests=60, items=100, seed=2, world=WorldSettings(leaving=0.2))
    world = World(settings)
    log, planned = log_block(world, 0).to_pandas(), world.traits(np.arange(200)).requests
    counts = log.groupby("user_id").size()
    assert len(counts) == 200
    assert (counts <= planned).all()
    assert 0.1 < (counts < planned).mean() < 0.95


def test_a_world_without_anything_left_to_show_is_one_line():
    world = World(SimulateSettings(users=3, requests=10, items=20, world=WorldSettings(no_repeats=True)))
    with pytest.raises(UserError, match="found no items left for a user after 20 impressions"):
        roll_out(crowd_of(world), RandomItems(20, generator(0, 5)), 30)
    with pytest.raises(ValueError, match="at least 600 available items"):
        SimulateSettings(requests=300, items=500, world=WorldSettings(no_repeats=True))
