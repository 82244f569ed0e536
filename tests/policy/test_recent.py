"""Recent items, and the diversity penalty of similar items."""

from dataclasses import replace

import numpy as np
import pytest
from state_definitions import changed

from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy.weighing import RecentItems
from tests.policy.test_policy import STATE, make_critic, make_policy, make_states


def test_likeness_is_that_of_the_running_mean_of_32_requests() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    recent = RecentItems.find(STATE, policy.normaliser, policy.items)
    names = [STATE.names[column] for column in recent.columns]
    assert names == ["items/0@32", "items/1@32", "items/2@32"]
    states, items = make_states(4), policy.items.embeddings
    mean, std = (np.asarray(part)[recent.columns] for part in (policy.normaliser.mean, policy.normaliser.std))
    length = np.mean([embedding @ embedding for embedding in items])
    expected = [[embedding @ (state[recent.columns] * std + mean) / length for embedding in items] for state in states]
    np.testing.assert_allclose(recent.likeness(states, items), expected, atol=1e-4)
    own = np.broadcast_to(items, (4, *items.shape))
    np.testing.assert_allclose(recent.likeness(states, own), expected, atol=1e-4)


def test_the_unit_of_embeddings_does_not_count() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    tripled = replace(policy.items, embeddings=3 * policy.items.embeddings)
    states, columns = make_states(4), RecentItems.find(STATE, policy.normaliser, policy.items).columns
    scale = np.ones(STATE.width, np.float32)
    scale[columns] = 3.0
    scaled = replace(policy.normaliser, mean=policy.normaliser.mean * scale, std=policy.normaliser.std * scale)
    one, three = (
        RecentItems.find(STATE, normaliser, items).likeness(states, items.embeddings)
        for normaliser, items in ((policy.normaliser, policy.items), (scaled, tripled))
    )
    np.testing.assert_allclose(three, one, rtol=1e-4)


def test_states_without_a_running_mean_of_items_have_none() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    assert RecentItems.find(changed(STATE, item_half_lives=()), policy.normaliser, policy.items) is None


@pytest.mark.parametrize("variety", [0.0, 4.0])
def test_deviations_of_q_are_taken_off_by_likeness(variety: float) -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings(temperature=0.5, variety=variety))
    states, items = make_states(3), policy.items
    recent = RecentItems.find(STATE, policy.normaliser, items)
    q = policy.critic.scores(states, np.broadcast_to(items.embeddings, (3, *items.embeddings.shape)))
    logits = (q / q.std(axis=1, keepdims=True) - variety * recent.likeness(states, items.embeddings)) / 0.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    served = policy.serve(states, 1, seed=3)
    np.testing.assert_allclose(served.propensities[:, 0], expected[np.arange(3), items.rows(served.items[:, 0])], 1e-3)
    best = replace(policy, serving=ServingSettings(rule="best", variety=variety)).serve(states, 1).items
    np.testing.assert_array_equal(items.rows(best[:, 0]), expected.argmax(axis=1))
