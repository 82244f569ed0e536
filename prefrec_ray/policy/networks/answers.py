"""What people answer to an item, as the log says it: the feedback that is expected, by which Q's items are told apart.

Long-term effects are small beside what users do anyway, and a Q learns little more of them than a direction: the
further an item lies along it, the better. What items do ends somewhere: of two that everybody likes, neither is worth
ten others. Answers show that, as each request has its own. So scores of Q are replaced by what answers explain of them:

    score(s, a) = w . g(s, a)        g: expected answers;  w: least squares of Q over the items of many states

Answers stand for what comes later, as in a surrogate index (Athey et al. 2019, NBER 26463). One w for all states, each
in the unit of its own Q: where a policy has shown what is good and little else, a log has no contrast, and Q is mostly
noise, which a w of that state would follow, and of which little is left in all states together (docs/results/loop.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from prefrec_ray.policy.networks.adam import Adam
from prefrec_ray.policy.networks.arrays import read_networks, write_networks
from prefrec_ray.policy.networks.layers import Mlp, mlp
from prefrec_ray.policy.networks.q import ItemNetwork

HIDDEN = (64, 64)
#: Passes over the requests, and updates at most: networks of small logs learn them by heart.
PASSES, UPDATES, BATCH = 10, 2000, 1024
#: Falls to 0 over the updates.
LEARNING_RATE = 2e-3
#: Of the least squares, beside answers of variance 1.
RIDGE = 0.03
#: Answers that explain less of what Q says of items, a share of its variance, do not stand for it. The right ones
#: explain .4 of a Q that is mostly noise, in a log of good policies alone (docs/results/loop.md).
EXPLAINED = 0.25


class Answers(ItemNetwork):
    """E[feedback | s, a], a column of feedback each, in units of its deviation."""

    @classmethod
    def load(cls, uri: str, sizes: Sequence[int], products: Sequence[Sequence[int]], action_dim: int) -> Answers:
        """Reads what `save` wrote. Raises `UserError`: no such file, arrays that are missing or of other sizes."""
        networks, _ = read_networks(uri, {"answers": sizes})
        return cls(Mlp.of(networks["answers"]), products, action_dim)

    def save(self, uri: str) -> list[int]:
        """Writes the arrays to `uri` (npz, no pickle); returns the layer sizes, which `load` needs."""
        return write_networks(uri, {"answers": self.net.layers})["answers"]


def fit_answers(
    states: np.ndarray, actions: np.ndarray, feedback: np.ndarray, products: Sequence[Sequence[int]], seed: int
) -> Answers:
    """By least squares on requests: scaled states [N, S], embeddings [N, A], feedback on the scale of states [N, F].

    Of feedback that is always the same 0 is expected, to the bit: what a network leaves of its first weights would tell
    items apart, and be taken for something that explains Q. A function of its arguments.
    """
    rng = np.random.default_rng(seed)
    deviation = feedback.std(axis=0)
    wanted = (feedback - feedback.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width, action_dim = states.shape[1], actions.shape[1]
        net = mlp(width + action_dim + len(products), HIDDEN, feedback.shape[1])
    same = feedback.min(axis=0) == feedback.max(axis=0)
    wanted[:, same] = 0.0
    with torch.no_grad():  # without an error there is no gradient either: they stay 0
        net.linear[-1].weight[same] = 0.0
        net.linear[-1].bias[same] = 0.0
    network = Answers(net, products, action_dim)
    optimizer = Adam(network.parameters())
    updates = min(UPDATES, -(-PASSES * len(states) // BATCH))
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - update / updates)
        rows = rng.integers(0, len(states), BATCH)
        seen, item, answer = (torch.from_numpy(part[rows].astype(np.float32)) for part in (states, actions, wanted))
        loss = (network(seen, item) - answer).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


def worth_of(answers: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """w float32 [F] with which `answers` [n, k, F] come nearest to `scores` [n, k] of k items, these in each state less
    their mean and in units of their deviation. 0 for answers that tell no items apart."""
    away, centred = (_centred(part) for part in (answers, scores))
    away = away.reshape(-1, away.shape[2])
    unit = _inverse(np.sqrt(np.square(away).mean(axis=0)), 1e-6)
    away *= unit
    centred *= _inverse(centred.std(axis=1, keepdims=True), 0.0)
    covariance = away.T @ away / len(away) + RIDGE * np.eye(len(unit))
    return (np.linalg.solve(covariance, away.T @ centred.ravel() / len(away)) * unit).astype(np.float32)


def explained(told: np.ndarray, scores: np.ndarray) -> float:
    """The share of the variance of `scores` [n, k] over the k items of all states that `told` [n, k], times a factor a
    state, explains; 0 where there is none."""
    told, scores = (_centred(part) for part in (told, scores))
    along = np.square((told * scores).sum(axis=1)) * _inverse(np.square(told).sum(axis=1), 0.0)
    return float(along.sum() / np.square(scores).sum()) if scores.any() else 0.0


def _centred(values: np.ndarray) -> np.ndarray:
    """float64, less the mean over the items of each state."""
    return values - values.mean(axis=1, keepdims=True, dtype=np.float64)


def _inverse(values: np.ndarray, least: float) -> np.ndarray:
    """1 / values, 0 for those of at most `least`."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > least)
