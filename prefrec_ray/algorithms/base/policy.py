"""The policy of a module under training, as it would be exported."""

from __future__ import annotations

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.networks.critic import Critic
from prefrec_ray.networks.layers import exported
from prefrec_ray.policy import Policy


def policy_of(module: OfflineModule, dataset: PreparedDataset | None = None, items: ItemTable | None = None) -> Policy:
    """The current policy of `module`; `dataset`, by default that of its provenance, and `items` are read if left out.

    Under `action_constraint: nearest_items` the policy holds the critics, which choose the item; without critics (IL)
    the serving rule chooses it.
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
