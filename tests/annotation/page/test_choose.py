"""The ensemble learns a reward from comparisons, and BALD prefers pairs on which members disagree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefrec_ray.annotation.page import choose
from prefrec_ray.annotation.page.choose import MEMBERS, WIDTH, bald, drawn, fit, preferred, unseen
from prefrec_ray.annotation.page.vote_scores import VoteScorer


def entropy(p: float) -> float:
    return -sum(q * np.log(q) for q in (p, 1 - p) if q > 0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_bald_is_the_entropy_that_members_explain(p: list[float]) -> None:
    expected = entropy(float(np.mean(p))) - float(np.mean([entropy(q) for q in p]))
    assert bald(np.array([p]))[0] == pytest.approx(expected, abs=1e-9)


def test_where_members_agree_nothing_is_learned() -> None:
    information = bald(np.array([[0.5, 0.5], [0.9, 0.9], [0.0, 1.0], [0.4, 0.6]]))
    assert information[:2] == pytest.approx(0, abs=1e-9)
    assert information[2] == pytest.approx(np.log(2), abs=1e-6)
    assert information[2] > information[3] > 0


def test_a_member_is_the_minimum_of_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features, label = rng.standard_normal((60, MEMBERS, WIDTH)).astype(np.float32), rng.choice([0.0, 0.3, 1.0], 60)
    monkeypatch.setattr(choose, "_STEPS", 20)
    weights, unseen_by = fit(features, label, seed=1)
    times = np.random.default_rng((1, 60)).poisson(1.0, (MEMBERS, 60))[2]
    assert unseen_by[:, 2].tolist() == (times == 0).tolist()

    def loss(w: np.ndarray) -> float:
        z = features[:, 2].astype(float) @ w
        return float((times * (np.logaddexp(0, z) - label * z)).sum() + choose._PRECISION * (w @ w) / 2)

    best = minimize(loss, np.zeros(WIDTH), method="BFGS")
    assert loss(weights[2]) == pytest.approx(best.fun, rel=1e-6)


def test_it_learns_who_is_preferred() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((800, MEMBERS, WIDTH)).astype(np.float32)
    features[:, :, 0] = features[:, :1, 0]
    label = (features[:, 0, 0] > 0).astype(float)
    weights, unseen_by = fit(features[:400], label[:400], 0)
    assert ((preferred(features[400:], weights).mean(axis=1) > 0.5) == label[400:]).mean() > 0.9
    by_others = unseen(preferred(features[:400], weights), unseen_by)
    assert ((by_others > 0.5) == label[:400])[~np.isnan(by_others)].mean() > 0.85


def test_only_members_that_have_not_seen_a_pair_speak_of_it() -> None:
    probability = unseen(np.array([[0.2, 0.8, 0.4], [0.1, 0.1, 0.1]]), np.array([[True, False, True], [False] * 3]))
    assert probability[0] == pytest.approx(0.3)
    assert np.isnan(probability[1])


def test_what_tells_more_is_likelier_to_be_asked_first() -> None:
    information, rng = np.array([0.1, 0.2, 0.0, 0.3]), np.random.default_rng(0)
    order = np.array([np.argsort(-drawn(information, rng)) for _ in range(4000)])
    np.testing.assert_allclose(np.bincount(order[:, 0], minlength=4) / 4000, information / information.sum(), atol=0.03)
    # Without replacement: the second is drawn from the remaining pairs.
    second = np.bincount(order[order[:, 0] == 3, 1], minlength=4)
    np.testing.assert_allclose(second / second.sum(), [1 / 3, 2 / 3, 0, 0], atol=0.04)


def test_the_order_asks_first_what_members_disagree_on() -> None:
    """Pairs along one feature were judged; the last two lie along others, of which nothing is known."""
    features = np.zeros((32, MEMBERS, WIDTH), np.float32)
    features[:30, :, 0] = np.linspace(-2, 2, 30)[:, None]
    features[30:] = np.random.default_rng(0).standard_normal((2, MEMBERS, WIDTH))
    ids, places = np.arange(100, 132), []
    votes = [(pair, who, "second" if pair > 114 else "first") for pair in range(100, 130) for who in ("anna", "bo")]
    for seed in range(40):
        scorer = VoteScorer([*((pair, None) for pair in ids.tolist()), (3, None)], ids, features, seed)
        order = scorer.score(votes).order
        assert set(order) == {*ids.tolist(), 3}
        places.append([order.index(pair) for pair in (130, 131, 3)])
    unknown, other, held_out = np.mean(places, axis=0)
    assert max(unknown, other) < 11  # chance: 16
    assert 12 < held_out < 20
