"""Inputs of models of users: bulk and step by step are equal."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_users import ITEMS, NORMALISER, STATE, histories, inputs_of

from prefrec_ray.users.inputs import DOSES, HALF_LIVES, Inputs, Past, doses


@settings(max_examples=10, deadline=None)
@given(users=st.integers(1, 5), requests=st.integers(2, 40), seed=st.integers(0, 999))
def test_inputs_of_a_history_are_equal_in_bulk_and_step_by_step(users: int, requests: int, seed: int) -> None:
    inputs, _ = inputs_of(histories(users=30, requests=20))
    data = histories(users, requests, seed)
    bulk = inputs.logged(data).reshape(users, requests, -1)
    past = Past(inputs, inputs.tastes(data))
    for step in range(requests):
        rows = data.starts + step
        one = past.inputs(data.state[rows], data.row[rows], data.action[rows])
        np.testing.assert_allclose(one, bulk[:, step], atol=1e-5)
        past.observe(data.feedback[rows], np.ones(users, bool))


def test_masks_name_the_inputs() -> None:
    """If exposures change, exactly the inputs in `counts` change."""
    data = histories(users=20, requests=30)
    inputs, made = inputs_of(data)
    assert made.shape == (600, inputs.width)
    data.exposure[:] += DOSES.max()  # passes all thresholds
    changed = (inputs.logged(data) != made).any(axis=0)
    np.testing.assert_array_equal(changed, inputs.counts)
    data.exposure[:] -= DOSES.max()
    # Nothing was shown before.
    np.testing.assert_array_equal(made[data.starts, len(inputs.seen) + inputs.signals :], 0.0)
    assert inputs.history.sum() == inputs.counts.sum() + len(HALF_LIVES) * ITEMS.embeddings.shape[1]


def test_networks_see_the_range_of_the_log() -> None:
    data = histories(users=30)
    inputs, logged = Inputs.from_histories(STATE, NORMALISER, ITEMS, data)
    np.testing.assert_array_equal(logged, inputs.logged(data, fitted=True))
    scaled = inputs.scaled(logged.copy())
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0)[logged.std(axis=0) > 1e-3], 1.0, rtol=1e-3)
    beyond = inputs.scaled(np.stack([logged.min(axis=0) - 1, logged.max(axis=0) + 1]))
    np.testing.assert_allclose(beyond, [scaled.min(axis=0), scaled.max(axis=0)], rtol=1e-6)


def test_counts_are_indicators_of_doses() -> None:
    """Two kinds: counts in three windows and the time since the last impression each; then the item's own count."""
    exposure = np.array([[0, 1, 3, 0.7, 4, 9, 2, 0.1, 5]], np.float32)
    indicators = [[count >= dose for dose in (1, 2, 4, 8)] for count in (0, 1, 3, 4, 9, 2)]
    expected = [*np.ravel(indicators), 0.7, 0.1, 5]
    np.testing.assert_allclose(doses(exposure)[0], expected, rtol=1e-6)


def test_a_fit_sees_effects_of_kinds_from_other_users_only() -> None:
    """The feedback of users with even numbers grows with the kind of the item; the feedback of other users does not."""
    data = histories(users=30, requests=60)
    feedback = np.where(data.user % 2 == 0, ITEMS.kinds[data.row, 0], 0.0)[:, None] + np.zeros_like(data.feedback)
    data = replace(data, feedback=feedback.astype(np.float32))
    inputs, _ = inputs_of(data)
    even, odd, _ = inputs.effects.of_kinds[:, :, 0]
    assert np.corrcoef(even, ITEMS.kinds[:, 0])[0, 1] > 0.9
    assert not odd.any()
    seen = inputs.logged(data, fitted=True)
    half, time = 1 - data.user % 2, data.state[:, STATE.groups["time"]]
    expected = inputs.effects.at(data.row, data.action, time, half)[:, 0]
    assert (seen == expected[:, None]).all(axis=0).any()
