"""The policy that a module under training is, as a user would take it away."""

from __future__ import annotations

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.networks.critic import Critic
from prefrec_ray.networks.layers import exported
from prefrec_ray.policy import Policy


def policy_of(module: OfflineModule, dataset: PreparedDataset | None = None, items: ItemTable | None = None) -> Policy:
    """The policy of an `OfflineModule` as it stands. What is left out is read: the data set by the module's provenance.

    Under `action_constraint: nearest_items` with the method's critics to choose by; a method without any (IL) has its
    action served as ever.
    """
    provenance = dict(module.model_config["provenance"])
    dataset = dataset or PreparedDataset.open(provenance["dataset"])
    items = dataset.items() if items is None else items
    chooses = provenance["action_constraint"] == "nearest_items" and bool(module.critics)
    return Policy(
        actor=exported(module.actor),
        state=dataset.state,
        normaliser=dataset.normaliser,
        items=items,
        serving=provenance.pop("serving"),
        provenance=provenance,
        critic=Critic([exported(q.net) for q in module.critics]) if chooses else None,
        candidates=min(module.model_config["item_candidates"], len(items)) if chooses else 1,
    )
