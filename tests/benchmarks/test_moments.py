"""Logged moments match the log, and later sessions are summed correctly."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth import moments as bench
from benchmarks.truth.moments import Moments, levels, moments, user_values, warmed
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.simulator.catalogue import CATEGORIES
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import ROLLOUT, generator
from prefrec_ray.simulator.rollout import roll_out
from prefrec_ray.simulator.servers import RandomItems
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block

USERS = np.array([3, 40, 41])
HALF_AN_HOUR = 30 * 60 * 1000


@pytest.fixture(scope="module")
def world() -> World:
    return World(SimulateSettings(users=60, requests=60, items=30, seed=3, truth=True))


@pytest.fixture(scope="module")
def visit_starts(world: World) -> Moments:
    (one,) = moments(world, USERS, sessions=3, seed=0)
    return one


@pytest.fixture(scope="module")
def logged(world: World) -> dict[int, dict[str, np.ndarray]]:
    log = log_block(world, 0).to_pandas()
    return {user: {name: rows[name].to_numpy() for name in rows} for user, rows in log.groupby("user_id")}


def test_a_moment_is_the_start_of_a_visit_that_another_one_follows(visit_starts: Moments, logged: dict) -> None:
    assert set(visit_starts.user) == set(USERS)
    for row, (user, step) in enumerate(zip(visit_starts.user, visit_starts.step, strict=True)):
        time = logged[user]["timestamp"]
        starts = [0, *(np.flatnonzero(np.diff(time) > HALF_AN_HOUR) + 1)]
        assert step in starts[:-1]
        depths = np.diff([*starts, len(time)])
        assert visit_starts.mean_depth[row] == pytest.approx(depths.mean())
        away = [time[b] - time[b - 1] for b in starts[1:]]
        assert visit_starts.mean_revisit_ms[row] == pytest.approx(np.mean(away))


def test_users_feel_as_they_did(visit_starts: Moments, logged: dict) -> None:
    later = visit_starts.step > 0
    feels = 1 / (1 + np.exp(-visit_starts.traits.sensitivity * visit_starts.exposure))
    felt = [
        logged[user]["satisfaction"][step - 1] for user, step in zip(visit_starts.user, visit_starts.step, strict=True)
    ]
    assert later.sum() > 4
    np.testing.assert_allclose(feels[later], np.array(felt)[later], rtol=1e-5)
    np.testing.assert_array_equal(visit_starts.exposure[~later], visit_starts.traits.exposure[~later])


def test_a_policy_has_seen_the_history(world: World, visit_starts: Moments, logged: dict) -> None:
    definition = StateDefinition(feedback=FEEDBACK, user_features=CATEGORIES)
    items = ItemTable(np.arange(len(world.embeddings)), world.embeddings)
    scale = Normaliser(np.zeros(definition.width), np.full(definition.width, 100.0))
    net = Mlp.from_layers([(np.zeros((8, definition.width), np.float32), np.zeros(8, np.float32))])
    actor = DeterministicActor(net, -np.ones(8), np.ones(8))
    server = warmed(Policy(actor, definition, scale, items), visit_starts)
    now = visit_starts.history.time_ms[np.arange(len(visit_starts)), visit_starts.step]
    states = server.tracker.states(now)
    for row, (user, step) in enumerate(zip(visit_starts.user, visit_starts.step, strict=True)):
        log = logged[user]
        one = HistoryRows(
            starts=np.zeros(1, np.int64),
            timestamp=log["timestamp"],
            session=np.cumsum([0, *(np.diff(log["timestamp"]) > HALF_AN_HOUR)]),
            feedback=np.stack([log[name] for name in FEEDBACK], axis=1),
            embeddings=world.embeddings[log["item_id"]],
            profile=definition.one_hot(
                {name: values[row : row + 1] for name, values in visit_starts.traits.features.items()}
            ),
        )
        np.testing.assert_allclose(states[row], scale(raw_states(definition, one)[step : step + 1])[0], atol=2e-6)


def test_levels_are_means_over_visits_that_fade(
    world: World, visit_starts: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "REQUESTS", 70)
    means = levels(
        world, visit_starts, lambda _: RandomItems(30, np.random.default_rng(5)), seed=2, weight=0.25, gamma=0.8
    )

    crowd = Crowd(world, visit_starts.traits, generator(3, ROLLOUT, 2, 0))
    crowd.exposure = visit_starts.exposure.copy()
    crowd.time_ms = visit_starts.history.time_ms[np.arange(len(visit_starts)), visit_starts.step].copy()
    seen = roll_out(crowd, RandomItems(30, np.random.default_rng(5)), 70)
    for row in range(len(visit_starts)):
        sums = np.zeros(3)
        total = 0.0
        for visit in range(seen.session[row].max()):  # the last is cut off
            steps = np.flatnonzero(seen.session[row] == visit)
            away = seen.time_ms[row, steps[-1] + 1] - seen.time_ms[row, steps[-1]]
            depth = min(5, len(steps) // visit_starts.mean_depth[row])
            frequency = min(5, visit_starts.mean_revisit_ms[row] // away)
            sums += 0.8**visit * np.array([depth, frequency, 0.25 * depth + 0.75 * frequency])
            total += 0.8**visit
        expected = sums / total if total else np.full(3, np.nan)
        np.testing.assert_allclose([means[task][row] for task in ("depth", "frequency", "mixture")], expected)


def test_a_user_counts_once(visit_starts: Moments) -> None:
    value = np.arange(len(visit_starts), dtype=float)
    value[0] = np.nan
    expected = [np.nanmean(value[visit_starts.user == user]) for user in USERS]
    np.testing.assert_allclose(user_values(visit_starts, value), expected)
