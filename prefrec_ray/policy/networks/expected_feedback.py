"""Expected feedback: a network that predicts the feedback on an item, and scores of items from it.

Long-term effects are small next to the noise of users' behavior, so that Q learns little more than a direction in the
embedding: the further an item lies along it, the higher its Q. True effects saturate, and feedback shows this, because
every impression has feedback. Scores by Q are therefore replaced by the part that expected feedback explains:

    score(s, a) = w . g(s, a)        g: expected feedback;  w: least squares of Q over the items of many states

Feedback is a surrogate of the later outcome, as in a surrogate index (Athey et al. 2019, NBER 26463). There is one w
for all states, each state in the unit of its own Q. If the logging policy showed mostly good items, the Q of a single
state is mostly noise; a w per state would fit this noise (docs/results/recipe.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from prefrec_ray.acceleration import Adam
from prefrec_ray.policy.networks.bundled import read_networks, write_networks
from prefrec_ray.policy.networks.layers import Mlp, seeded
from prefrec_ray.policy.networks.q import ItemNetwork

HIDDEN = (64, 64)
#: Most passes over the impressions, and most updates: more would make networks of small logs memorise them.
PASSES, UPDATES, BATCH = 10, 2000, 1024
#: Decreases to 0 over the updates.
LEARNING_RATE = 2e-3
#: Ridge of the least squares, for feedback of variance 1.
RIDGE = 0.03


class ExpectedFeedback(ItemNetwork):
    """E[feedback | s, a], one output per column of feedback, in units of its deviation."""

    @classmethod
    def load(
        cls, uri: str, sizes: Sequence[int], products: Sequence[Sequence[int]], action_dim: int
    ) -> ExpectedFeedback:
        """Load the result of `save`. Raises `UserError` for a missing file, and for missing arrays or other sizes."""
        networks, _ = read_networks(uri, {"answers": sizes})
        return cls(Mlp.from_layers(networks["answers"]), products, action_dim)

    def save(self, uri: str) -> list[int]:
        """Write the arrays to `uri`; return the layer sizes, which `load` needs."""
        return write_networks(uri, {"answers": self.net.layers})["answers"]


def fit_answers(
    states: np.ndarray, actions: np.ndarray, feedback: np.ndarray, products: Sequence[Sequence[int]], seed: int
) -> ExpectedFeedback:
    """Fit the network by least squares on impressions: scaled states [N, S], embeddings [N, A], scaled feedback [N, F].

    The prediction of constant feedback is exactly 0: the remains of the initial weights would otherwise distinguish
    items and seem to explain Q. The result depends only on the arguments.
    """
    rng = np.random.default_rng(seed)
    deviation = feedback.std(axis=0)
    wanted = (feedback - feedback.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    with seeded(seed):
        network = ExpectedFeedback.random(states.shape[1], actions.shape[1], HIDDEN, products, feedback.shape[1])
    same = feedback.min(axis=0) == feedback.max(axis=0)
    wanted[:, same] = 0.0
    with torch.no_grad():  # error and gradient are 0, so the weights stay 0
        network.net.linear[-1].weight[same] = 0.0
        network.net.linear[-1].bias[same] = 0.0
    optimizer = Adam(network.parameters())
    updates = min(UPDATES, -(-PASSES * len(states) // BATCH))
    for update in range(updates):
        rows = rng.integers(0, len(states), BATCH)
        seen, item, answer = (torch.from_numpy(part[rows].astype(np.float32)) for part in (states, actions, wanted))
        loss = (network(seen, item) - answer).square().mean()
        optimizer.descend(loss, LEARNING_RATE * (1 - update / updates))
    return network.requires_grad_(False)


def worth_of(answers: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return w float32 [F], the least-squares fit of `answers` [n, k, F] to `scores` [n, k] of k items.

    Scores are standardised within each state. The weight of constant feedback is 0.
    """
    away, centred = (_centred(part) for part in (answers, scores))
    away = away.reshape(-1, away.shape[2])
    unit = _inverse(np.sqrt(np.square(away).mean(axis=0)), 1e-6)
    away *= unit
    centred *= _inverse(centred.std(axis=1, keepdims=True), 0.0)
    covariance = away.T @ away / len(away) + RIDGE * np.eye(len(unit))
    return (np.linalg.solve(covariance, away.T @ centred.ravel() / len(away)) * unit).astype(np.float32)


def _centred(values: np.ndarray) -> np.ndarray:
    """Return the values, float64, minus their mean over the items of each state."""
    return values - values.mean(axis=1, keepdims=True, dtype=np.float64)


def _inverse(values: np.ndarray, least: float) -> np.ndarray:
    """Return 1 / values; 0 for values of at most `least`."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > least)
