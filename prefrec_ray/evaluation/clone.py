"""Behavior cloning: an estimate of E[a | s] from training users, as reference of NCIS and as a control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import ray
import torch
from torch import nn

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.adam import Adam
from prefrec_ray.policy.networks.layers import exported, mlp

HIDDEN_SIZES = (128, 128)
BATCH = 512
#: Falls to 0 over the updates. 1,500 updates are as good as several thousand at a constant 1e-3.
LEARNING_RATE = 2e-3
UPDATES = 1500
#: Updates between two checks of the held-out loss, and the number of checks without improvement before the fit stops.
CHECK_EVERY = 150
PATIENCE = 3
HELD_OUT_ROWS = 16_384
#: Largest number of transitions in memory, about 200 MB.
HELD_ROWS = 250_000


@dataclass(frozen=True)
class BehaviorClone:
    """The clone as a policy, its residual rms and the mean logged action.

    The residual rms is one number over rows and coordinates, on validation impressions. The mean action [A] is over the
    training rows of the fit.
    """

    policy: Policy
    residual_rms: float
    mean_action: np.ndarray


def fit_clone(dataset: PreparedDataset, seed: int = 0) -> BehaviorClone:
    """Fit a clone by least squares on transitions of training users, in one Ray task.

    Early stopping uses validation users. The result depends only on the data set and the seed. Raises `UserError` if
    there are no transitions or no validation impressions.
    """
    runtime.start_ray()
    return ray.get(_fit.remote(dataset.uri, seed))


@ray.remote(num_cpus=1)
def _fit(uri: str, seed: int) -> BehaviorClone:
    dataset = PreparedDataset.open(uri)
    meta = dataset.metadata
    low, high = (np.full(meta.action_dim, bound, dtype=np.float32) for bound in (meta.action_low, meta.action_high))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = DeterministicActor(mlp(dataset.state.width, HIDDEN_SIZES, meta.action_dim), low, high)
    middle, reach = torch.from_numpy((low + high) / 2), torch.from_numpy((high - low) / 2)

    def loss_on(states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        # `squashed` without its rounding, which would change the clone of a seed and the last digits of NCIS.
        return nn.functional.mse_loss(middle + torch.tanh(net.net(states)) * reach, actions)

    held_out = _held_out(dataset, rng)
    optimizer = Adam(net.parameters())
    lowest, best, looks = np.inf, exported(net), 0
    total, rows = np.zeros(meta.action_dim), 0
    for update, (states, actions) in enumerate(_batches(dataset, rng)):
        if update % CHECK_EVERY == 0:
            with torch.inference_mode():
                held = loss_on(*held_out).item()
            looks = 0 if held < lowest else looks + 1
            if held < lowest:
                lowest, best = held, exported(net)
            if looks > PATIENCE or update == UPDATES:
                break
        loss = loss_on(torch.from_numpy(states), torch.from_numpy(actions))
        optimizer.descend(loss, LEARNING_RATE * (1 - update / UPDATES))
        total += actions.sum(axis=0, dtype=np.float64)
        rows += len(actions)
    policy = Policy(
        actor=best,
        state=dataset.state,
        normaliser=dataset.normaliser,
        items=dataset.items(),
        provenance={"method": "imitation", "dataset": uri},
    )
    return BehaviorClone(policy, float(np.sqrt(lowest)), (total / rows).astype(np.float32))


def _batches(dataset: PreparedDataset, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield endless batches of (states, actions), in a new random order per pass.

    Small data are read once, because reading from an object store is slow. Larger data have one shard in memory.
    """
    files = dataset.files("transitions")

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        table = dataset.read(files[number], columns=["obs", "action"])
        return tensor(table["obs"]), tensor(table["action"])

    held = cache(read) if dataset.metadata.counts["train"]["transitions"] <= HELD_ROWS else read
    rows_seen = -1
    while rows_seen:
        rows_seen = 0
        for number in rng.permutation(len(files)):
            states, actions = held(number)
            order = rng.permutation(len(states))
            for start in range(0, len(order), BATCH):
                rows = np.sort(order[start : start + BATCH])
                yield states[rows], actions[rows]
            rows_seen += len(order)
    raise UserError(f"{dataset.uri}: no transitions; expected transitions for the behavior clone")


def _held_out(dataset: PreparedDataset, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states and actions of a sample of the validation impressions."""
    states, actions = [], []
    files = dataset.files("requests", "validation")
    for file in files:
        table = dataset.read(file, columns=["state", "action"])
        rows = np.sort(rng.permutation(table.num_rows)[: -(-HELD_OUT_ROWS // len(files))])
        states.append(tensor(table["state"])[rows])
        actions.append(tensor(table["action"])[rows])
    if not any(map(len, states)):
        raise UserError(
            f"{dataset.uri}: no validation impressions; expected some for early stopping of the behavior clone"
        )
    return torch.from_numpy(np.concatenate(states)), torch.from_numpy(np.concatenate(actions))
