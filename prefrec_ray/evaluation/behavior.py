"""Models of the logging policy: probabilities of items, for logs without propensities, and behavior cloning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import ray
import torch
from torch import nn

from prefrec_ray import runtime
from prefrec_ray.acceleration import Adam
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.plackett_luce import log_sum_exp
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp, exported, mlp
from prefrec_ray.users.histories import Histories

HIDDEN = (64, 64)
BATCH = 512
#: Passes over the impressions, and the largest number of updates.
PASSES, UPDATES = 10, 2000
#: Falls to 0 over the updates.
LEARNING_RATE = 2e-3
#: Number of negative items per shown item, drawn by their share in the log.
NEGATIVES = 255
#: Share of users held out for the temperature, and the most impressions of these users.
HELD_OUT, HELD_OUT_ROWS = 0.15, 4096
TEMPERATURES = np.arange(21) / 10
#: Numbers in memory for one chunk of impressions.
_AT_ONCE = 1 << 22
CLONE_HIDDEN = (128, 128)
#: 1,500 updates are as good as several thousand at a constant rate of 1e-3.
CLONE_UPDATES = 1500
#: Updates between two checks of the held-out loss, and the number of checks without improvement before the fit stops.
CHECK_EVERY = 150
PATIENCE = 4
#: Validation impressions for early stopping.
CLONE_HELD_OUT = 16_384
#: Largest number of transitions in memory, about 200 MB.
HELD_ROWS = 250_000


@dataclass(frozen=True)
class BehaviorModel:
    """b(i | s) proportional to share_i exp(temperature h(s) . (e_i, e_i^2)) over the items that may be shown.

    share_i is the item's share in the log, e_i its embedding, h(s) a network: a Gaussian in each coordinate.
    """

    net: Mlp
    log_share: np.ndarray  # float64 [I]
    embeddings: np.ndarray  # float32 [I, A]
    temperature: float = 1.0

    def log_probabilities(
        self, states: np.ndarray, rows: np.ndarray, excluded: ExcludedItems | None = None
    ) -> np.ndarray:
        """Return log b of the items `rows` [n] in scaled states [n, S] without `excluded` items, float64 [n]."""
        log_b = np.empty(len(rows))
        chunk = max(1, _AT_ONCE // len(self.log_share))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            logits = self.logits(states[part])
            if excluded is not None:
                out = excluded[part]
                logits[out.state, out.item] = -np.inf
            log_b[part] = logits[np.arange(len(logits)), rows[part]] - log_sum_exp(logits)
        return log_b

    def logits(self, states: np.ndarray) -> np.ndarray:
        """Return the logits of all items, float64 [n, I]."""
        with torch.inference_mode():
            towards = self.net(torch.tensor(states)).numpy()
        return self.log_share + self.temperature * (towards @ powers(self.embeddings).T).astype(np.float64)


def powers(embeddings: np.ndarray) -> np.ndarray:
    """Return the coordinates and their squares, float32 [I, 2 A]."""
    return np.concatenate([embeddings, np.square(embeddings)], axis=1)


def fit_behavior(data: Histories, items: ItemTable, seed: int) -> BehaviorModel:
    """Fit b by noise-contrastive estimation, then calibrate one temperature.

    The network separates the shown item from `NEGATIVES` others, drawn by their share in the log, so that shares cancel
    (van den Oord et al. 2018, Eq. 4). The temperature maximizes the likelihood on held-out users (Guo et al. 2017),
    because networks are overconfident on their training data. Equal arguments give an equal model.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    held = (rng.random(len(data.starts)) < HELD_OUT)[data.user]
    chosen = np.ones(len(held), bool) if data.pins is None else ~data.pins
    rows = np.flatnonzero(chosen & ~held)
    rows = rows if len(rows) else np.arange(len(held))
    shown = np.bincount(data.row[rows], minlength=len(items)) + 0.5
    seen = torch.from_numpy(powers(items.embeddings))
    net = mlp(data.state.shape[1], HIDDEN, seen.shape[1])
    optimizer = Adam(net.parameters())
    updates = min(UPDATES, -(-PASSES * len(rows) // BATCH))
    shares = np.cumsum(shown) / shown.sum()
    for update in range(updates):
        at = rows[rng.integers(0, len(rows), BATCH)]
        others = np.searchsorted(shares, rng.random(NEGATIVES)).clip(0, len(shown) - 1)
        towards = net(torch.from_numpy(data.state[at]))
        own = (towards * seen[data.row[at]]).sum(dim=1, keepdim=True)
        logits = torch.cat([own, towards @ seen[others].T], dim=1)
        loss = nn.functional.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))
        optimizer.descend(loss, LEARNING_RATE * (1 - update / updates))
    model = BehaviorModel(net.requires_grad_(False), np.log(shown / shown.sum()), items.embeddings)
    held_rows = rng.permutation(np.flatnonzero(chosen & held))[:HELD_OUT_ROWS]
    return calibrated(model, data.state[held_rows], data.row[held_rows]) if len(held_rows) else model


def calibrated(model: BehaviorModel, states: np.ndarray, rows: np.ndarray) -> BehaviorModel:
    """Return the model with the temperature that maximizes the likelihood of items `rows` [n] in `states` [n, S].

    The log-likelihood is concave in the temperature, so that a climb over `TEMPERATURES` from 1 ends at the maximum.
    Each step scores every item.
    """

    def at(number: int) -> tuple[float, BehaviorModel]:
        one = replace(model, temperature=float(TEMPERATURES[number]))
        return float(one.log_probabilities(states, rows).mean()), one

    number = int(np.abs(TEMPERATURES - 1).argmin())
    best, chosen = at(number)
    for step in (1, -1):
        while 0 <= number + step < len(TEMPERATURES):
            likelihood, other = at(number + step)
            if likelihood <= best:
                break
            number, best, chosen = number + step, likelihood, other
    return chosen


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
    return ray.get(start_clone(dataset, seed))


def start_clone(dataset: PreparedDataset, seed: int) -> ray.ObjectRef:
    """Start `fit_clone`, and return the reference to its result. Ray must run."""
    return _fit.remote(dataset.uri, seed)


@ray.remote(num_cpus=1)
def _fit(uri: str, seed: int) -> BehaviorClone:
    dataset = PreparedDataset.open(uri)
    meta = dataset.metadata
    low, high = (np.full(meta.action_dim, bound, dtype=np.float32) for bound in (meta.action_low, meta.action_high))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = DeterministicActor(mlp(dataset.state.width, CLONE_HIDDEN, meta.action_dim), low, high)
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
            if looks >= PATIENCE or update == CLONE_UPDATES:
                break
        loss = loss_on(torch.from_numpy(states), torch.from_numpy(actions))
        optimizer.descend(loss, LEARNING_RATE * (1 - update / CLONE_UPDATES))
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
        rows = np.sort(rng.permutation(table.num_rows)[: -(-CLONE_HELD_OUT // len(files))])
        states.append(tensor(table["state"])[rows])
        actions.append(tensor(table["action"])[rows])
    if not any(map(len, states)):
        raise UserError(
            f"{dataset.uri}: no validation impressions; expected some for early stopping of the behavior clone"
        )
    return torch.from_numpy(np.concatenate(states)), torch.from_numpy(np.concatenate(actions))
