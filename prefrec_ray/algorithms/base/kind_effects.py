"""Effects of kinds of items on Q: the mean of what Q misses on the items of a kind.

Q is a smooth function of the embedding, so that it averages over neighbouring items. The value of a creator or of a
topic may differ from the values of its neighbours. The errors of Q on the transitions of the log,

    e = r + gamma Q(s', a') - Q(s, a)        a': the next logged item, or the mean over the next page,

then have another mean for each kind, which is shrunk (mdp/kinds.py): kinds without an effect get none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_table
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.ids import changes
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import kind_effects
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.policy.networks.critic import Critic

#: Impressions of training users from which effects are estimated.
ROWS = 200_000
#: Impressions of one forward pass.
_CHUNK = 8192


def with_kind_effects(critic: Critic, module: OfflineModule, dataset: PreparedDataset, items: ItemTable) -> Critic:
    """Return the critic with the effects of the kinds of the data set's `items` on its Q."""
    if items.kind_codes is None:
        return critic
    reward, parts = _reward(module), []
    rows = users = 0
    for file in dataset.files("requests", "train"):
        part = _errors(critic, module, reward, dataset, file)
        parts.append(part._replace(user=part.user + users))
        rows, users = rows + len(part.item), users + int(part.user.max(initial=-1)) + 1
        if rows >= ROWS:
            break
    if not rows:
        return critic
    error, user, item = (np.concatenate(column) for column in zip(*parts, strict=True))
    return replace(critic, kind_effects=kind_effects(error, user, items.kind_codes[items.rows(item)]))


class _Errors(NamedTuple):
    """Errors of Q on transitions."""

    error: np.ndarray  # float64 [n]
    user: np.ndarray  # int64 [n], from 0
    item: np.ndarray  # ids [n]


def _reward(module: OfflineModule) -> RewardFunction | None:
    """Return the learned reward of a module; None if it learns from the reward column."""
    settings = module.model_config
    if settings["reward_source"] == "column":
        return None
    weights = {name: value.cpu().numpy() for name, value in module.reward.network.state_dict().items()}
    return RewardFunction(weights, module.hidden_sizes, settings["reward_columns"], settings["reward_members"])


def _errors(
    critic: Critic, module: OfflineModule, reward: RewardFunction | None, dataset: PreparedDataset, file: str
) -> _Errors:
    """Return the errors on the transitions of one file of impressions."""
    settings = module.model_config
    columns = ["user_id", "step", "item_id", "state", "action", *(["reward"] if reward is None else [])]
    table = dataset.read(file, columns)
    pages = Pages.from_table(table)
    rows, label = label_table(table, pages, reward, settings["reward_horizon"])
    label = (label - float(module.reward.mean)) / float(module.reward.std)
    state, action = tensor(table["state"]), tensor(table["action"])
    parts = [slice(start, start + _CHUNK) for start in range(0, len(table), _CHUNK)]
    q = np.concatenate([critic.q(state[part], action[part, None])[:, 0] for part in parts]).astype(np.float64)
    ids, items = (table[name].to_numpy(zero_copy_only=False) for name in ("user_id", "item_id"))
    user = np.cumsum(changes(ids)) - 1
    following = pages.means(q)[pages.of_row[rows] + 1]
    return _Errors(label + settings["gamma"] * following - q[rows], user[rows], items[rows])
