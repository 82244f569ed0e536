"""States in bulk against the definition, and that nothing of a request or after it leaks into its state."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_histories import DEFINITION, as_rows, histories, plain_mean, plain_state

from prefrec_ray.mdp.bulk import HistoryRows, raw_states, running_means
from prefrec_ray.mdp.state import StateDefinition, scaled_feedback


@settings(deadline=None, max_examples=60)
@given(histories(), st.booleans(), st.booleans(), st.booleans())
def test_states_equal_the_definition(users, by_id, with_dwell, paged):
    rows = as_rows(users, by_id, with_dwell, paged)
    expected = [plain_state(rows, u, i) for u, requests in enumerate(users) for i in range(len(requests))]
    states = raw_states(DEFINITION, rows)
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, np.array(expected), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(histories())
def test_pages_of_one_impression_change_no_bit(users):
    rows = as_rows(users)
    step = np.arange(len(rows.timestamp)) - np.repeat(rows.starts, rows.lengths)
    assert raw_states(DEFINITION, replace(rows, step=step)).tobytes() == raw_states(DEFINITION, rows).tobytes()


@settings(deadline=None, max_examples=60)
@given(histories(), st.data())
def test_a_request_changes_no_state_at_or_before_it(users, data):
    user = data.draw(st.integers(0, len(users) - 1))
    i = data.draw(st.integers(0, len(users[user]) - 1))
    before = as_rows(users)
    row = before.starts[user] + i
    states = raw_states(DEFINITION, before)

    changed = replace(users[user][i], item=users[user][i].item % 40 + 10, feedback=(0.5, 77.0), dwell=123_456.0)
    users[user][i] = changed
    after = raw_states(DEFINITION, as_rows(users))
    same = np.ones(len(states), dtype=bool)
    same[row + 1 : before.starts[user] + len(users[user])] = False  # only this user's later states may differ
    np.testing.assert_array_equal(after[same], states[same])
    if i + 1 < len(users[user]):
        assert (after[row + 1] != states[row + 1]).any()

    # Time: its own state knows it, those before do not. All that follows moves with it, so that the order stays.
    users[user][i:] = [replace(r, timestamp=r.timestamp + 7_654_321) for r in users[user][i:]]
    later = raw_states(DEFINITION, as_rows(users))
    same[row] = False
    np.testing.assert_array_equal(later[same], states[same])
    assert (later[row] != states[row]).any()


def test_feedback_on_the_scale_of_the_state():
    kinds = {"liked": "binary", "plays": "count", "watched": "seconds", "share": "ratio"}
    definition = StateDefinition(feedback=(*kinds, "stars"), user_features={}, feedback_kinds=kinds)
    raw = np.float32([[1, 0, 0, 0.25, -3], [0, 3, 1.5, 70, 70]])
    expected = [[1, 0, 0, 0.25, -3], [0, np.log(4), np.log(2.5), 5, 70]]
    np.testing.assert_allclose(scaled_feedback(raw, definition), np.float32(expected))
    assert raw[1, 1] == 3  # the log's own numbers stay


@pytest.mark.parametrize("half_life", [0, 1, 5, 500])
def test_running_means_equal_the_direct_sum(half_life):
    rng = np.random.default_rng(0)
    lengths = np.array([1, 300, 7, 0, 40])
    starts = np.cumsum([0, *lengths])[:-1]
    values = rng.normal(3.0, 1.0, (lengths.sum(), 2))
    out = np.empty((len(values), 2), dtype=np.float32)
    decay = np.full(2, 0.5 ** (1 / half_life) if half_life else 0.0)
    running_means(values, starts, decay, np.array([1, 0]), out)
    expected = [
        [plain_mean(list(values[start : start + i, k]), half_life) for k in (1, 0)]
        for start, length in zip(starts, lengths, strict=True)
        for i in range(length)
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_order_of_users_does_not_matter():
    rng = np.random.default_rng(5)
    lengths = [3, 50, 1, 17]

    def rows(order):
        parts = {name: [] for name in ("timestamp", "session", "feedback", "embeddings", "profile")}
        for u in order:
            one = np.random.default_rng(u)
            parts["timestamp"].append(np.cumsum(one.integers(1, 100_000, lengths[u])))
            parts["session"].append(np.cumsum(np.append(False, one.random(lengths[u] - 1) < 0.3)))
            parts["feedback"].append(one.random((lengths[u], 2), dtype=np.float32))
            parts["embeddings"].append(one.random((lengths[u], 3), dtype=np.float32))
            parts["profile"].append(np.full((1, 7), u, dtype=np.float32))
        starts = np.cumsum([0, *(lengths[u] for u in order)])[:-1]
        return HistoryRows(starts=starts, **{name: np.concatenate(part) for name, part in parts.items()})

    forward, order = rows(range(4)), rng.permutation(4)
    shuffled = rows(order)
    states, again = raw_states(DEFINITION, forward), raw_states(DEFINITION, shuffled)
    for place, u in enumerate(order):
        mine = states[forward.starts[u] : forward.starts[u] + lengths[u]]
        np.testing.assert_array_equal(again[shuffled.starts[place] : shuffled.starts[place] + lengths[u]], mine)


def test_tastes_see_what_an_item_draws_and_not_the_mood():
    """Feedback depends on the item's first coordinate, and more strongly on a mood that moves with the shown items."""
    steps, rng = 4000, np.random.default_rng(0)
    slow = np.sin(np.arange(steps) / 200.0)
    shown = rng.normal(0.0, 0.3, (steps, 3))
    shown[:, 1] += slow
    feedback = np.zeros((steps, 2))
    feedback[:, 0] = shown[:, 0] + 5.0 * slow
    rows = HistoryRows(
        np.array([0]),
        np.arange(steps) * 1000,
        np.zeros(steps, np.int64),
        feedback.astype(np.float32),
        shown.astype(np.float32),
        np.ones((1, 7)),
    )
    direction = raw_states(DEFINITION, rows)[1000:, DEFINITION.groups["tastes"]][:, :2].mean(axis=0)
    assert direction[0] > 2.0 * abs(direction[1])


def test_no_rows():
    empty = np.zeros(0, dtype=np.int64)
    rows = HistoryRows(empty, empty, empty, np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 7)))
    assert raw_states(DEFINITION, rows).shape == (0, DEFINITION.width)
