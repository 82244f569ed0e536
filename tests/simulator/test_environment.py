"""Gymnasium environments of the platform: Gymnasium's own checks, rewards by plain loops, and the vectorized form."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv

from prefrec_ray.errors import UserError
from prefrec_ray.simulator.crowd import SESSION_TIMEOUT_MS
from prefrec_ray.simulator.environment import ID, PlatformEnv, PlatformVectorEnv
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world
from prefrec_ray.simulator.write import log_block

SMALL = {"users": 40, "requests": 30, "items": 90}
RULES = {**SMALL, "world": {"no_repeats": True, "leaving": 1.0}}


def random_steps(env: gymnasium.Env, seed: int, steps: int) -> list[tuple[np.ndarray, float]]:
    env.action_space.seed(seed)
    env.reset(seed=seed)
    return [env.step(env.action_space.sample())[:2] for _ in range(steps)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"actions": "embeddings", "task": "mixture"},
        {"world": RULES},
        {"world": {**SMALL, "world": "prefrec_ray.bench.laws.loyalty:Budget"}},  # items without embeddings
    ],
)
def test_gymnasium_finds_no_fault(arguments: dict[str, Any]) -> None:
    env = gymnasium.make(ID, **{"world": SMALL, **arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("task", ["depth", "frequency"])
def test_rewards_are_levels_relative_to_the_log(task: str) -> None:
    env = PlatformEnv(SMALL, task=task)
    settings = SimulateSettings(**SMALL)
    log = log_block(load_world(settings), 0).to_pandas()
    rewards = 0.0
    for seed in range(3):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        crowd = env.users.crowd
        # The first impression identifies the user.
        own = log[log.timestamp == crowd.time_ms[0]]
        rows = log[log.user_id == own.user_id.iloc[0]]
        gaps = np.diff(rows.timestamp)
        ends = gaps[gaps > SESSION_TIMEOUT_MS]
        mean = len(rows) / (len(ends) + 1) if task == "depth" else ends.mean()
        depth, truncated = 0, False
        while not truncated:
            before = crowd.time_ms[0]
            _, reward, _, truncated, _ = env.step(env.action_space.sample())
            depth, away = depth + 1, crowd.time_ms[0] - before
            if away > SESSION_TIMEOUT_MS:
                assert reward == min(5, int(depth / mean if task == "depth" else mean / away))
                depth = 0
            else:
                assert reward == 0
            rewards += reward
    assert rewards > 0


@pytest.mark.parametrize("world", [SMALL, RULES])
def test_a_seed_repeats_an_episode(world: dict[str, Any]) -> None:
    env = gymnasium.make(ID, world=world).unwrapped
    first, again, other = (random_steps(env, seed, 20) for seed in (1, 1, 2))
    for (one, reward), (two, same) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
        assert reward == same
    assert any(not np.array_equal(one, two) for (one, _), (two, _) in zip(first, other, strict=True))


def test_one_user_of_the_vectorized_form_is_the_single_form() -> None:
    single, vector = PlatformEnv(RULES), gymnasium.make_vec(ID, num_envs=1, world=RULES)
    assert isinstance(vector, PlatformVectorEnv)
    vector.action_space.seed(0)
    state, _ = single.reset(seed=3)
    states, info = vector.reset(seed=3)
    assert not info["_item"].any()
    for _ in range(100):
        np.testing.assert_array_equal(states[0], state)
        action = vector.action_space.sample()
        states, rewards, gone, truncated, info = vector.step(action)
        state, reward, left, ended, own = single.step(action[0])
        assert (rewards[0], gone[0], truncated[0], info["item"][0]) == (reward, left, ended, own["item"])
        np.testing.assert_array_equal(info["action_mask"][0], own["action_mask"])
        if left or ended:
            np.testing.assert_array_equal(states[0], state)
            states, rewards, gone, truncated, info = vector.step(action)  # draws the next user
            assert (rewards[0], gone[0], truncated[0], info["_item"][0]) == (0, False, False, False)
            state, _ = single.reset()


def episodes(env: VectorEnv, steps: int) -> list[list[int]]:
    """Return the items of each complete episode of random actions."""
    env.action_space.seed(0)
    env.reset(seed=0)
    open_, complete = [[] for _ in range(env.num_envs)], []
    for _ in range(steps):
        _, _, gone, truncated, info = env.step(env.action_space.sample())
        for place, items in enumerate(open_):
            items += [int(info["item"][place])] * bool(info["_item"][place])
            if gone[place] or truncated[place]:
                complete.append(list(items))
                items.clear()
    return complete


def test_users_who_leave_are_replaced_and_items_are_not_repeated() -> None:
    complete = episodes(gymnasium.make_vec(ID, num_envs=6, world=RULES), 150)
    lengths = {len(items) for items in complete}
    assert max(lengths) == SMALL["requests"] > min(lengths)
    assert all(len(set(items)) == len(items) for items in complete)


def test_an_excluded_item_is_replaced_by_its_nearest() -> None:
    env = PlatformEnv(RULES)
    env.reset(seed=0)
    shown = [env.step(7)[4]["item"] for _ in range(3)]
    embeddings = env.platform.items.embeddings
    order = np.argsort(np.linalg.norm(embeddings - embeddings[7], axis=1))
    assert shown == order[:3].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "depht"}, "task: found 'depht'; did you mean 'depth'?"),
        ({"actions": "item"}, "actions: found 'item'; did you mean 'items'?"),
        ({"world": "no_such"}, "simulate.world: found 'no_such'; "),
        ({"world": {"user": 3}}, "world: key 'user': unknown key; did you mean 'users'?"),
    ],
)
def test_a_mistake_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        PlatformEnv(**arguments)
    assert str(caught.value).startswith(message)


def test_an_episode_longer_than_the_catalogue_ends_in_one_line() -> None:
    env = PlatformEnv({**SMALL, "items": 60, "world": {"no_repeats": True}}, impressions=100)
    env.reset(seed=0)
    for _ in range(60):
        env.step(0)
    with pytest.raises(UserError, match="impressions: found a user with no items left"):
        env.step(0)
