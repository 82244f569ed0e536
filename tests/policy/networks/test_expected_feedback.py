"""Expected feedback of a log, and its use in place of Q."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.policy.networks.critic import some
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback, fit_answers, worth_of

#: State columns: three that describe a user's taste; the two others have no meaning.
PARTS = ((0, 1, 2),)


def requests(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States, embeddings, and the chances of two kinds of feedback: sigmoids of how well an item suits the user."""
    rng = np.random.default_rng(seed)
    states, actions = rng.normal(size=(count, 5)), rng.uniform(-1, 1, (count, 3))
    suits = (states[:, :3] * actions).sum(axis=1)
    chances = 1 / (1 + np.exp(-np.stack([4 * suits, -2 * suits], axis=1)))
    return states.astype(np.float32), actions.astype(np.float32), chances


def test_what_people_answer_is_learned_from_single_requests() -> None:
    states, actions, chances = requests(60_000, 0)
    feedback = (np.random.default_rng(1).random(chances.shape) < chances).astype(np.float32)
    network = fit_answers(states, actions, feedback, PARTS, 0)
    states, actions, chances = requests(2_000, 2)
    with torch.inference_mode():
        expected = network(torch.from_numpy(states), torch.from_numpy(actions)).numpy()
    for kind in range(2):
        assert np.corrcoef(expected[:, kind], chances[:, kind])[0, 1] > 0.97


def test_it_is_a_function_of_what_it_is_given(tmp_path: Path) -> None:
    states, actions, chances = requests(400, 0)
    one, two = (fit_answers(states, actions, chances, PARTS, 3) for _ in range(2))
    torch.manual_seed(9)
    again = fit_answers(states, actions, chances, PARTS, 3)
    sizes = one.save(str(tmp_path / "answers.npz"))
    stored = ExpectedFeedback.load(str(tmp_path / "answers.npz"), sizes, PARTS, 3)
    for other in (two, again, stored):
        for ours, theirs in zip(one.net.layers, other.net.layers, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    assert fit_answers(states, actions, chances, PARTS, 4).net.layers[0][0].tolist() != one.net.layers[0][0].tolist()


def test_feedback_that_is_always_the_same_says_nothing() -> None:
    states, actions, chances = requests(400, 0)
    chances[:, 1] = 0.0
    network = fit_answers(states, actions, chances, PARTS, 0)
    assert all(np.isfinite(weight).all() and np.isfinite(bias).all() for weight, bias in network.net.layers)


@settings(deadline=None, max_examples=30)
@given(states=st.integers(1, 4), items=st.integers(4, 30), kinds=st.integers(1, 3), seed=st.integers(0, 99))
def test_weights_are_those_of_least_squares(states: int, items: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = (rng.normal(size=(states, items, kinds)) * rng.uniform(0.1, 10, kinds)).astype(np.float32)
    scores = rng.normal(size=(states, items)).astype(np.float32)
    given = answers.copy(), scores.copy()
    weight = worth_of(answers, scores)
    np.testing.assert_array_equal(answers, given[0])
    np.testing.assert_array_equal(scores, given[1])
    # A constant for each state, as in a regression with one column per state.
    of_state = np.repeat(np.eye(states), items, axis=0)
    away = (answers - answers.mean(axis=1, keepdims=True)).astype(np.float64).reshape(-1, kinds)
    deviation = np.sqrt(np.square(away).mean(axis=0))
    # A ridge is a regression with as many rows more, whose answer is 0.
    rows = np.block([[away / deviation, of_state], [np.sqrt(0.03 * states * items) * np.eye(kinds, kinds + states)]])
    units = scores.astype(np.float64) / scores.std(axis=1, keepdims=True, dtype=np.float64)
    wanted, *_ = np.linalg.lstsq(rows, np.concatenate([units.ravel(), np.zeros(kinds)]), rcond=None)
    np.testing.assert_allclose(weight, wanted[:kinds] / deviation, rtol=1e-3, atol=1e-4)


def test_noise_of_many_states_cancels() -> None:
    """In a log without contrast Q is mostly noise; scaled to its own unit, it is as large as any other Q."""
    rng = np.random.default_rng(0)
    answers = rng.normal(size=(300, 60, 2)).astype(np.float32)
    scores = answers @ np.float32([-1.0, 0.5])
    scores[30:] = 0.1 * scores[30:] + 0.3 * rng.normal(size=(270, 60))
    worth = worth_of(answers, scores)
    np.testing.assert_allclose(worth / np.abs(worth).max(), [-1.0, 0.5], atol=0.05)


def test_states_count_the_same_however_much_q_tells_apart_there() -> None:
    """Two answers that come together in the states that a policy leads to, and do not in others."""
    rng = np.random.default_rng(1)
    first, other = rng.normal(size=(2, 40, 500)).astype(np.float32)
    answers = np.stack([first, other], axis=2)
    answers[20:, :, 1] = first[20:] + 0.1 * other[20:]
    scores = -first
    scores[:20] = 10 * (other[:20] - first[:20])
    before = worth_of(answers, scores)
    scores[:20] /= 1000
    np.testing.assert_allclose(worth_of(answers, scores), before, rtol=1e-4)


def test_weights_are_the_least_squares_of_scores_in_standard_units() -> None:
    rng = np.random.default_rng(0)
    answers = rng.normal(size=(3, 500, 2)).astype(np.float32)
    told = answers @ np.float32([2.0, -1.0])
    in_units = np.float32([2.0, -1.0]) / np.sqrt(5)
    np.testing.assert_allclose(worth_of(answers, told + 100), in_units / 1.03, rtol=0.1)
    other = rng.normal(size=(3, 500)).astype(np.float32)
    assert np.abs(worth_of(answers, other)).max() < 0.1
    np.testing.assert_array_equal(worth_of(np.full((3, 500, 2), 0.3, np.float32), told), 0)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.0])
def test_feedback_that_is_always_the_same_explains_nothing(constant: float) -> None:
    states, actions, chances = requests(4000, 0)
    feedback = (np.random.default_rng(1).random(chances.shape) < chances).astype(np.float32)
    feedback[:, 1] = constant
    network = fit_answers(states, actions, feedback, PARTS, 0)
    items = np.broadcast_to(np.random.default_rng(2).uniform(-1, 1, (300, 3)).astype(np.float32), (50, 300, 3))
    expected = network.given(torch.from_numpy(states[:50]))(torch.tensor(items)).numpy()
    assert (expected[..., 1] == 0).all()
    assert expected[..., 0].std() > 0.05
    for q in (items[..., 0], (states[:50, None, :3] * items).sum(axis=2)):
        worth = worth_of(expected, q)
        assert worth[1] == 0
        assert worth[0] == pytest.approx(worth_of(expected[..., :1], q)[0])


@given(st.integers(0, 200), st.integers(1, 60))
def test_a_sample_of_a_table_is_spread_over_all_of_it(count: int, most: int) -> None:
    rows = some(np.arange(count), most)
    assert len(rows) <= most
    assert len(rows) == count or count > most
    assert not count or (rows[0] == 0 and count - rows[-1] <= max(1, -(-count // most)))
    assert len(np.unique(np.diff(rows))) <= 1
