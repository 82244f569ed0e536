"""The learned reward model of a run, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prefrec_ray import storage
from prefrec_ray.algorithms.methods import find_settings
from prefrec_ray.errors import UserError
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.runs.export import load_module
from prefrec_ray.storage.manifest import MANIFEST


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


def load_reward(uri: str, sizes: tuple[int, int]) -> TrainedReward:
    """Load the reward model of a run (its last checkpoint) or of one checkpoint.

    Raises `UserError` if there is none, or if its states and actions have other `sizes`.
    """
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
    own_sizes = (module.observation_space.shape[0], module.action_space.shape[0])
    if own_sizes != sizes:
        raise UserError(
            f"{uri}: found states and actions of {own_sizes[0]} and {own_sizes[1]} numbers, the data set has "
            f"{sizes[0]} and {sizes[1]}; expected a run on this data set"
        )
    columns = module.model_config["reward_columns"]
    return TrainedReward(module.reward.network.cpu(), None if columns is None else tuple(columns))
