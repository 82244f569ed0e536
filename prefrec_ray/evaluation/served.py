"""What a policy would serve: items and how concentrated they are, and whether its actions lie where items are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.evaluation.records import ItemShare, Served
from prefrec_ray.policy import Policy
from prefrec_ray.policy.actions import placed

TOP_ITEMS = 20


@dataclass(frozen=True)
class Tally:
    """Sums over some requests; those of the logged items have no actions (None)."""

    requests: int
    items: Counter[Any]
    distance: float | None = None
    saturation: float | None = None


def tally_policy(policy: Policy, actions: np.ndarray) -> Tally:
    """What `policy` serves for its `actions` [n, A] by its own rule; Euclidean distances to the nearest item."""
    lie = placed(policy, actions)
    return Tally(
        requests=len(actions),
        items=count(policy.items.ids[lie.row]),
        distance=float(lie.distance.sum()),
        saturation=float(lie.saturated.mean(axis=1).sum()),
    )


def count(item_ids: np.ndarray) -> Counter[Any]:
    """How often each id occurs."""
    ids, counts = np.unique(item_ids, return_counts=True)
    return Counter(dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def summarise(tallies: Iterable[Tally]) -> Served:
    """The tallies of all files together."""
    parts = list(tallies)
    requests = sum(part.requests for part in parts)
    items = sum((part.items for part in parts), Counter())
    # Ties in an order that does not depend on that of the files.
    top = sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_ITEMS]
    actions = {}
    if all(part.distance is not None and part.saturation is not None for part in parts):
        actions["item_distance"] = sum(part.distance or 0.0 for part in parts) / requests
        actions["action_saturation"] = sum(part.saturation or 0.0 for part in parts) / requests
    return Served(
        requests=requests,
        distinct_items=len(items),
        top_items=tuple(ItemShare(item_id=item, share=times / requests) for item, times in top),
        **actions,
    )
