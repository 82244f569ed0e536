"""Reward labels with a horizon: the mean reward of the next `reward_horizon` impressions, instead of one only.

A step is an impression, or a page (mdp/pages.py), whose reward is the mean over its items. The horizon counts items of
pages, so that it is as long on pages as on single items. The first reward of a label is the reward of its own item.

A preference between long segments does not show which impressions decided it. A reward learned from preferences
therefore responds to immediate signals (a click, a long view), and an actor that maximizes it impression by impression
maximizes these. The mean over many impressions depends on the user's lasting state (docs/recipe.md).

Tasks over the files of impressions compute the labels along the histories. Learners look labels up by the number of a
transition, because transitions are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.util import get_current_placement_group

from prefrec_ray.algorithms.feed.shards import RewardLabels
from prefrec_ray.algorithms.requests import RewardRequest
from prefrec_ray.algorithms.reward.model import RewardState, reward_network
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.ids import changes, run_lengths
from prefrec_ray.mdp.pages import Pages

#: Smallest number of impressions per task: for fewer, starting a task takes longer than its work.
REQUESTS_A_TASK = 1_000_000
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class RewardFunction:
    """A learned reward as arrays, to send to tasks. It sees `columns` of the next state; None: state and action."""

    weights: dict[str, np.ndarray]
    hidden_sizes: tuple[int, ...]
    columns: Sequence[int] | None
    members: int = 1

    @classmethod
    def from_state(cls, request: RewardRequest, state: RewardState) -> RewardFunction:
        """Return the reward that was pre-trained for `request`."""
        return cls(state.weights, request.hidden_sizes, request.preferences.columns, request.members)

    def __call__(self, state: np.ndarray, action: np.ndarray, rows: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Return rewards, float32 [T], of the transitions from `rows` [T] to `following` [T].

        Both are rows of states [N, S] and actions [N, A].
        """
        inputs = [state[rows], action[rows]] if self.columns is None else [state[following][:, list(self.columns)]]
        network = reward_network(sum(part.shape[1] for part in inputs), self.hidden_sizes, self.members)
        network.load_state_dict({name: torch.tensor(value) for name, value in self.weights.items()})
        with torch.no_grad():
            chunks = zip(*(torch.from_numpy(part).split(_ROWS_AT_ONCE) for part in inputs), strict=True)
            return torch.cat([network(*chunk) for chunk in chunks]).numpy()


def label_users(reward: np.ndarray, pages: Pages, horizon: int) -> np.ndarray:
    """Return reward labels, float32 [T], from rewards [T] of the transitions of whole users with these `pages`.

    The label of a step is the mean reward of the steps that begin within the next `horizon` impressions; of fewer at a
    user's end.
    """
    rows, _ = pages.transitions()
    begins = changes(pages.of_row[rows])
    first, page = np.flatnonzero(begins), np.cumsum(begins) - 1
    mean = Pages(first, page, np.zeros(0, np.int64)).means(reward)
    # A user of n pages has transitions from n - 1 pages; a user of one page has none.
    sizes = run_lengths(pages.of_user, len(pages.first)) - 1
    step, end = np.arange(len(mean)), np.repeat(np.cumsum(sizes), sizes)
    last = np.minimum(np.searchsorted(first, first + horizon), end)
    total = np.concatenate([[0.0], np.cumsum(mean)])
    ahead = ((total[last] - total[step]) / (last - step)).astype(np.float32)
    own = (reward - mean[page]) / (last - step)[page]
    return (ahead[page] + own).astype(np.float32)


def label_histories(
    reward: RewardFunction, state: np.ndarray, action: np.ndarray, pages: Pages, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [T] and reward labels [T] of the transitions of whole users with these `pages`."""
    rows, following = pages.transitions()
    return rows, label_users(reward(state, action, rows, following), pages, horizon)


def label_table(
    table: pa.Table, pages: Pages, reward: RewardFunction | None, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [T] and reward labels [T] of the transitions in a file of impressions; `reward` None: its column."""
    if reward is not None:
        return label_histories(reward, tensor(table["state"]), tensor(table["action"]), pages, horizon)
    rows, _ = pages.transitions()
    return rows, label_users(table["reward"].to_numpy()[rows], pages, horizon)


def label_transitions(dataset: PreparedDataset, reward: RewardFunction | None, horizon: int) -> RewardLabels:
    """Return the labels of all transitions; `reward` None: the reward column.

    Small data sets are labelled in this process, larger ones by tasks on all nodes. Learners, which wait for the
    labels, or other trials may hold the CPUs; the tasks then ask for none. Raises `UserError` for a data set without
    impressions.
    """
    files = dataset.files("requests", "train")
    if not files:
        raise UserError(f"{dataset.path('requests', 'train')}: found no impressions to label; expected part-*.parquet")
    requests = dataset.metadata.counts.get("train", {}).get("requests", 0)
    tasks = min(len(files), int(ray.cluster_resources().get("CPU", 1)), requests // REQUESTS_A_TASK)
    if tasks <= 1:
        labels = _label_files(dataset.uri, files, reward, horizon)
        return RewardLabels.from_parts([ray.put(labels)], [len(labels)])
    reference = ray.put(reward)
    free = ray.available_resources().get("CPU", 0.0) >= tasks and get_current_placement_group() is None
    task = _task.options(num_cpus=int(free))
    started = [task.remote(dataset.uri, list(part), reference, horizon) for part in np.array_split(files, tasks)]
    return RewardLabels.from_parts([labels for labels, _ in started], ray.get([size for _, size in started]))


def _label_files(uri: str, files: Sequence[str], reward: RewardFunction | None, horizon: int) -> np.ndarray:
    dataset = PreparedDataset.open(uri)
    columns = ["user_id", "step", *(["reward"] if reward is None else ["state", "action"])]
    labels = []
    for file in files:
        table = dataset.read(str(file), columns)
        labels.append(label_table(table, Pages.from_table(table), reward, horizon)[1])
    return np.concatenate(labels)


@ray.remote(num_returns=2, scheduling_strategy="SPREAD")
def _task(uri: str, files: Sequence[str], reward: RewardFunction | None, horizon: int) -> tuple[np.ndarray, int]:
    """Return the labels, and their number."""
    labels = _label_files(uri, files, reward, horizon)
    return labels, len(labels)
