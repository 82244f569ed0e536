"""A training checkpoint becomes the policy bundle that a user takes away."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModule

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.networks.critic import Critic
from prefrec_ray.networks.layers import linear_layers
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


def policy_of(module: Any, dataset: PreparedDataset | None = None, items: ItemTable | None = None) -> Policy:
    """The policy of an `OfflineModule` as it stands. What is left out is read: the data set by the module's provenance.

    Under `action_constraint: nearest_items` with the method's critics to choose by; a method without any (IL) has its
    action served as ever.
    """
    provenance = dict(module.model_config["provenance"])
    dataset = dataset or PreparedDataset.open(provenance["dataset"])
    items = dataset.items() if items is None else items
    candidates = module.model_config["item_candidates"]
    chooses = candidates is not None and bool(module.critics)
    return Policy(
        actor=module.actor.export(),
        state=dataset.state,
        normaliser=dataset.normaliser,
        items=items,
        serving=provenance.pop("serving"),
        provenance=provenance,
        critic=Critic([linear_layers(q) for q in module.critics]) if chooses else None,
        candidates=min(candidates, len(items)) if chooses else 1,
    )
