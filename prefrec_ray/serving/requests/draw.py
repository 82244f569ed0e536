"""Draw of the items of recommendations: by the policy of the user's arm, or before the first policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrec_ray.serving.requests.bodies import Recommend
from prefrec_ray.serving.settings import INCUMBENT, LOG_POLICIES
from prefrec_ray.serving.state.policies import ItemId
from prefrec_ray.serving.state.popularity import draw_by_weight
from prefrec_ray.serving.state.state import ServedState

#: Items and propensities.
Drawn = tuple[list[ItemId], list[float]]


def draw_items(
    state: ServedState, bodies: Sequence[Recommend], rows: np.ndarray, now: np.ndarray, rng: np.random.Generator
) -> list[Drawn]:
    """Return items and propensities for each of n HTTP requests, drawn by the policy of the user's arm.

    `rows` int64 [n] are the rows of the users, `now` int64 [n] the times in ms. The lists are shorter than `k` if fewer
    items are left.
    """
    drawn: list[Drawn] = [([], []) for _ in bodies]
    arm, wanted = state.users.arm[rows], np.array([body.k for body in bodies])
    rests = np.array([one.policy.serving.rest_ms() for one in state.loaded])[arm].tolist()
    resting = map(state.users.resting, rows.tolist(), now.tolist(), rests)
    seen = [
        np.concatenate([codes, state.codes.find(state.codes.array(body.exclude))])
        for body, codes in zip(bodies, resting, strict=True)
    ]
    for number in np.unique(arm).tolist():
        mine = np.flatnonzero(arm == number)
        digest = state.loaded[number].digest
        if digest == INCUMBENT:
            for at in mine.tolist():
                shown = (bodies[at].incumbent or [])[: bodies[at].k]
                drawn[at] = shown, [float("nan")] * len(shown)
            continue
        shelf, tracker = state.shelves[number], state.trackers[number]
        if not len(shelf.policy.items):
            continue
        weights = state.weights(number) if digest in LOG_POLICIES else None
        states = tracker.states(now[mine], users=rows[mine])
        recent = tracker.recent(rows[mine]) if shelf.policy.penalises_repetition else None
        out = shelf.excluded([seen[at] for at in mine.tolist()])
        left = shelf.policy.left(out)
        # A short draw is the beginning of a long one. So all states draw the same number at once, and are cut off;
        # states with fewer items left draw separately.
        k = int(wanted[mine].max())
        few = np.flatnonzero((left < k) & (left > 0))
        for group in (np.flatnonzero(left >= k), *few[:, None]):
            if not len(group):
                continue
            seed = int(rng.integers(2**63))
            most = min(k, int(left[group].min()))
            if weights is not None:
                of_group = draw_by_weight(weights, most, out.take(group), seed)
            else:
                seen_kinds = None if recent is None else recent[group]
                of_group = shelf.policy.draw(states[group], most, out.take(group), seed, seen_kinds)
            ids, chances = shelf.policy.items.ids[of_group.rows].tolist(), of_group.propensities.tolist()
            for at, one, chance in zip(mine[group].tolist(), ids, chances, strict=True):
                drawn[at] = one[: wanted[at]], chance[: wanted[at]]
    return drawn
