"""Actions of a policy: the served items, saturation at the bounds, and the distance to items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefrec_ray.policy.policy import Policy

#: A coordinate counts as saturated within this share of the bounds' half-width from a bound.
SATURATION = 0.01


class Placed(NamedTuple):
    """Diagnostics of actions [n, A].

    `saturated` bool [n, A]; `row` int64 [n], the item for each action; `distance` float32 [n], the Euclidean distance
    to the nearest item.
    """

    saturated: np.ndarray
    row: np.ndarray
    distance: np.ndarray


def placed(policy: Policy, actions: np.ndarray) -> Placed:
    """Return the diagnostics of actions [n, A] of `policy`."""
    margin = SATURATION * 0.5 * (policy.high - policy.low)
    saturated = (actions <= policy.low + margin) | (actions >= policy.high - margin)
    row = policy.items.nearest(actions, 1)[:, 0]
    return Placed(saturated, row, np.linalg.norm(actions - policy.items.embeddings[row], axis=1))


def served_for(policy: Policy, actions: np.ndarray) -> np.ndarray:
    """Return the embeddings [n, A] of the items served for `actions` [n, A] of the policy."""
    if not policy.always_nearest:
        return actions  # already embeddings of items
    return policy.items.embeddings[policy.items.nearest(actions, 1)[:, 0]]
