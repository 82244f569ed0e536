"""The memory of recent items against sums by hand, and step by step against a whole log."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.evaluation.users.memory import HALF_LIVES, Memory, Recall
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback

STATE = StateDefinition(feedback=("like", "share"), user_features={}, action_dim=2)
ITEMS = ItemTable(np.arange(40), np.random.default_rng(5).uniform(-1, 1, (40, 2)).astype(np.float32))


def dataset(variety: float | None, answers: bool = True) -> SimpleNamespace:
    """The parts of a data set that a memory needs."""
    rng = np.random.default_rng(6)
    torch.manual_seed(0)
    network = ExpectedFeedback.random(STATE.width, 2, [6], STATE.embedding_parts(), 2).requires_grad_(False)
    return SimpleNamespace(
        state=STATE,
        normaliser=Normaliser(rng.normal(size=STATE.width), rng.uniform(0.5, 2, STATE.width)),
        metadata=SimpleNamespace(variety=variety),
        answers=lambda: network if answers else None,
    )


def requests(lengths: list[int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First rows, scaled states and embeddings of users with histories of these lengths."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(sum(lengths), STATE.width)).astype(np.float32)
    return np.cumsum(lengths) - lengths, states, ITEMS.embeddings[rng.integers(0, 40, len(states))]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.booleans(), st.integers(0, 99))
def test_a_memory_is_the_running_mean_of_likeness_and_of_expected_answers(
    lengths: list[int], answers: bool, seed: int
) -> None:
    data = dataset(variety=6.0, answers=answers)
    memory = Memory.from_dataset(data, ITEMS)
    starts, states, actions = requests(lengths, seed)
    means = memory.replayed(starts, states, actions)

    start = STATE.groups["items"].start + 2 * STATE.item_half_lives.index(32)
    shown = states[:, start : start + 2] * data.normaliser.std[start : start + 2]
    shown = shown + data.normaliser.mean[start : start + 2]
    values = (shown * actions).sum(axis=1)[:, None] / np.square(ITEMS.embeddings).sum(axis=1).mean()
    if answers:
        drawn = data.answers()(torch.from_numpy(states), torch.from_numpy(actions)).numpy()
        values = np.concatenate([values, drawn], axis=1)
    assert means.shape == (len(states), 2 * values.shape[1])
    for first, length in zip(starts, lengths, strict=True):
        np.testing.assert_array_equal(means[first], 0.0)
        for step in range(1, length):
            past = values[first : first + step][::-1]
            for half_life, mean in zip(HALF_LIVES, np.split(means[first + step], 2), strict=True):
                weight = 0.5 ** (np.arange(step) / half_life)
                np.testing.assert_allclose(mean, weight @ past / weight.sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("answers", [True, False])
def test_request_by_request_it_is_what_a_whole_log_gives(answers: bool) -> None:
    memory = Memory.from_dataset(dataset(variety=6.0, answers=answers), ITEMS)
    starts, states, actions = requests([9] * 4, seed=1)
    whole = memory.replayed(starts, states, actions)
    recall = Recall(memory, 4)
    for step in range(9):
        np.testing.assert_allclose(recall.means(), whole[starts + step], rtol=1e-6, atol=1e-7)
        recall.observe(states[starts + step], actions[starts + step])


@pytest.mark.parametrize("variety", [None, 0.0, 2.9])
def test_nothing_is_remembered_where_no_log_says_that_people_tire(variety: float | None) -> None:
    assert Memory.from_dataset(dataset(variety), ITEMS) is None
    recall = Recall(None, 3)
    recall.observe(*requests([1, 1, 1], seed=0)[1:])
    assert recall.means().shape == (3, 0)


def test_states_without_running_means_of_items_have_no_memory() -> None:
    data = dataset(variety=6.0)
    data.state = StateDefinition(feedback=(), user_features={}, action_dim=2, item_half_lives=())
    assert Memory.from_dataset(data, ITEMS) is None
