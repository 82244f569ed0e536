"""Policy of a module under training, as it would be exported; and effects of kinds of items on its Q.

Q is a smooth function of the embedding, so that it averages over neighbouring items. The value of a creator or of a
topic may differ from the values of its neighbours. The errors of Q on the transitions of the log,

    e = r + gamma Q(s', a') - Q(s, a)        a': the next logged item, or the mean over the next page,

then have another mean for each kind, which is shrunk (mdp/kinds.py): kinds without an effect get none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_table
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.ids import changes
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import kind_effects
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.actors import Actor, GaussianActor
from prefrec_ray.policy.networks.critic import Critic, some
from prefrec_ray.policy.networks.layers import exported

#: Number of transitions for the deviation of a deterministic actor.
_DEVIATION_FROM = 20_000
#: Numbers of states and items for the comparison of Q and expected feedback.
_STATES, _ITEMS = 256, 512
#: Impressions of training users from which effects are estimated.
ROWS = 200_000
#: Impressions of one forward pass.
_CHUNK = 8192


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


def with_kind_effects(critic: Critic, module: OfflineModule, dataset: PreparedDataset, items: ItemTable) -> Critic:
    """Return the critic with the effects of the kinds of the data set's `items` on its Q."""
    if items.kind_codes is None:
        return critic
    reward, parts = reward_of(module), []
    rows = users = 0
    for file in dataset.files("requests", "train"):
        error, user, item = _errors(critic, module, reward, dataset, file)
        parts.append((error, user + users, item))
        rows, users = rows + len(item), users + int(user.max(initial=-1)) + 1
        if rows >= ROWS:
            break
    if not rows:
        return critic
    error, user, item = (np.concatenate(column) for column in zip(*parts, strict=True))
    return replace(critic, kind_effects=kind_effects(error, user, items.kind_codes[items.rows(item)]))


def reward_of(module: OfflineModule) -> RewardFunction | None:
    """Return the current learned reward of a module; None if it learns from the reward column."""
    settings = module.model_config
    if settings["reward_source"] == "column":
        return None
    weights = {name: value.cpu().numpy() for name, value in module.reward.network.state_dict().items()}
    return RewardFunction(weights, module.hidden_sizes, settings["reward_columns"], settings["reward_members"])


def _errors(
    critic: Critic, module: OfflineModule, reward: RewardFunction | None, dataset: PreparedDataset, file: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors float64 [n], users int64 [n], from 0, and item ids [n] of the transitions in a file."""
    settings = module.model_config
    columns = ["user_id", "step", "item_id", "state", "action", *(["reward"] if reward is None else [])]
    table = dataset.read(file, columns)
    pages = Pages.from_table(table)
    rows, label = label_table(table, pages, reward, settings["reward_horizon"])
    label = (label - float(module.reward.mean)) / float(module.reward.std)
    state, action = tensor(table["state"]), tensor(table["action"])
    parts = [slice(start, start + _CHUNK) for start in range(0, len(table), _CHUNK)]
    q = np.concatenate([critic.scores(state[part], action[part, None])[:, 0] for part in parts]).astype(np.float64)
    ids, items = (table[name].to_numpy(zero_copy_only=False) for name in ("user_id", "item_id"))
    user = np.cumsum(changes(ids)) - 1
    following = pages.means(q)[pages.of_row[rows] + 1]
    return label + settings["gamma"] * following - q[rows], user[rows], items[rows]
