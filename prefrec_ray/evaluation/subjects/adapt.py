"""Adaptation of a policy to another data set of the same platform, with other items and another scale of states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.policy import Policy


def adapted(policy: Policy, dataset: PreparedDataset, items: ItemTable, where: str) -> Policy:
    """Return the policy with the scale of states and the `items` of the data set.

    The policy is returned unchanged if both agree already. A log of another day has another mean and deviation of each
    column, and other items. Raises `UserError`, prefixed by `where`: another state definition, other embeddings than
    the data set's, or another scale of states for a policy that does not draw by Q from the whole catalogue.
    """
    own, theirs = policy.normaliser, dataset.normaliser
    if policy.state != dataset.state:
        raise UserError(f"{where}: found other states than in {dataset.uri}; expected the data set of the policy")
    scaled_alike = own.equals(theirs)
    # Logged items are identified by their rows, which must be equal.
    if scaled_alike and np.array_equal(policy.items.ids, items.ids):
        return policy
    if not scaled_alike and (policy.critic is None or policy.serving.candidates == "nearest"):
        raise UserError(
            f"{where}: found another scale of states than in {dataset.uri}; expected the data set of the policy, "
            "because "
            "it does not draw by Q from the whole catalogue"
        )
    if not items.same_embeddings(policy.items):
        raise UserError(
            f"{where}: found other item embeddings than in {dataset.uri}; expected the data set of the policy, or "
            "embeddings from a table (prepare.source: items), which do not change from log to log"
        )
    if scaled_alike or policy.critic is None:
        return replace(policy, items=items)
    return replace(policy, normaliser=theirs, items=items, critic=policy.critic.rescaled(own.rescaling(theirs)))
