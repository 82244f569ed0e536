"""Items that a policy serves: the most frequent items, their number, and the distance of actions from items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.evaluation.results.records import ItemShare, ServedItems
from prefrec_ray.policy import Policy
from prefrec_ray.policy.actions import placed

TOP_ITEMS = 20


@dataclass(frozen=True)
class Tally:
    """Sums over impressions of one file. Logged items have no actions: their distance and saturation are None."""

    requests: int
    items: Counter[Any]
    distance: float | None = None
    saturation: float | None = None


def tally_policy(policy: Policy, actions: np.ndarray) -> Tally:
    """Count the items that `policy` serves for its `actions` [n, A]; distances are Euclidean, to the nearest item.

    Impressions are independent: items that the user has seen before are not excluded (unlike in `in_roll_out`).
    """
    lie = placed(policy, actions)
    return Tally(
        requests=len(actions),
        items=count(policy.items.ids[lie.row]),
        distance=float(lie.distance.sum()),
        saturation=float(lie.saturated.mean(axis=1).sum()),
    )


def count(item_ids: np.ndarray) -> Counter[Any]:
    """Return how often each id occurs."""
    ids, counts = np.unique(item_ids, return_counts=True)
    return Counter(dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def summarise(tallies: Iterable[Tally]) -> ServedItems:
    """Add up the tallies of all files."""
    parts = list(tallies)
    requests = sum(part.requests for part in parts)
    actions: dict[str, Any] = {}
    if all(part.distance is not None and part.saturation is not None for part in parts):
        actions["item_distance"] = sum(part.distance or 0.0 for part in parts) / requests
        actions["action_saturation"] = sum(part.saturation or 0.0 for part in parts) / requests
    return ServedItems(**_items(sum((part.items for part in parts), Counter())), **actions)


def in_roll_out(served: ServedItems, ids: np.ndarray, counts: np.ndarray, ceiling: float) -> ServedItems:
    """Return `served` with the items `ids` [I] and their numbers of impressions in a roll-out, `counts` int64 [I].

    If the log has no repeats, a roll-out excludes items that a user has seen, as a server does. An item then reaches
    each user at most once, however high its score is.
    """
    shown = np.flatnonzero(counts)
    items = Counter(dict(zip(ids[shown].tolist(), counts[shown].tolist(), strict=True)))
    return served.model_copy(update={**_items(items), "counted": "roll-out", "ceiling": ceiling})


def _items(items: Counter[Any]) -> dict[str, Any]:
    """Return the item fields of `ServedItems`; the order of ties does not depend on the order of files."""
    requests = items.total()
    top = sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_ITEMS]
    shares = tuple(ItemShare(item_id=item, share=times / requests) for item, times in top)
    return {"requests": requests, "distinct_items": len(items), "top_items": shares}
