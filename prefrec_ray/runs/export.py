"""A training checkpoint becomes the policy bundle that a user takes away."""

from __future__ import annotations

from typing import Any

from prefrec_ray import storage
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.algorithms.base.weights import Weights
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import fetched
from prefrec_ray.storage.manifest import MANIFEST, damage


def export_policy(checkpoint: str, output: str) -> Policy:
    """Writes the actor of `checkpoint`, with the data set's normaliser, state definition and items, to `output`.

    Raises `UserError` if `checkpoint` is no whole checkpoint of a training run, or `output` exists.
    """
    policy = policy_of(load_module(checkpoint))
    policy.save(output)
    return policy


def load_module(checkpoint: str) -> Any:
    """The `OfflineModule` of a checkpoint, from its plain arrays: nothing in it is run.

    Raises `UserError` if it is no checkpoint of a training run, or not whole.
    """
    if not storage.exists(storage.join(checkpoint, MANIFEST)):
        raise UserError(f"{checkpoint}: not a training checkpoint (expected a file {MANIFEST} in it)")
    with fetched(checkpoint) as folder:
        problem = damage(folder)
        if problem is not None:
            raise UserError(f"{checkpoint}: damaged ({problem}); expected a whole checkpoint of this version")
        return Weights.load(folder).module(checkpoint)
