"""Networks of a checkpoint: export of its policy as a bundle, and its reward model as a function."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from prefrec_ray import storage
from prefrec_ray.algorithms import find_method, find_settings
from prefrec_ray.algorithms.base.module import NetworkWeights
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.storage.checksums import MANIFEST, damage


def export_policy(checkpoint: str, output: str) -> Policy:
    """Write the policy of `checkpoint`, with the data set's normaliser, state definition and items, to `output`.

    Raises `UserError` if `checkpoint` is not a complete checkpoint of a training run, or if `output` exists.
    """
    policy = policy_of(load_module(checkpoint))
    policy.save(output)
    return policy


def load_module(checkpoint: str) -> Any:
    """Load the `OfflineModule` of a checkpoint from its plain arrays, without running code from it.

    Raises `UserError` if it is not a complete checkpoint of a training run.
    """
    if not storage.exists(storage.join(checkpoint, MANIFEST)):
        raise UserError(f"{checkpoint}: not a training checkpoint; expected a folder with the file {MANIFEST}")
    with storage.fetched(checkpoint) as folder:
        problem = damage(folder)
        if problem is not None:
            raise UserError(f"{checkpoint}: damaged ({problem}); expected a complete checkpoint of this version")
        return module_of(NetworkWeights.load(folder), checkpoint)


def module_of(weights: NetworkWeights, where: str) -> Any:
    """Return the `OfflineModule` with these `weights`.

    Raises `UserError`, prefixed by `where`: an unknown method, or arrays with other names or sizes. An own method
    (`module:Class`) must be imported before, because a checkpoint must not cause an import.
    """
    try:
        settings = weights.description["settings"]
        method = str(settings["provenance"]["method"])
        if ":" in method and method.partition(":")[0] not in sys.modules:
            raise UserError(
                f"{where}: found the own method '{method}'; expected its module imported before, in Python, because a "
                "checkpoint imports nothing"
            )
        low, high = (np.array(weights.description[name], np.float32) for name in ("action_low", "action_high"))
        module = find_method(method, f"{where}: ").Module(
            observation_space=gym.spaces.Box(-np.inf, np.inf, (weights.description["state_dim"],), np.float32),
            action_space=gym.spaces.Box(low, high),
            model_config=settings,
        )
        module.load_state_dict({name: torch.tensor(array) for name, array in weights.arrays.items()})
    except UserError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"{where}: not the weights of a method ({reason})") from error
    return module


@dataclass(frozen=True, eq=False)
class TrainedReward:
    """A trained reward model. Its inputs are columns of the next state, or state and action if None."""

    net: nn.Module  # [..., D] -> [...]
    columns: tuple[int, ...] | None

    def __call__(self, transitions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the reward, float32 [n], of transitions with the columns obs, action and next_obs."""
        with torch.inference_mode():
            if self.columns is None:
                inputs = np.concatenate([transitions["obs"], transitions["action"]], axis=1)
            else:
                inputs = transitions["next_obs"][:, list(self.columns)]
            return self.net(torch.from_numpy(inputs.astype(np.float32))).numpy()


def load_reward(uri: str) -> TrainedReward:
    """Load the reward model of a run (its last checkpoint) or of one checkpoint. Raises `UserError` without one."""
    if storage.exists(storage.join(uri, MANIFEST)):
        module = load_module(uri)
    else:
        with first_whole(reversed(checkpoints(uri))) as newest:
            if newest is None:
                raise UserError(
                    f"{uri}: neither a run with a checkpoint nor a checkpoint; expected an output of `prefrec train`"
                )
            module = load_module(newest[1])
    settings = find_settings(module.model_config["provenance"]["method"])
    own = {name: module.model_config[name] for name in settings.model_fields if name in module.model_config}
    if not settings(**own).uses_preferences:
        raise UserError(f"{uri}: no learned reward; expected a run with a reward from preferences")
    columns = module.model_config["reward_columns"]
    return TrainedReward(module.reward.network.cpu(), None if columns is None else tuple(columns))
