"""The tracker's states equal those in bulk, whoever moves when."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_histories import DEFINITION, ITEMS, Request, as_rows, histories, profiles

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.bulk import raw_states
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.tracker import StateTracker

# Wide enough that clipping hides no difference.
NORMALISER = Normaliser(np.linspace(-1, 1, DEFINITION.width), np.linspace(12, 14, DEFINITION.width))


def arguments(users, position, garbage):
    """What states and observe take for each user's next request; users who are through get `garbage`."""
    nothing = replace(users[0][0], timestamp=garbage, item=-1, session_id="?", feedback=(np.nan, np.nan), dwell=np.nan)
    coming = [r[p] if p < len(r) else nothing for r, p in zip(users, position, strict=True)]
    feedback = {name: np.array([r.feedback[f] for r in coming]) for f, name in enumerate(DEFINITION.feedback)}
    return (
        np.array([r.timestamp for r in coming]),
        np.array([r.session_id for r in coming]),
        np.array([r.item for r in coming]),
        feedback,
        np.array([r.dwell for r in coming]),
    )


@settings(deadline=None, max_examples=60)
@given(histories(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_states_equal_those_in_bulk(users, by_id, with_dwell, seed):
    rng = np.random.default_rng(seed)
    rows = as_rows(users, by_id, with_dwell)
    expected = NORMALISER(raw_states(DEFINITION, rows))
    assert np.abs(expected).max() < 5
    tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, profiles(len(users)))
    position, length = np.zeros(len(users), dtype=int), rows.lengths
    while (position < length).any():
        moving = (position < length) & (rng.random(len(users)) < 0.6)  # the others pause
        timestamp, ids, item, feedback, dwell = arguments(users, position, garbage=int(rng.integers(2**45)))
        ids = ids if by_id else None
        states = tracker.states(timestamp, session_ids=ids, mask=moving)
        assert states.dtype == np.float32
        np.testing.assert_allclose(states[moving], expected[(rows.starts + position)[moving]], rtol=1e-5, atol=1e-6)
        assert not states[~moving].any()
        item = np.where(moving, item, -1)
        tracker.observe(timestamp, item, feedback, ids, moving, dwell if with_dwell else None)
        position += moving


def test_without_a_mask_all_users_move():
    rng = np.random.default_rng(0)
    n, steps = 4, 200
    time = np.cumsum(rng.integers(0, 90_000, (n, steps)), axis=1) + 1_700_000_000_000
    item, feedback = rng.choice(ITEMS.ids, (n, steps)), rng.random((n, steps, 2), dtype=np.float32)
    tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, profiles(n))
    states = []
    for step in range(steps):
        states.append(tracker.states(time[:, step]))
        columns = {"click": feedback[:, step, 0], "watch": feedback[:, step, 1]}
        tracker.observe(time[:, step], item[:, step], columns)
    users = [
        [Request(int(time[u, s]), "", int(item[u, s]), tuple(feedback[u, s]), np.nan) for s in range(steps)]
        for u in range(n)
    ]
    expected = NORMALISER(raw_states(DEFINITION, as_rows(users))).reshape(n, steps, -1)
    np.testing.assert_allclose(np.stack(states, axis=1), expected, rtol=1e-5, atol=1e-6)


def test_asking_twice_changes_nothing():
    tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, 2)
    tracker.observe(np.array([5, 9]), np.array([10, 20]), {"click": np.ones(2), "watch": np.ones(2)})
    far = np.array([10**9, 10**9])
    once = tracker.states(far)
    np.testing.assert_array_equal(tracker.states(far), once)
    tracker.states(np.array([10, 10]))
    np.testing.assert_array_equal(tracker.states(far), once)


def test_a_bad_request_is_named_and_not_taken_in():
    tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, 2)
    now, feedback = np.array([5, 9]), {"click": np.ones(2), "watch": np.ones(2)}
    before = tracker.states(now)
    with pytest.raises(UserError, match="item_id 11 is not in the item table"):
        tracker.observe(now, np.array([10, 11]), feedback)
    with pytest.raises(UserError, match="feedback 'watch' is missing; found click"):
        tracker.observe(now, np.array([10, 10]), {"click": np.ones(2)})
    np.testing.assert_array_equal(tracker.states(now), before)
