"""Diagnostics of a policy's actions: saturation at the bounds, and distance to items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefrec_ray.policy.bundle import Policy

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
    row = policy.items.nearest(actions, 1, policy.metric)[:, 0]
    nearest = row if policy.metric == "nearest" else None
    return Placed(saturated, row, policy.items.distance(actions, nearest))
