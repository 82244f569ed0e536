"""Pages of items: items before a position count as shown, and propensities are exact."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.exposure import MEMORY
from prefrec_ray.mdp.items import EXACT
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.policy.distribution import Candidates, Drawn
from tests.policy.test_policy import STATE, make_critic, make_policy, make_states

ITEMS, KINDS = 40, 3
PENALTIES = {"temperature": 2.0, "variety": 1.0, "repetition": 0.4, "repetition_window": 10, "scores": "q"}


def policy_of(**rule: object) -> Policy:
    policy = make_policy(items=ITEMS, critic=make_critic(0), serving=ServingSettings(**{**PENALTIES, **rule}))
    codes = np.random.default_rng(2).integers(-1, 4, (ITEMS, KINDS)).astype(np.int32)
    return replace(policy, items=replace(policy.items, kind_codes=codes))


def recent_of(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-1, 4, (n, MEMORY, KINDS)).astype(np.int32)


def chances(policy: Policy, states: np.ndarray, page: Drawn, out: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """The policy's probabilities of the items of pages [n, k], given the items before; `out` [n, I] are excluded."""
    columns, out = [], out.copy()
    for position, rows in enumerate(page.rows.T):
        # In a wider array, as of a page of another length.
        before = np.pad(page.rows[:, :position], ((0, 0), (2, 0)), constant_values=-1)
        columns.append(policy.probabilities(states, rows, ExcludedItems.from_mask(out), recent, before))
        out[np.arange(len(rows)), rows] = True
        recent = np.concatenate([policy.items.kinds[rows][:, None], recent[:, :-1]], axis=1)
    return np.stack(columns, axis=1)


def check_weights(target: np.ndarray, logged: np.ndarray) -> None:
    """The mean of pi / b is 1 at each position."""
    weight = target / logged
    error = weight.std(axis=0) / np.sqrt(len(weight))
    assert (np.abs(weight.mean(axis=0) - 1) < 4 * error + 1e-6).all()


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize("exact", [EXACT, 10])
def test_on_policy_weights_have_mean_one_at_each_position(k: int, exact: int) -> None:
    """With excluded items, of which some are pinned to the page."""
    n, rng = 3000, np.random.default_rng(4)
    logging, other = policy_of(), policy_of(temperature=3.0, variety=0.0)
    states, recent = np.repeat(make_states(3), n // 3, axis=0), np.repeat(recent_of(3), n // 3, axis=0)
    out = np.repeat(rng.random((3, ITEMS)) < 0.4, n // 3, axis=0)
    with patch("prefrec_ray.policy.distribution.EXACT", exact):
        page = logging.draw(states, k, ExcludedItems.from_mask(out), 5, recent)
        assert not np.take_along_axis(out, page.rows, axis=1).any()
        assert (np.diff(np.sort(page.rows, axis=1), axis=1) > 0).all()
        np.testing.assert_allclose(chances(logging, states, page, out, recent), page.propensities, rtol=1e-4)
        check_weights(chances(other, states, page, out, recent), page.propensities)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_on_policy_weights_among_candidates_have_mean_one(k: int) -> None:
    n, rows = 500, np.sort(np.random.default_rng(6).permutation(ITEMS)[:15])
    logging, other = policy_of(), policy_of(temperature=3.0, variety=0.0)
    state, recent = make_states(1), recent_of(1)
    candidates = [Candidates(rows, np.zeros(15))] * n
    drawn = logging.draw_among(state.repeat(n, axis=0), candidates, [k] * n, range(n), recent.repeat(n, axis=0))
    page = Drawn(*(np.concatenate(column) for column in zip(*drawn, strict=True)))
    states, recent = np.repeat(state, n, axis=0), np.repeat(recent, n, axis=0)
    out = np.tile(~np.isin(np.arange(ITEMS), rows), (n, 1))
    np.testing.assert_allclose(chances(logging, states, page, out, recent), page.propensities, rtol=1e-4)
    check_weights(chances(other, states, page, out, recent), page.propensities)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 6),
    rule=st.sampled_from(["sample", "best"]),
    candidates=st.sampled_from(["catalogue", "nearest"]),
    exact=st.sampled_from([EXACT, 10]),
)
def test_items_before_on_the_page_count_as_shown(seed: int, k: int, rule: str, candidates: str, exact: int) -> None:
    """The weights of a position by plain sums, with the mean of recent items moved by those before on the page."""
    policy = policy_of(rule=rule, candidates=candidates, count=12)
    state, recent = make_states(1, seed), recent_of(1)
    with patch("prefrec_ray.policy.distribution.EXACT", exact):
        page = policy.draw(state, k, None, seed, recent)
    if candidates == "catalogue" and exact < ITEMS:
        return  # in two steps, by an interpolated scale of the scores: the weights above, and test_distribution.py
    embeddings, kinds = policy.items.embeddings.astype(np.float64), policy.items.kinds
    columns = np.array([STATE.names.index(f"items/{column}@32") for column in range(3)])
    mean, std = (np.asarray(part, np.float64)[columns] for part in (policy.normaliser.mean, policy.normaliser.std))
    shown, length = state[0, columns] * std + mean, np.square(embeddings).sum(axis=1).mean()
    near = np.arange(ITEMS)
    if candidates == "nearest":
        action = policy.actor(torch.from_numpy(state)).numpy()
        near = np.square(embeddings - action).sum(axis=1).argsort()[:12]
    q = policy.critic.scores(state, embeddings[near].astype(np.float32)[None])[0]
    left, decay, past = near.tolist(), 0.5 ** (1 / 32), recent[0, :, :].tolist()
    for row, chance in zip(page.rows[0].tolist(), page.propensities[0], strict=True):
        logits = {}
        for item, score in zip(near.tolist(), q / q.std(), strict=True):
            same = [[a == b and b >= 0 for a, b in zip(old, kinds[item], strict=True)] for old in past[:10]]
            repetition = 0.4 * np.sum(same) / KINDS
            logits[item] = (score - embeddings[item] @ shown / length - repetition) / 2.0
        weights = {item: np.exp(logits[item]) for item in left}
        if rule == "sample":
            np.testing.assert_allclose(chance, weights[row] / sum(weights.values()), rtol=1e-3)
        else:
            assert weights[row] == pytest.approx(max(weights.values()), rel=1e-4)
        left.remove(row)
        shown = decay * shown + (1 - decay) * embeddings[row]
        past.insert(0, kinds[row].tolist())
