"""Disagreement of reward models with different seeds, for the choice of informative pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from prefrec_ray.algorithms.base.diagnostics import segment_returns
from prefrec_ray.algorithms.feed.preferences import segment_rows
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runs.export import TrainedReward
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks


def disagreement(
    dataset: PreparedDataset, pairs: pa.Table, rewards: list[TrainedReward], progress: Progress
) -> np.ndarray:
    """Return the standard deviation over rewards of P(second preferred), float64 [P], for pairs of training users.

    Christiano et al. 2017, "Deep Reinforcement Learning from Human Preferences", 2.2.4: the variance across an
    ensemble indicates informative pairs. Tasks read one file each and return only sums of segments.
    """
    columns = {name: pairs[name].to_numpy(zero_copy_only=False) for name in pairs.column_names}
    shared = ray.put((columns, rewards))
    files = dataset.files("requests", "train")
    returns = np.full((2, len(pairs), len(rewards)), np.nan)
    for part in run_tasks(
        lambda file: _returns.remote(dataset.uri, file, shared), files, "score segments: files", progress
    ):
        for side, pair, values in part:
            returns[side, pair] = values
    preferred = 1 / (1 + np.exp(-(returns[1] - returns[0])))
    return preferred.std(axis=1)


@ray.remote(num_cpus=1)
def _returns(uri: str, file: str, shared: Any) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return for each side its number, the pairs with users in the file, and the segments' returns [n, rewards]."""
    pairs, rewards = shared
    length = int(pairs["length"][0])
    returns: dict[int, tuple[np.ndarray, list[np.ndarray]]] = {}
    for reward in rewards:
        rows = segment_rows(uri, file, pairs, None if reward.columns is None else list(reward.columns))
        for side, pair, first in rows["starts"]:
            with torch.no_grad():
                values = segment_returns(reward.net, rows["inputs"], first, length)
            returns.setdefault(side, (pair, []))[1].append(values.numpy())
    return [(side, pair, np.stack(values, axis=1)) for side, (pair, values) in returns.items()]
