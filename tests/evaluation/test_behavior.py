"""The model of the logging policy against a law that is written down."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made import made_histories

from prefrec_ray.evaluation import behavior
from prefrec_ray.evaluation.behavior import TEMPERATURES, BehaviorModel, calibrated, fit_behavior
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.users.histories import Histories

ITEMS = ItemTable(np.arange(60), np.random.default_rng(1).uniform(-1, 1, (60, 2)).astype(np.float32))
SHARE = np.random.default_rng(2).uniform(0.2, 2.0, 60)
TOWARDS = np.array([[2.0, 0.0, 0.0], [0.0, -1.5, 0.0]])


def log_chances(state: np.ndarray) -> np.ndarray:
    """log b(i | s), [n, I], with b proportional to SHARE exp(TOWARDS s . e)."""
    logits = np.log(SHARE) + state @ TOWARDS.T @ ITEMS.embeddings.T
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def log(users: int, seed: int) -> Histories:
    """Twenty sessions of two impressions, with states of three numbers, the last of them irrelevant."""
    rng = np.random.default_rng(seed)
    n = users * 40
    state = rng.normal(size=(n, 3)).astype(np.float32)
    row = (log_chances(state) + rng.gumbel(size=(n, 60))).argmax(axis=1)
    user = np.repeat(np.arange(users), 20)
    return made_histories(state, ITEMS.embeddings[row], np.arange(0, n, 2), user, np.zeros(n // 2), row)


@pytest.fixture(scope="module")
def fitted() -> BehaviorModel:
    return fit_behavior(log(users=800, seed=0), ITEMS, seed=0)


def test_a_known_law_is_found_again(fitted: BehaviorModel) -> None:
    fresh = log(users=50, seed=1)
    known = log_chances(fresh.state)
    every = np.arange(len(fresh.row))
    log_probabilities = fitted.log_probabilities(fresh.state, fresh.row)
    kullback = (known[every, fresh.row] - log_probabilities).mean()
    of_shares = (known[every, fresh.row] - np.log(SHARE / SHARE.sum())[fresh.row]).mean()
    assert kullback < 0.03 < 0.3 < of_shares


def test_chances_add_up_to_one_over_what_may_be_shown(fitted: BehaviorModel) -> None:
    state = np.random.default_rng(4).normal(size=(3, 3)).astype(np.float32)
    out = ExcludedItems.from_rows([np.array([0, 5]), np.array([], int), np.arange(59)])
    chances = [np.exp(fitted.log_probabilities(state, np.full(3, item), out)) for item in range(60)]
    np.testing.assert_allclose(np.sum(chances, axis=0), 1)
    assert chances[5][0] == 0
    assert chances[59][2] == 1


def test_a_model_that_is_too_sure_is_cooled() -> None:
    data = log(users=200, seed=5)
    law = Mlp.from_layers([(np.float32([*(2 * TOWARDS), *np.zeros((2, 3))]), np.zeros(4, np.float32))])
    sure = BehaviorModel(law, np.log(SHARE / SHARE.sum()), ITEMS.embeddings)
    assert calibrated(sure, data.state, data.row).temperature == pytest.approx(0.5, abs=0.11)


@pytest.mark.parametrize("sure", [-1.0, 0.2, 0.6, 1.1, 2.5])
def test_a_climb_finds_the_best_of_all_temperatures(sure: float) -> None:
    data = log(users=20, seed=8)
    law = Mlp.from_layers([(np.float32([*(sure * TOWARDS), *np.zeros((2, 3))]), np.zeros(4, np.float32))])
    model = BehaviorModel(law, np.log(SHARE / SHARE.sum()), ITEMS.embeddings)
    each = [replace(model, temperature=t).log_probabilities(data.state, data.row).mean() for t in TEMPERATURES]
    assert calibrated(model, data.state, data.row).temperature == TEMPERATURES[np.argmax(each)]


def test_a_log_without_a_preference_is_told_by_its_shares() -> None:
    data = log(users=200, seed=6)
    drawn = np.random.default_rng(7).choice(60, len(data.row), p=SHARE / SHARE.sum())
    model = fit_behavior(replace(data, row=drawn), ITEMS, seed=0)
    surplus = np.log(SHARE / SHARE.sum())[drawn] - model.log_probabilities(data.state, drawn)
    assert abs(surplus.mean()) < 0.02
    assert surplus.std() < 0.15


def test_what_is_calibrated_on_was_not_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user sees only one item, so that shares identify the users of the fit; others remain for the temperature."""
    asked: list[np.ndarray] = []

    def kept_as_it_is(model: BehaviorModel, states: np.ndarray, rows: np.ndarray) -> BehaviorModel:
        asked.append(rows)
        return model

    monkeypatch.setattr(behavior, "UPDATES", 1)
    monkeypatch.setattr(behavior, "calibrated", kept_as_it_is)
    data = log(users=60, seed=9)
    model = fit_behavior(replace(data, row=data.user), ITEMS, seed=0)
    fitted_on = np.flatnonzero(model.log_share > model.log_share.min() + 1)
    held_out = np.unique(asked)
    assert 1 <= len(held_out) <= 20
    assert sorted([*fitted_on, *held_out]) == list(range(60))
