"""What was just shown, and what it costs an item to be like it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import CEILING, UNSAID, ServingSettings
from prefrec_ray.policy import Policy
from tests.policy.test_policy import STATE, make_critic, make_policy, make_states


def test_likeness_is_that_of_the_running_mean_of_32_requests() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    recent = RecentItems.of(STATE, policy.normaliser, policy.items)
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
    states, columns = make_states(4), RecentItems.of(STATE, policy.normaliser, policy.items).columns
    scale = np.ones(STATE.width, np.float32)
    scale[columns] = 3.0
    scaled = replace(policy.normaliser, mean=policy.normaliser.mean * scale, std=policy.normaliser.std * scale)
    one, three = (
        RecentItems.of(STATE, normaliser, items).likeness(states, items.embeddings)
        for normaliser, items in ((policy.normaliser, policy.items), (scaled, tripled))
    )
    np.testing.assert_allclose(three, one, rtol=1e-4)


def test_states_without_a_running_mean_of_items_have_none() -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings())
    assert RecentItems.of(replace(STATE, item_half_lives=()), policy.normaliser, policy.items) is None


@pytest.mark.parametrize(("variety", "ceiling"), [(0.0, None), (4.0, None), (4.0, 0.5), (0.0, 0.5)])
def test_deviations_of_q_are_taken_off_by_likeness_and_count_up_to_a_ceiling(
    variety: float, ceiling: float | None
) -> None:
    serving = ServingSettings(temperature=0.5, variety=variety, ceiling=ceiling)
    policy = make_policy(critic=make_critic(0), serving=serving)
    states, items = make_states(3), policy.items
    recent = RecentItems.of(STATE, policy.normaliser, items)
    # Little was shown: neither likeness nor Q decides alone.
    states[:, recent.columns] = (0.02 * states[:, recent.columns] - recent.mean) / recent.std
    q = policy.critic.scores(states, np.broadcast_to(items.embeddings, (3, *items.embeddings.shape)))
    deviations = (q - q.mean(axis=1, keepdims=True)) / q.std(axis=1, keepdims=True)
    assert (deviations > 0.5).any(axis=1).all()
    logits = (
        np.minimum(deviations, np.inf if ceiling is None else ceiling)
        - variety * recent.likeness(states, items.embeddings)
    ) / 0.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    everything = np.arange(len(items))
    chances = [policy.probabilities(np.tile(state, (len(items), 1)), everything) for state in states]
    np.testing.assert_allclose(chances, expected, rtol=1e-3)
    served = policy.serve(states, 1, seed=3)
    np.testing.assert_allclose(served.propensities[:, 0], expected[np.arange(3), items.rows(served.items[:, 0])], 1e-3)
    best = policy.under(rule="best").recommend(states, 1)[:, 0]
    np.testing.assert_allclose(expected[np.arange(3), items.rows(best)], expected.max(axis=1), rtol=1e-5)


def test_the_log_says_variety_and_variety_the_ceiling() -> None:
    for said, variety, ceiling in ((None, UNSAID, CEILING / UNSAID), (8.0, 8.0, 1.0), (1.0, 1.0, 8.0)):
        rule = ServingSettings().resolved(said)
        assert (rule.variety, rule.ceiling) == (variety, ceiling)
    own = ServingSettings(variety=4.0, ceiling=3.0)
    assert own.resolved(8.0) == own
    assert ServingSettings(variety=0.0).resolved(8.0).ceiling is None


def test_more_variety_leaves_the_ceiling_and_a_policy_of_before_has_none(tmp_path: Path) -> None:
    policy = make_policy(critic=make_critic(0), serving=ServingSettings().resolved(8.0))
    assert policy.under(variety=12.0).serving.ceiling == 1.0
    policy.save(str(tmp_path / "policy"))
    assert Policy.load(str(tmp_path / "policy")).serving == policy.serving
    description = json.loads((tmp_path / "policy" / "policy.json").read_text())
    del description["serving"]["ceiling"]
    (tmp_path / "policy" / "policy.json").write_text(json.dumps(description))
    states, rows = make_states(3), np.zeros(3, np.int64)
    before, none = Policy.load(str(tmp_path / "policy")), policy.under(ceiling=None)
    np.testing.assert_array_equal(before.probabilities(states, rows), none.probabilities(states, rows))
    assert (none.probabilities(states, rows) != policy.probabilities(states, rows)).any()
