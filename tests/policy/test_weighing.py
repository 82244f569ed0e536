"""Weights of items: effects of kinds on scores, and the penalty on kinds that were shown lately."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from platform_desk import STATE, make_policy

from prefrec_ray.mdp.exposure import MEMORY
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy

RULE = {"temperature": 0.5, "variety": 0.0, "repetition": 0.0, "repetition_window": 10}


def policy_with(items: int = 40, effects: list[float] | None = None, **rule: object) -> Policy:
    """A policy whose items are of the kinds 0 to 3 in turn."""
    torch.manual_seed(0)  # equal networks in all policies
    policy = make_policy(items=items, serving=ServingSettings(**{**RULE, **rule}))
    table = replace(policy.items, kind_codes=(np.arange(items)[:, None] % 4).astype(np.int32))
    critic = replace(policy.critic, kind_effects=[] if effects is None else [np.array(effects, np.float32)])
    return replace(policy, items=table, critic=critic)


def log_chances(policy: Policy, recent: np.ndarray | None = None) -> np.ndarray:
    """The log probabilities of all items in one state."""
    count = len(policy.items)
    state = np.random.default_rng(3).normal(size=(1, STATE.width)).astype(np.float32)
    recent = None if recent is None else np.repeat(recent, count, axis=0)
    return np.log(policy.probabilities(np.repeat(state, count, axis=0), np.arange(count), recent=recent))


def shown(*kinds: int) -> np.ndarray:
    """The kinds of one user's last impressions, the newest first."""
    recent = np.full((1, MEMORY, 1), -1, np.int32)
    recent[0, : len(kinds), 0] = kinds
    return recent


def test_an_effect_moves_scores_by_its_size() -> None:
    effects = [0.7, -0.2, 0.0, 0.0]
    plain, changed = policy_with(), policy_with(effects=effects)
    state = np.random.default_rng(3).normal(size=(1, STATE.width)).astype(np.float32)
    items = plain.items
    scores = plain.critic.scores(state, items.embeddings[None])[0] + np.array(effects)[items.kinds[:, 0]]
    logits = scores / (0.5 * scores.std())
    np.testing.assert_allclose(log_chances(changed), logits - np.log(np.exp(logits).sum()), rtol=1e-4)
    assert not np.allclose(log_chances(plain), log_chances(changed), atol=0.1)


@pytest.mark.parametrize("items", [40, 12_000])  # 12,000: drawn in two steps
def test_a_repetition_lowers_the_log_weight_by_the_penalty_over_the_temperature(items: int) -> None:
    policy = policy_with(items, repetition=0.6)
    recent = shown(*[1] * 3, *[2] * 9)  # in a window of 10: three of kind 1, seven of kind 2
    if items > 1000:
        recent = recent[[0] * 3]
        states = np.random.default_rng(3).normal(size=(3, STATE.width)).astype(np.float32)
        kinds = [
            policy.items.kinds[policy.draw(states, 1, None, seed, one).rows[:, 0], 0]
            for one in (None, recent)
            for seed in range(60)
        ]
        before, after = np.array(kinds).reshape(2, -1)
        assert (before == 2).mean() > 0.1
        assert (after == 2).mean() < 0.02
        return
    moved = log_chances(policy, recent) - log_chances(policy)
    by_kind = np.array([moved[policy.items.kinds[:, 0] == kind] for kind in range(4)])
    expected = np.repeat([[0.0], [-3.0], [-7.0], [0.0]], 10, axis=1) * 0.6 / 0.5
    np.testing.assert_allclose(by_kind - by_kind[0], expected, atol=1e-3)
    np.testing.assert_array_equal(log_chances(policy), log_chances(policy, shown()))


def test_a_bundle_keeps_effects_and_penalty(tmp_path: Path) -> None:
    policy = policy_with(effects=[0.7, -0.2, 0.0, 0.1], repetition=0.6)
    policy.save(str(tmp_path / "policy"))
    again = Policy.load(str(tmp_path / "policy"))
    np.testing.assert_array_equal(log_chances(again, shown(1, 2)), log_chances(policy, shown(1, 2)))


def test_effects_follow_the_items_to_other_codes() -> None:
    critic = policy_with(effects=[0.7, -0.2, 0.0, 0.1]).critic
    known = policy_with().items
    order = np.random.default_rng(0).permutation(40)
    ids, embeddings = np.append(known.ids[order], 99), np.append(known.embeddings[order], known.embeddings[:1], axis=0)
    codes = np.append(3 - known.kinds[order], [[4]], axis=0)
    items = ItemTable(ids, embeddings, kind_codes=codes)
    np.testing.assert_array_equal(
        critic.for_items(known, items).kind_effects[0], np.float32([0.1, 0.0, -0.2, 0.7, 0.0])
    )
    assert list(critic.for_items(known, replace(items, kind_codes=None)).kind_effects) == []


def test_values_that_no_training_user_saw_have_no_effect_on_other_codes() -> None:
    """Effects end at the highest code in the training log; items of the code 3 exist."""
    critic = policy_with(effects=[0.7, -0.2, 0.4]).critic
    known = policy_with().items
    items = replace(known, kind_codes=(known.kinds + 1) % 4)
    np.testing.assert_array_equal(critic.for_items(known, items).kind_effects[0], np.float32([0.0, 0.7, -0.2, 0.4]))


def test_effects_stay_with_their_kinds_in_a_table_with_other_codes() -> None:
    policy = policy_with(effects=[0.7, -0.2, 0.0, 0.1])
    renumbered = policy.with_items(replace(policy.items, kind_codes=3 - policy.items.kinds))
    np.testing.assert_allclose(log_chances(renumbered), log_chances(policy), rtol=1e-5)
    # Codes of kinds whose items are all new are kept if the common items have the same codes.
    few = ItemTable(np.array([policy.items.ids[0], 99]), policy.items.embeddings[:2], kind_codes=np.array([[0], [3]]))
    assert policy.with_items(few).critic is policy.critic
    assert policy.with_items(replace(few, kind_codes=None)).critic.kind_effects == ()
