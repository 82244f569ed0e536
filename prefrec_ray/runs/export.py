"""A training checkpoint becomes the policy bundle that a user takes away."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModule

from prefrec_ray import storage
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import fetched

MODULE = "learner_group/learner/rl_module/default_policy"


def export_policy(checkpoint: str, output: str) -> Policy:
    """Writes the actor of `checkpoint`, with the data set's normaliser, state definition and items, to `output`.

    Raises `UserError` if `checkpoint` is no checkpoint of a training run, or `output` exists.
    """
    policy = policy_of(load_module(checkpoint))
    policy.save(output)
    return policy


def load_module(checkpoint: str) -> Any:
    """The `OfflineModule` of a checkpoint. Raises `UserError` if it is none of a training run."""
    if not storage.exists(storage.join(checkpoint, MODULE)):
        raise UserError(f"{checkpoint}: not a training checkpoint (expected a folder {MODULE} in it)")
    with fetched(checkpoint) as folder:
        return RLModule.from_checkpoint(f"{folder}/{MODULE}")
