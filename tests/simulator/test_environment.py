"""The platform as Gymnasium environment: Gymnasium's own checks, and rewards by plain loops."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from prefrec_ray.errors import UserError
from prefrec_ray.simulator.crowd import SESSION_TIMEOUT_MS
from prefrec_ray.simulator.environment import ID, PlatformEnv
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world
from prefrec_ray.simulator.write import log_block

SMALL = {"users": 40, "requests": 30, "items": 90}
RULES = {**SMALL, "world": {"no_repeats": True, "leaving": 1.0}}


def test_the_script_of_the_page_needs_no_import_of_the_module() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
    (script,) = re.findall(r"^```python\n(import gymnasium\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    script += "print(env.spec.id, *env.reset(seed=0)[0].shape, *envs.reset(seed=0)[0].shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    name, width, number, also_width = done.stdout.split()
    assert (name, number) == ("prefrec_ray/Platform-v1", "8")
    assert int(width) > 0
    assert int(also_width) > 0


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
        {"world": {**SMALL, "world": "prefrec_ray.bench.laws.budget:Budget"}},  # items without embeddings
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
        crowd = env.crowd
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


def test_gymnasium_makes_many_users_who_do_not_see_an_item_twice() -> None:
    env = gymnasium.make_vec(ID, num_envs=3, world=RULES)
    env.action_space.seed(0)
    env.reset(seed=0)
    open_, lengths = [[] for _ in range(3)], set()
    for _ in range(100):
        _, _, gone, truncated, info = env.step(env.action_space.sample())
        for place, items in enumerate(open_):
            items += [int(info["item"][place])] * bool(info["_item"][place])
            assert len(set(items)) == len(items)
            if gone[place] or truncated[place]:
                lengths.add(len(items))
                items.clear()
    assert max(lengths) == SMALL["requests"] > min(lengths)


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
        (
            {"world": "no_such"},
            "world: key 'world.law': expected one of short_video (or module:Class), found 'no_such'",
        ),
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
