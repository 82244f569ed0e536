"""The weights of every method, as plain arrays, there and back; nothing of a checkpoint is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from prefrec_ray import storage
from prefrec_ray.algorithms import SETTINGS, find_method
from prefrec_ray.algorithms.base.module import NetworkWeights
from prefrec_ray.errors import UserError
from prefrec_ray.policy.networks.bundled import check_finite
from prefrec_ray.runs.export import module_of


def make_module(method: str) -> Any:
    """A module of untrained networks, on states of 5 numbers and actions of 2."""
    settings = SETTINGS[method](hidden_sizes=(4, 3))
    config = {**settings.model_dump(), "looks_ahead": False, "reward_columns": (0, 2, 3), "product_columns": ((1, 3),)}
    return find_method(method).Module(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (5,), np.float32),
        action_space=gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2])),
        model_config={**config, "provenance": {"method": method}},
    )


@pytest.mark.parametrize("method", SETTINGS)
def test_there_and_back(method: str, tmp_path: Path) -> None:
    module = make_module(method)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(number)
    NetworkWeights.from_module(module).save(str(tmp_path))
    again = module_of(NetworkWeights.load(str(tmp_path)), "checkpoint")
    expected = module.state_dict()
    assert list(again.state_dict()) == list(expected)
    assert all(torch.equal(array, expected[name]) for name, array in again.state_dict().items())
    states = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.actor(states), module.actor(states))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    module = make_module("IL")
    with torch.no_grad():
        next(module.actor.parameters()).view(-1)[1] = value
    weights = NetworkWeights.from_module(module)
    with pytest.raises(UserError, match=r"^iteration 3: 'actor\.net\.0\.weight' has numbers that are not finite"):
        check_finite(weights.arrays, "iteration 3")
    weights.save(str(tmp_path))
    with pytest.raises(UserError, match="has numbers that are not finite"):
        NetworkWeights.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": None}, "not the weights of a method"),
        ({"state_dim": 6}, "not the weights of a method"),
        ({"action_low": [0]}, "not the weights of a method"),
        ({"action_low": -1.0, "action_high": 1.0}, "not the weights of a method"),
        ({"state_dim": 10**15}, "not the weights of a method"),
        ({"settings": {"provenance": {"method": "antigravity:Fly"}}}, "expected its module imported before, in Python"),
        (
            {"settings": {"provenance": {"method": "PrefReq"}}},
            "checkpoint: key 'method': found 'PrefReq'; did you mean",
        ),
    ],
)
def test_a_description_that_does_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    NetworkWeights.from_module(make_module("TD3")).save(str(tmp_path))
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        module_of(NetworkWeights.load(str(tmp_path)), "checkpoint")
    storage.write_text(str(file), "[]")
    with pytest.raises(UserError, match="not the weights of a method"):
        module_of(NetworkWeights.load(str(tmp_path)), "checkpoint")
