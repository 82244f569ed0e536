"""What an action is worth: the mean reward of the requests after it, not the reward of the next one alone.

Preferences between long segments say how a stretch of history was, not which of its requests made it so. A reward that
is learned from them answers to what is seen at once (a click, a long look), and an actor that climbs it request by
request chases that. Over the next `reward_horizon` requests it is the user's lasting state that speaks
(docs/recipe.md). The transitions of learners are shuffled; these labels are made in the order of the histories, by
tasks over the files of requests, and found by the transition's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
import torch

from prefrec_ray.algorithms.requests import RewardRequest
from prefrec_ray.algorithms.reward.state import RewardState
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.ids import first_rows
from prefrec_ray.mdp.transitions import transition_rows
from prefrec_ray.networks.layers import Scalar

#: Below so many requests a task, starting it takes longer than its work.
REQUESTS_A_TASK = 1_000_000
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class RewardFunction:
    """A learned reward as arrays that travel to tasks. Sees `columns` of the next state, or (None) state and action."""

    weights: dict[str, np.ndarray]
    hidden_sizes: tuple[int, ...]
    columns: Sequence[int] | None

    @classmethod
    def of(cls, request: RewardRequest, state: RewardState) -> RewardFunction:
        """The reward that `request` asked for."""
        return cls(state.weights, request.hidden_sizes, request.preferences.columns)

    def __call__(self, state: np.ndarray, action: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rewards, float32 [len(rows)], of the transitions from request `rows` to the next, among states [N, S]."""
        seen = [state[rows], action[rows]] if self.columns is None else [state[rows + 1][:, list(self.columns)]]
        network = Scalar(sum(part.shape[1] for part in seen), self.hidden_sizes)
        network.load_state_dict({name: torch.tensor(value) for name, value in self.weights.items()})
        with torch.no_grad():
            chunks = zip(*(torch.from_numpy(part).split(_ROWS_AT_ONCE) for part in seen), strict=True)
            return torch.cat([network(*chunk) for chunk in chunks]).numpy()


def look_ahead(reward: np.ndarray, user_starts: np.ndarray, horizon: int) -> np.ndarray:
    """The mean of reward[i : i + horizon], fewer at a user's end, float32 [N].

    `reward` [N] is in the order of the histories; the first rows of users are `user_starts`, ascending.
    """
    rows = np.arange(len(reward))
    ends = np.append(user_starts[1:], len(reward)).astype(np.int64)
    stop = np.minimum(rows + horizon, np.repeat(ends, np.diff(np.append(user_starts, len(reward)))))
    total = np.concatenate([[0.0], np.cumsum(reward, dtype=np.float64)])
    return ((total[stop] - total[rows]) / (stop - rows)).astype(np.float32)


def label_users(reward: np.ndarray, starts: np.ndarray, requests: int, horizon: int) -> np.ndarray:
    """The labels of whole users' transitions from their rewards: the first of `requests` of each user at `starts`."""
    # Of the k users before it each has lost its last request; a user of one request has no transition at all.
    sizes = np.diff(np.append(starts, requests)) - 1
    return look_ahead(reward, (np.cumsum(sizes) - sizes)[sizes > 0], horizon)


def label_histories(
    reward: RewardFunction, state: np.ndarray, action: np.ndarray, starts: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows [T] of the transitions of whole users, who begin at the rows `starts`, and their labels [T]."""
    rows = transition_rows(starts, len(state))
    return rows, label_users(reward(state, action, rows), starts, len(state), horizon)


def label_transitions(dataset: PreparedDataset, reward: RewardFunction | None, horizon: int) -> ray.ObjectRef:
    """A reference to the labels of all transitions, float32, each at its number. `reward` None: the data set's own.

    Small data sets are labelled in this process, larger ones by tasks that ask for no processor: learners may hold
    them all, and wait for nothing but the labels.
    """
    files = dataset.files("requests", "train")
    if not files:
        raise UserError(f"{dataset.path('requests', 'train')}: no requests to label; expected part-*.parquet")
    requests = dataset.metadata.counts.get("train", {}).get("requests", 0)
    tasks = min(len(files), int(ray.cluster_resources().get("CPU", 1)), requests // REQUESTS_A_TASK)
    if tasks <= 1:
        return ray.put(_label_files(dataset.uri, files, reward, horizon))
    given = ray.put(reward)
    parts = [_task.remote(dataset.uri, list(part), given, horizon) for part in np.array_split(np.array(files), tasks)]
    return _concatenate.remote(*parts)


def _label_files(uri: str, files: Sequence[str], reward: RewardFunction | None, horizon: int) -> np.ndarray:
    dataset = PreparedDataset.open(uri)
    labels = []
    for file in files:
        table = dataset.read(str(file), ["user_id", "reward"] if reward is None else ["user_id", "state", "action"])
        starts = first_rows(table["user_id"].to_numpy(zero_copy_only=False))
        if reward is None:
            rewards = table["reward"].to_numpy()[transition_rows(starts, len(table))]
            labels.append(label_users(rewards, starts, len(table), horizon))
        else:
            labels.append(label_histories(reward, tensor(table["state"]), tensor(table["action"]), starts, horizon)[1])
    return np.concatenate(labels)


_task = ray.remote(num_cpus=0)(_label_files)


@ray.remote(num_cpus=0)
def _concatenate(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)
