"""The tracker's state vectors equal the bulk state vectors for any order of users."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_histories import DEFINITION, ITEMS, Request, as_rows, histories, page_numbers, profiles
from state_definitions import changed

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.ids import changes
from prefrec_ray.mdp.bulk import raw_states
from prefrec_ray.mdp.exposure import recent_kinds
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.tracker import MeanDivisors, StateTracker

# Wide enough that clipping hides no difference.
NORMALISER = Normaliser(np.linspace(-1, 1, DEFINITION.width), np.linspace(12, 14, DEFINITION.width))


def arguments(users, position, garbage):
    """Return the arguments of `states` and `observe` for each user's next impression; `garbage` after the last."""
    nothing = replace(users[0][0], timestamp=garbage, item=-1, session_id=-1, feedback=(np.nan, np.nan), dwell=np.nan)
    coming = [r[p] if p < len(r) else nothing for r, p in zip(users, position, strict=True)]
    feedback = {name: np.array([r.feedback[f] for r in coming]) for f, name in enumerate(DEFINITION.feedback)}
    return (
        np.array([r.timestamp for r in coming]),
        np.array([r.session_id for r in coming]),
        np.array([r.item for r in coming]),
        feedback,
        np.array([r.dwell for r in coming]),
    )


def observe(tracker, moving, timestamp, item, feedback, ids=None, dwell=None, pages=None):
    """Record the impressions of the users in the mask `moving`."""
    users = np.flatnonzero(moving)
    ids, dwell, pages = (None if column is None else column[users] for column in (ids, dwell, pages))
    columns = {name: values[users] for name, values in feedback.items()}
    tracker.observe(timestamp[users], item[users], columns, ids, dwell, users, pages)


@settings(deadline=None, max_examples=30)
@given(histories(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_states_equal_those_in_bulk(users, by_id, with_dwell, paged, seed):
    """With pages, a row has the state before its page, also if rows of the page are observed already."""
    rng = np.random.default_rng(seed)
    rows = as_rows(users, by_id, with_dwell, paged)
    expected = NORMALISER(raw_states(DEFINITION, rows))
    assert np.abs(expected).max() < 5
    tracker = StateTracker(changed(DEFINITION, pages=paged), NORMALISER, ITEMS, profiles(len(users)))
    position, length = np.zeros(len(users), dtype=int), rows.lengths
    page = page_numbers(users)
    opens = changes(page) | (not paged)
    opens[rows.starts] = True
    while (position < length).any():
        moving = (position < length) & (rng.random(len(users)) < 0.6)  # the others pause
        timestamp, ids, item, feedback, dwell = arguments(users, position, garbage=int(rng.integers(2**45)))
        ids = ids if by_id else None
        states = tracker.states(timestamp, session_ids=ids)
        assert states.dtype == np.float32
        row = np.minimum(rows.starts + position, len(page) - 1)
        begins = moving & opens[row]
        np.testing.assert_allclose(states[begins], expected[row[begins]], rtol=1e-5, atol=1e-6)
        observe(tracker, moving, timestamp, item, feedback, ids, dwell if with_dwell else None, 7 * page[row])
        position += moving


@settings(deadline=None, max_examples=20)
@given(histories(), st.integers(0, 2**32 - 1))
def test_recent_kinds_equal_those_in_bulk(folder, users, seed):
    """Users pause at random, some items are unknown, and the users go through a file."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, (len(ITEMS), 2)).astype(np.int32)
    items = replace(ITEMS, kind_codes=codes)
    tracker = StateTracker(DEFINITION, NORMALISER, items, profiles(len(users)))
    lengths = np.array([len(requests) for requests in users])
    starts = np.cumsum(lengths) - lengths
    shown = np.array([request.item for requests in users for request in requests])
    known = np.append(codes, [[-1, -1]], axis=0)  # an unknown item has the row -1
    position = np.zeros(len(users), dtype=int)
    while (position < lengths).any():
        moving = (position < lengths) & (rng.random(len(users)) < 0.7)
        expected = recent_kinds(starts, starts + position, items.find(shown), known)
        np.testing.assert_array_equal(tracker.recent(), expected)
        some = rng.permutation(len(users))[:2]
        np.testing.assert_array_equal(tracker.recent(some), expected[some])
        timestamp, ids, item, feedback, _ = arguments(users, position, garbage=int(rng.integers(2**45)))
        observe(tracker, moving, timestamp, item, feedback, ids)
        if rng.random() < 0.1:
            place = str(folder.mktemp("tracker") / "users")
            tracker.save(place)
            tracker = StateTracker(DEFINITION, NORMALISER, items, 0)
            tracker.load(place)
        position += moving


def test_without_rows_all_users_move():
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
        [Request(int(time[u, s]), 0, int(item[u, s]), tuple(feedback[u, s]), np.nan) for s in range(steps)]
        for u in range(n)
    ]
    expected = NORMALISER(raw_states(DEFINITION, as_rows(users))).reshape(n, steps, -1)
    np.testing.assert_allclose(np.stack(states, axis=1), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(histories(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_rows_growth_and_files_change_no_bit(folder, users, by_id, with_dwell, seed):
    """Users who come one by one and are asked for by row, in any order, through a file now and then."""
    rng = np.random.default_rng(seed)
    rows = as_rows(users, by_id, with_dwell)
    features, n = profiles(len(users)), len(users)
    whole = StateTracker(DEFINITION, NORMALISER, ITEMS, features)
    tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, 0)
    position, length = np.zeros(n, dtype=int), rows.lengths
    while (position < length).any():
        if len(tracker) < n:
            new = slice(len(tracker), len(tracker) + int(rng.integers(0, 3)))
            added = tracker.grow({name: values[new] for name, values in features.items()})
            assert added.tolist() == list(range(n))[new]
        if rng.random() < 0.1:
            file = f"{folder.mktemp('tracker')}/saved"
            tracker.save(file)
            tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, 1)
            tracker.load(file)
        moving = (position < length) & (np.arange(n) < len(tracker))
        active = rng.permutation(np.flatnonzero(moving & (rng.random(n) < 0.6)))
        timestamp, ids, item, feedback, dwell = arguments(users, position, garbage=int(rng.integers(2**45)))
        mine = {name: values[active] for name, values in feedback.items()}
        ids = ids if by_id else None
        expected = whole.states(timestamp, session_ids=ids)[active]
        active_ids = None if ids is None else ids[active]
        states = tracker.states(timestamp[active], session_ids=active_ids, users=active)
        assert states.tobytes() == expected.tobytes()
        observe(whole, np.isin(np.arange(n), active), timestamp, item, feedback, ids, dwell if with_dwell else None)
        active_dwell = dwell[active] if with_dwell else None
        tracker.observe(timestamp[active], item[active], mine, active_ids, active_dwell, active)
        position[active] += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory


FEEDBACK = {"click": np.ones(2), "watch": np.ones(2)}


def after(items):
    """Return the states of two users after item 40, the first of the table, and item 11."""
    tracker = StateTracker(DEFINITION, NORMALISER, items, 2)
    for now in (5, 900):
        tracker.observe(np.array([now, now]), np.array([40, 11]), FEEDBACK)
    return tracker, tracker.states(np.array([2000, 2000]))


def test_an_unknown_item_counts_and_has_no_embedding():
    expected, states = after(ItemTable(np.array([40, 11]), np.stack([ITEMS.embeddings[0], np.zeros(3)])))
    assert expected.unknown_items == 0
    tracker, unknown_states = after(ITEMS)
    assert unknown_states.tobytes() == states.tobytes()
    assert tracker.unknown_items == 2


def plain(tracker, now, **options):
    """Some columns of the states of all users, by name."""
    states = tracker.states(np.array(now), **options)
    columns = (
        "recency/new_session",
        "recency/position",
        "recency/since_exit",
        "sessions/depth@0",
        "sessions/revisit@0",
    )
    return {name.partition("/")[2]: states[:, DEFINITION.names.index(name)] for name in columns}


def test_sessions_end_after_the_gap_or_where_the_id_changes():
    """Two users; the second has a dwell time of 2 s."""
    unscaled = Normaliser(np.zeros(DEFINITION.width), np.ones(DEFINITION.width))
    start, end = np.array([1000, 1000]), np.array([1000, 3000])
    for ids in (None, np.array([7, 7])):
        tracker = StateTracker(DEFINITION, unscaled, ITEMS, 2)
        tracker.observe(start, np.array([10, 20]), FEEDBACK, ids, np.array([np.nan, 2000.0]))
        same = plain(tracker, [61_000, 61_000], session_ids=ids)  # a gap of exactly the definition's
        later = [61_001, 61_001] if ids is None else [1500, 1500]
        new = plain(tracker, later, session_ids=None if ids is None else np.array([8, 8]))
        gone = np.array(later) - end  # negative while the item still plays
        assert same["new_session"].tolist() == [0, 0]
        np.testing.assert_allclose(same["position"], np.log([2, 2]), rtol=1e-6)
        assert same["since_exit"].tolist() == same["depth@0"].tolist() == same["revisit@0"].tolist() == [0, 0]
        assert (new["new_session"].tolist(), new["position"].tolist()) == ([1, 1], [0, 0])
        np.testing.assert_allclose(new["since_exit"], np.log1p(np.maximum(gone, 0) / 1000), rtol=1e-6)
        np.testing.assert_allclose(new["depth@0"], np.log([2, 2]), rtol=1e-6)
        np.testing.assert_allclose(new["revisit@0"], np.log1p(np.maximum(gone, 1) / 1000), rtol=1e-5)


def test_of_a_user_without_history_nothing_is_known_but_the_profile_and_the_time():
    unscaled = Normaliser(np.zeros(DEFINITION.width), np.ones(DEFINITION.width))
    (state,) = StateTracker(DEFINITION, unscaled, ITEMS, 1).states(np.array([10**12]))
    known = {name for name, value in zip(DEFINITION.names, state, strict=True) if value != 0}
    assert {name for name in known if not name.startswith(("profile/", "time/"))} == {"recency/new_session"}


def test_times_are_whole_milliseconds():
    unscaled = Normaliser(np.zeros(DEFINITION.width), np.ones(DEFINITION.width))
    tracker = StateTracker(DEFINITION, unscaled, ITEMS, 2)
    for now in ([1000.1, 1000.1], [61_000.9, 61_000.9]):  # 60 s, the definition's gap
        tracker.observe(np.array(now), np.array([10, 20]), FEEDBACK)
    np.testing.assert_allclose(plain(tracker, [61_001.5, 61_001.5])["position"], np.log([3, 3]), rtol=1e-6)


def test_feedback_counts_as_float32(tmp_path):
    numbers = np.random.default_rng(0).random((2, 2))
    held = []
    for dtype in (np.float64, np.float32):
        feedback = numbers.astype(dtype)
        tracker = StateTracker(DEFINITION, NORMALISER, ITEMS, 2)
        columns = {"click": feedback[:, 0], "watch": feedback[:, 1]}
        tracker.observe(np.array([5, 9]), np.array([10, 20]), columns)
        tracker.save(str(tmp_path / dtype.__name__))
        held.append(storage.read_arrays(str(tmp_path / dtype.__name__ / "users.npz")))
    for name, array in held[0].items():
        assert array.tobytes() == held[1][name].tobytes(), name


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
    now, items = np.array([5, 9]), np.array([10, 20])
    before = tracker.states(now)
    bad = [
        ("feedback 'watch' is missing; found click", (now, items, {"click": np.ones(2)}), {}),
        ("feedback 'watch' is missing; found click, like", (now, items, {"click": np.ones(2), "like": np.ones(2)}), {}),
        ("feedback 'click' is missing; found none", (now, items, {}), {}),
        (
            "item_id: found a, string; expected int64 ids as in the item table",
            (now, np.array(["a", "b"]), FEEDBACK),
            {},
        ),
        ("tracker: found row 2; expected a row of 2 users", (now, items, FEEDBACK), {"users": [0, 2]}),
        ("tracker: found row -1; expected a row of 2 users", (now, items, FEEDBACK), {"users": [0, -1]}),
        ("tracker: found a user twice in one call", (now, items, FEEDBACK), {"users": [1, 1]}),
        ("tracker: found 2 timestamps for 1 users", (now, items, FEEDBACK), {"users": [1]}),
        ("tracker: found 1 timestamps for 2 users", (now[:1], items[:1], FEEDBACK), {}),
    ]
    for words, arguments, options in bad:
        with pytest.raises(UserError, match=words):
            tracker.observe(*arguments, **options)
    np.testing.assert_array_equal(tracker.states(now), before)
    with pytest.raises(UserError, match="found row 7; expected a row of"):
        tracker.states(now, users=np.array([0, 7]))


def test_weights_are_those_that_each_user_would_have_by_itself():
    decay = np.array([0.0, 0.5 ** (1 / 500), 0.5, 0.5 ** (1 / 500)])
    weights, expected, counts = MeanDivisors(decay), [np.zeros(4)], [3, 1, 0, 7, 2_000, 40_000, 60_000]
    for _ in range(60_000):
        expected.append(expected[-1] * decay + 1.0)
    for count in counts:
        values = weights.after(np.array([count, 1]))
        assert values[1].tobytes() == expected[1].tobytes()
        assert values[0].tobytes() == np.maximum(expected[count], 1.0).tobytes()
