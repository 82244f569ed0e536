"""Export of a training checkpoint as a policy bundle."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from prefrec_ray import storage
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.algorithms.base.weights import NetworkWeights
from prefrec_ray.algorithms.methods import find_method
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import fetched
from prefrec_ray.storage.manifest import MANIFEST, damage


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
    with fetched(checkpoint) as folder:
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
                f"{where}: found the method '{method}', which is code; expected its module to be imported before"
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
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not the weights of a method ({str(error).splitlines()[-1].strip()})") from error
    return module
