"""Choice of pairs: an ensemble of rewards, and the information that a vote on a pair gives about it (BALD).

A member's reward of an impression x is w . tanh(A x), with random A. The reward of a segment is w . the mean of tanh(A
x) over its impressions, which is computed once per pair. The weights w are a logistic regression on differences of
these means. Members differ in A and in a bootstrap of the pairs.
"""

from __future__ import annotations

import numpy as np

MEMBERS, WIDTH = 8, 48
#: The file of a store with these means: `pair` [n], `features` [n, MEMBERS, WIDTH], second minus first.
FEATURES = "features.npz"
#: Precision of the Gaussian prior on w for features with unit variance, and number of Newton steps.
_PRECISION, _STEPS = 8.0, 6


def layers(columns: int, seed: int) -> np.ndarray:
    """Return the random layers A, float32 [columns, MEMBERS * WIDTH]."""
    rng = np.random.default_rng((seed, columns))
    return (rng.standard_normal((columns, MEMBERS * WIDTH)) / np.sqrt(columns)).astype(np.float32)


def fit(features: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights float64 [MEMBERS, WIDTH], and a mask of pairs outside each member's bootstrap, bool [n, MEMBERS].

    features [n, MEMBERS, WIDTH] (second minus first) and label [n], P(second preferred), belong to n pairs. Each member
    minimizes the cross-entropy on its bootstrap plus _PRECISION |w|^2 / 2.
    """
    weight = np.random.default_rng((seed, len(label))).poisson(1.0, (MEMBERS, len(label)))
    fitted = np.zeros((MEMBERS, WIDTH))
    for member, (w, times) in enumerate(zip(fitted, weight, strict=True)):
        x = features[:, member].astype(np.float64)
        for _ in range(_STEPS):
            p = _sigmoid(x @ w)
            slope = x.T @ (times * (p - label)) + _PRECISION * w
            curvature = (x.T * (times * p * (1 - p))) @ x + _PRECISION * np.eye(WIDTH)
            w -= np.linalg.solve(curvature, slope)
    return fitted, weight.T == 0


def unseen(probability: np.ndarray, unseen_by: np.ndarray) -> np.ndarray:
    """Return P(second preferred) of each pair by the members that have not seen it, [n]; NaN if all have.

    probability and unseen_by [n, MEMBERS].
    """
    members = unseen_by.sum(axis=1)
    total = np.where(unseen_by, probability, 0.0).sum(axis=1)
    return np.divide(total, members, out=np.full(len(total), np.nan), where=members > 0)


def preferred(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return P(second preferred) by every member, float64 [n, MEMBERS]."""
    return _sigmoid(np.einsum("nmw,mw->nm", features, weights))


def bald(probability: np.ndarray) -> np.ndarray:
    """Return the information of a vote about the members, in nats, [n]: entropy of their mean minus mean entropy.

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", equation 2.
    """
    return _entropy(probability.mean(axis=1)) - _entropy(probability).mean(axis=1)


def drawn(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return numbers [n] whose descending order is a draw without replacement, in proportion to `scores` [n].

    Power BALD (Kirsch et al. 2023, "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", section
    3, with exponent 1): the most informative pairs are similar to each other, and unusual (docs/results/labeling.md).
    """
    return np.log(np.maximum(scores, 1e-12)) + rng.gumbel(size=len(scores))


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))
