"""A policy of another day's log, on the states and the items of this one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from platform_desk import STATE, make_policy
from state_definitions import changed

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.request import adapted
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback


def data_set(seed: int, items: ItemTable, state: StateDefinition = STATE) -> Any:
    rng = np.random.default_rng(seed)
    scale = Normaliser(rng.normal(size=state.width), rng.uniform(0.5, 2, state.width))
    return SimpleNamespace(state=state, normaliser=scale, items=lambda: items, uri="today")


def items_of(policy: Policy) -> ItemTable:
    """Half of the policy's items, in another order, and two new ones."""
    rows = np.random.default_rng(1).permutation(len(policy.items))[::2]
    new = np.random.default_rng(2).uniform(-1, 1, (2, 3))
    return ItemTable(
        np.concatenate([policy.items.ids[rows], [1000, 1001]]), np.concatenate([policy.items.embeddings[rows], new])
    )


@pytest.mark.parametrize("read", [False, True])
def test_the_same_requests_have_the_same_chances_on_the_scale_of_the_day(read: bool) -> None:
    """For scores by Q and by expected feedback."""
    policy = make_policy(serving=ServingSettings(temperature=0.7, variety=1.5))
    if read:
        answers = ExpectedFeedback.random(STATE.width, 3, [6], [[3, 4, 5]], 2).requires_grad_(False)
        policy = replace(policy, critic=replace(policy.critic, answers=answers))
    today = data_set(5, policy.items)
    raw = np.random.default_rng(3).normal(size=(40, STATE.width)).astype(np.float32)
    before, after = policy.normaliser(raw), today.normaliser(raw)
    inside = (np.abs(before) < 5).all(axis=1) & (np.abs(after) < 5).all(axis=1)
    assert 10 < inside.sum() < 40  # what one of both clips, the other does not know
    for item in range(0, 40, 7):
        rows = np.full(inside.sum(), item)
        chances = adapted(policy, today, today.items(), "policy").probabilities(after[inside], rows)
        np.testing.assert_allclose(chances, policy.probabilities(before[inside], rows), rtol=1e-4)
        assert not np.allclose(chances, policy.probabilities(after[inside], rows), rtol=0.1)


def test_it_serves_the_items_of_the_day() -> None:
    policy = make_policy()
    today = data_set(5, items_of(policy))
    states = np.random.default_rng(3).normal(size=(200, STATE.width)).astype(np.float32)
    served = set(adapted(policy, today, today.items(), "policy").serve(states, 5, seed=0).items.ravel().tolist())
    assert served <= set(today.items().ids.tolist())
    assert served & {1000, 1001}


@pytest.mark.parametrize("serving", [ServingSettings(), DETERMINISTIC])
def test_a_policy_that_was_given_other_items_serves_those_of_its_data_set(serving: ServingSettings) -> None:
    """Logged items are rows of the data set's table: in another order they are other items."""
    policy = make_policy(serving=serving)
    own = data_set(7, policy.items)
    own.normaliser = policy.normaliser
    order = np.random.default_rng(1).permutation(len(policy.items))
    for given in (ItemTable(policy.items.ids[order], policy.items.embeddings[order]), items_of(policy)):
        back = adapted(policy.with_items(given), own, own.items(), "policy")
        np.testing.assert_array_equal(back.items.ids, policy.items.ids)
        states = np.random.default_rng(3).normal(size=(20, STATE.width)).astype(np.float32)
        np.testing.assert_array_equal(back.serve(states, 3, seed=0).items, policy.serve(states, 3, seed=0).items)
        if policy.draws_from_all:
            rows = np.arange(20)
            np.testing.assert_array_equal(back.probabilities(states, rows), policy.probabilities(states, rows))
    names = ItemTable(policy.items.ids.astype(str), policy.items.embeddings)
    with pytest.raises(UserError, match="found other item embeddings than in today"):
        adapted(policy.with_items(names), own, own.items(), "policy")


def test_from_day_to_day_it_stays_the_same_policy(tmp_path: Any) -> None:
    policy = make_policy()
    first, second = (data_set(seed, policy.items) for seed in (5, 6))
    adapted(adapted(policy, first, first.items(), "policy"), second, second.items(), "policy").save(
        str(tmp_path / "policy")
    )
    over_two, direct = Policy.load(str(tmp_path / "policy")), adapted(policy, second, second.items(), "policy")
    states = second.normaliser(0.5 * np.random.default_rng(3).normal(size=(20, STATE.width)))
    items = np.tile(policy.items.embeddings, (20, 1, 1))
    assert over_two.critic is not None
    assert direct.critic is not None
    np.testing.assert_allclose(over_two.critic.scores(states, items), direct.critic.scores(states, items), atol=1e-5)
    own = data_set(7, policy.items)
    own.normaliser = policy.normaliser
    assert adapted(policy, own, own.items(), "policy") is policy


def test_a_policy_of_another_platform_is_one_line() -> None:
    policy = make_policy()

    def failing(message: str, policy: Policy, dataset: Any) -> None:
        with pytest.raises(UserError, match=message) as raised:
            adapted(policy, dataset, dataset.items(), "policy 'p'")
        assert "\n" not in str(raised.value)

    today = data_set(5, policy.items)
    learned = ItemTable(policy.items.ids, policy.items.embeddings[::-1])
    strangers = ItemTable(policy.items.ids + 1000, policy.items.embeddings)
    failing(
        "policy 'p': found other states than in today",
        policy,
        data_set(5, policy.items, changed(STATE, feedback=())),
    )
    failing(
        "policy 'p': found another scale of states than .* does not draw by Q",
        replace(policy, serving=DETERMINISTIC),
        today,
    )
    failing("policy 'p': found other item embeddings than in today", policy, data_set(5, learned))
    failing("policy 'p': found other item embeddings than in today", policy, data_set(5, strangers))
