"""What showing more of the same costs, as the log says: it is taken off Q where a policy serves.

A log hardly ever shows one kind of item for hours, so that Q does not know what that does; all methods then serve a
few items to everybody, and where people tire they harm (docs/recipe.md). But a log does say what one more item costs
that is like those before it. Least squares on reward labels tell its part from that of Q:

    label = c0 + c1 z(s, a) - c2 a . m(s) + (what state, past and z^2 explain)

z is Q(s, a) in standard deviations over items in this state, m(s) the running mean of what was shown. An item makes
others tire later by as much as it is tiring now, so that it costs 2 c2 / c1 standard deviations of Q.
"""

from __future__ import annotations

import numpy as np
import torch

from prefrec_ray.algorithms.base.module import OfflineModule
from prefrec_ray.algorithms.reward.labels import label_users
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.ids import first_rows
from prefrec_ray.mdp.transitions import transition_rows
from prefrec_ray.networks.critic import Critic
from prefrec_ray.networks.tired import likeness, shown_columns

#: Requests that are read at most, and items with which Q of a logged item is compared.
REQUESTS, ITEMS = 250_000, 32
#: An item is taken to tire others as much as it is tiring itself.
FORESIGHT = 2.0
#: Half-life of the mean z of the past, in requests.
_PAST = 32.0
_CHUNK = 4096


def tiring_weight(module: OfflineModule, critic: Critic, dataset: PreparedDataset) -> float:
    """The weight of `networks.tired.Tired`, in units of Q, at least 0.

    Two standard errors (over users) are taken off: it is 0 unless the log says clearly that people tire. It is 0 too
    where the data set holds no requests.
    """
    if not dataset.files("requests", "train"):
        return 0.0
    state, action, state_reward, labels, starts = _history(module, dataset)
    items = dataset.items().embeddings
    sample = items[np.random.default_rng(0).choice(len(items), min(ITEMS, len(items)), replace=False)]
    z, scale = standard_scores(critic, state, action, sample)
    columns = shown_columns(dataset.state)
    mean, std = (np.asarray(part)[columns] for part in (dataset.normaliser.mean, dataset.normaliser.std))
    like = likeness(action[:, None], state[:, columns] * std + mean)[:, 0]
    rows = transition_rows(starts, len(state))
    items_seen = state[:, dataset.state.groups["items"]]
    before = past_mean(z, starts)
    known = np.column_stack([state_reward, items_seen, z**2, before, before**2])
    users = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(state))))
    cost, error = tiring_cost(labels, z[rows], like[rows], known[rows], first_rows(users[rows]))
    return float(FORESIGHT * scale * max(0.0, cost - 2.0 * error))


def tiring_cost(
    labels: np.ndarray, z: np.ndarray, like: np.ndarray, known: np.ndarray, starts: np.ndarray
) -> tuple[float, float]:
    """c2 / c1 by least squares, and its standard error with users as clusters (delta method).

    `labels`, `z` and `like` [T] and `known` [T, C] are in the order of users, whose first rows are `starts`. The error
    is infinite where Q does not raise the label (c1 <= 0).
    """
    inputs = np.column_stack([z, like, known, np.ones(len(z))]).astype(np.float64)
    inverse = np.linalg.pinv(inputs.T @ inputs)
    fitted = inverse @ (inputs.T @ labels)
    gain, loss = fitted[0], -fitted[1]
    if gain <= 0:
        return 0.0, float("inf")
    influence = (inputs @ inverse)[:, :2] * (labels - inputs @ fitted)[:, None]
    by_user = np.add.reduceat(influence, starts, axis=0)
    cost = loss / gain
    gradient = np.array([-cost / gain, -1.0 / gain])
    return float(cost), float(np.sqrt(np.square(by_user @ gradient).sum()))


def standard_scores(
    critic: Critic, state: np.ndarray, action: np.ndarray, sample: np.ndarray
) -> tuple[np.ndarray, float]:
    """Q of actions [N, A] less its mean over `sample` [k, A], in standard deviations over it; and their mean.

    A policy that samples divides Q by the same.
    """
    own, deviation = np.empty(len(state)), np.empty(len(state))
    for start in range(0, len(state), _CHUNK):
        rows = slice(start, start + _CHUNK)
        others = np.broadcast_to(sample, (len(state[rows]), *sample.shape))
        scores = critic.scores(state[rows], np.concatenate([action[rows, None], others], axis=1))
        own[rows] = scores[:, 0] - scores[:, 1:].mean(axis=1)
        deviation[rows] = scores[:, 1:].std(axis=1)
    return own / np.maximum(deviation, 1e-9), float(deviation.mean())


def past_mean(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The exponentially decaying mean of a user's earlier `values` [N], 0 at a user's first."""
    decay, means = 0.5 ** (1.0 / _PAST), np.zeros(len(values))
    place = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
    for step in range(1, int(place.max(initial=0)) + 1):
        rows = np.flatnonzero(place == step)
        means[rows] = decay * means[rows - 1] + (1.0 - decay) * values[rows - 1]
    return means


def _history(module: OfflineModule, dataset: PreparedDataset) -> tuple[np.ndarray, ...]:
    """Of whole training users: states [N, S], actions [N, A], the reward of each state (0 where it sees actions), [N],
    the reward labels [T] of their transitions, and their first rows."""
    from_column = module.model_config["reward_source"] == "column"
    columns = ["user_id", "state", "action", *(["reward"] if from_column else [])]
    parts, rows = [], 0
    for file in dataset.files("requests", "train"):
        parts.append(dataset.read(file, columns))
        rows += parts[-1].num_rows
        if rows >= REQUESTS:
            break
    state, action = (np.concatenate([tensor(part[name]) for part in parts]) for name in ("state", "action"))
    user = np.concatenate([part["user_id"].to_numpy(zero_copy_only=False) for part in parts])
    starts = first_rows(user)
    of = transition_rows(starts, len(state))
    state_reward = np.zeros(len(state))
    if from_column:
        rewards = np.concatenate([part["reward"].to_numpy() for part in parts])[of]
    elif module.reward.columns is None:
        rewards = _reward(module, state, action)[of]
    else:
        state_reward = _reward(module, state[:, module.reward.columns.numpy()])
        rewards = state_reward[of + 1]
    labels = label_users(rewards, starts, len(state), module.model_config["reward_horizon"])
    return state, action, state_reward, labels, starts


def _reward(module: OfflineModule, *seen: np.ndarray) -> np.ndarray:
    """The learned reward of each row, float32 [N]."""
    with torch.inference_mode():
        chunks = [[torch.tensor(part[i : i + 65_536]) for part in seen] for i in range(0, len(seen[0]), 65_536)]
        return torch.cat([module.reward.network(*chunk) for chunk in chunks]).numpy()
