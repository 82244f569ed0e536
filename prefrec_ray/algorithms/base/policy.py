"""Policy of a module under training, as it would be exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prefrec_ray.algorithms.base.kind_effects import with_kind_effects
from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.actors import Actor, GaussianActor
from prefrec_ray.policy.networks.critic import Critic, some
from prefrec_ray.policy.networks.layers import exported

#: Number of transitions for the deviation of a deterministic actor.
_DEVIATION_FROM = 20_000
#: Numbers of states and items for the comparison of Q and expected feedback.
_STATES, _ITEMS = 256, 512


def policy_of(module: OfflineModule, dataset: PreparedDataset | None = None, items: ItemTable | None = None) -> Policy:
    """Return the current policy of `module`. `dataset` (default: the data set of its provenance) and `items` are read.

    Items are scored by the target Q (the mean if a method has two), or by the expected feedback that explains it. IL,
    IQL and SAC score by the density of the actor (IL: a Gaussian around its action). If `items` are given during
    training, nothing is read: there is no expected feedback, and IL serves the item nearest to its action.
    """
    provenance = dict(module.model_config["provenance"])
    dataset = dataset or PreparedDataset.open(provenance["dataset"])
    actor = exported(module.actor)
    by_density = module.serves_by_density or not module.critics
    cloned = by_density and not isinstance(actor, GaussianActor)
    rule = ServingSettings(**module.model_config["serving"]).resolved()
    if rule.rest_days == "auto" and dataset.metadata.repeats is not None:
        rule = rule.model_copy(update={"rest_days": dataset.metadata.repeats.rest_days})
    table = dataset.items() if items is None else items
    critic = None if by_density else Critic([exported(q) for q in module.served_critics])
    if critic is not None and items is None:
        if module.model_config["q_kinds"]:
            critic = with_kind_effects(critic, module, dataset, table)
        critic = _with_feedback(critic, dataset, table)
    return Policy(
        actor=actor,
        state=dataset.state,
        normaliser=dataset.normaliser,
        items=table,
        serving=DETERMINISTIC if cloned and items is not None else rule,
        provenance=provenance,
        critic=critic,
        deviation=_deviation(actor, dataset) if cloned and items is None else None,
    )


def _with_feedback(critic: Critic, dataset: PreparedDataset, items: ItemTable) -> Critic:
    """Return the critic with the data set's expected feedback, fitted to Q over items in a sample of states."""
    answers = dataset.answers()
    if answers is None:  # nothing is read for it
        return critic
    rows = dataset.read(dataset.files("transitions")[0], ["obs"]).slice(0, _STATES)
    states = np.asarray(tensor(rows["obs"]), np.float32)
    return replace(critic, answers=answers).with_worth(states, some(items.embeddings, _ITEMS))


def _deviation(actor: Actor, dataset: PreparedDataset) -> float:
    """Return the root mean squared difference per coordinate between logged actions and actions of `actor`."""
    rows = dataset.read(dataset.files("transitions")[0], ["obs", "action"]).slice(0, _DEVIATION_FROM)
    with torch.inference_mode():
        away = actor(torch.tensor(tensor(rows["obs"]))).numpy() - tensor(rows["action"])
    return max(float(np.sqrt(np.square(away).mean())), 1e-3)
