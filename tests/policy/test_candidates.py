"""Draws among candidates with priors: the same distribution as if all other items were excluded."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import EXACT
from prefrec_ray.policy.distribution import Candidates, Distribution, Drawn
from prefrec_ray.policy.landmarks import ALL_SCORED, Landmarks
from prefrec_ray.policy.weighing import Situations
from tests.policy.test_distribution import distribution

STATE = np.float32([[0.5, -0.2, 0.1]])


def among(pi: Distribution, rows: np.ndarray, prior: np.ndarray, k: int, seed: int = 0) -> Drawn:
    (drawn,) = pi.draw_among(Situations(STATE), STATE, [Candidates(rows, prior)], [k], [np.random.default_rng(seed)])
    return drawn


def log_weights(pi: Distribution, exact: int, rows: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The formula of `draw_among` for linear scores; the scale is of all items or, above `exact`, of the landmarks."""
    of_scale = np.arange(len(pi.items))
    if len(pi.items) > exact:
        landmarks = Landmarks.from_embeddings(pi.items.embeddings)
        assert landmarks is not None
        of_scale = landmarks.rows
    scores = pi.items.embeddings.astype(np.float64) @ STATE[0]
    return scores[rows] / (float(pi.serving.temperature) * scores[of_scale].std()) + prior


def conditional(logits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the probability of each place given the earlier places, by sums over the items that are left."""
    weights, chances = np.exp(logits - logits.max()), []
    for place in places:
        chances.append(weights[place] / weights.sum())
        weights[place] = 0
    return np.array(chances)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    catalogue=st.sampled_from([(20, EXACT), (600, EXACT), (600, 10), (900, 10)]),
    data=st.data(),
)
def test_propensities_are_those_of_the_formula(seed: int, catalogue: tuple[int, int], data: st.DataObject) -> None:
    """The catalogue is small or large; linear scores are interpolated without an error."""
    count, exact = catalogue
    pi, rng = distribution(count, temperature=0.5), np.random.default_rng(seed)
    size = data.draw(st.integers(1, count))
    k = data.draw(st.integers(1, min(size, 12)))
    rows, prior = rng.permutation(count)[:size], rng.normal(size=size)
    with patch("prefrec_ray.policy.distribution.EXACT", exact):
        drawn, chances = among(pi, rows, prior, k, seed)
    places = np.array([np.flatnonzero(rows == row)[0] for row in drawn[0]])
    assert len(set(places)) == k
    np.testing.assert_allclose(chances[0], conditional(log_weights(pi, exact, rows, prior), places), rtol=2e-3)


@pytest.mark.parametrize("exact", [EXACT, 10])
def test_orders_are_drawn_as_often_as_enumerated(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrec_ray.policy.distribution.EXACT", exact)
    pi, rows, prior = distribution(700, temperature=0.5), np.array([3, 600, 41, 17]), np.array([0.0, -1.0, 2.0, 0.5])
    orders = list(permutations(range(4), 3))
    logits = log_weights(pi, exact, rows, prior)
    expected = np.array([conditional(logits, np.array(order)).prod() for order in orders])
    assert expected.sum() == pytest.approx(1)
    counts, rng, turns = dict.fromkeys(orders, 0), np.random.default_rng(1), 4_000
    for _ in range(turns):
        (drawn,) = pi.draw_among(Situations(STATE), STATE, [Candidates(rows, prior)], [3], [rng])
        counts[tuple(rows.tolist().index(row) for row in drawn.rows[0].tolist())] += 1
    assert chisquare(list(counts.values()), expected * turns).pvalue > 0.01


@pytest.mark.parametrize("rule", ["sample", "best"])
@pytest.mark.parametrize("candidates", ["catalogue", "nearest"])
def test_candidates_without_priors_are_what_an_exclusion_leaves(rule: str, candidates: str) -> None:
    pi = distribution(40, rule=rule, candidates=candidates, count=8, temperature=0.5)
    rows = np.sort(np.random.default_rng(3).permutation(40)[:15])
    states = np.tile(STATE, (20_000, 1))
    out = ExcludedItems.from_mask(np.tile(~np.isin(np.arange(40), rows), (20_000, 1)))
    excluded = pi.draw(Situations(states, out), states, 2, np.random.default_rng(0))
    known = dict(zip(map(tuple, excluded.rows.tolist()), excluded.propensities, strict=True))
    for seed in range(30):
        drawn, chances = among(pi, rows, np.zeros(15), 2, seed)
        np.testing.assert_allclose(chances[0], known[tuple(drawn[0].tolist())], rtol=1e-5)


@pytest.mark.parametrize("exact", [EXACT, 10])
@pytest.mark.parametrize("rule", ["sample", "best"])
@pytest.mark.parametrize("candidates", ["catalogue", "nearest"])
def test_requests_drawn_together_get_the_pages_of_single_requests(rule: str, candidates: str, exact: int) -> None:
    """The numbers of candidates are above and below `count`, and above and below the largest k."""
    pi, rng = distribution(2_000, rule=rule, candidates=candidates, count=8, temperature=0.5), np.random.default_rng(3)
    sizes, ks = [3, 900, 6, 1_500, 900, 40, 1], [3, 10, 2, 1, 10, 5, 1]
    named = [Candidates(rng.permutation(2_000)[:size], rng.normal(size=size)) for size in sizes]
    states = rng.normal(size=(len(sizes), 3)).astype(np.float32)
    with patch("prefrec_ray.policy.distribution.EXACT", exact):
        together = pi.draw_among(Situations(states), states, named, ks, list(map(np.random.default_rng, range(7))))
        for at, drawn in enumerate(together):
            one, of_one = slice(at, at + 1), [np.random.default_rng(at)]
            (alone,) = pi.draw_among(Situations(states[one]), states[one], named[one], ks[one], of_one)
            assert drawn.rows.shape == (1, ks[at])
            np.testing.assert_array_equal(drawn.rows, alone.rows)
            np.testing.assert_allclose(drawn.propensities, alone.propensities, rtol=1e-4)


def test_a_prior_moves_items_to_the_front_under_best_and_among_the_nearest() -> None:
    rows = np.arange(10, 30)
    prior = np.where(rows == 17, 500.0, 0.0)
    pi = distribution(40, rule="best")
    assert among(pi, rows, prior, 3).rows[0, 0] == 17
    assert among(pi, rows, 0 * prior, 3).rows[0, 0] != 17
    near = replace(pi, serving=pi.serving.model_copy(update={"candidates": "nearest", "count": 20}))
    assert among(near, rows, prior, 3).rows[0, 0] == 17


def test_the_nearest_candidate_is_served_by_a_deterministic_policy() -> None:
    pi = replace(distribution(40, rule="best", candidates="nearest", count=1), scorer=None)
    rows = np.arange(10, 30)
    away = np.linalg.norm(pi.items.embeddings[rows] - STATE, axis=1)
    drawn, chances = among(pi, rows, np.random.default_rng(0).normal(size=20), 4)
    assert drawn[0].tolist() == rows[np.argsort(away)[:4]].tolist()
    assert chances.tolist() == [[1.0] * 4]


def test_more_candidates_than_are_scored_keep_the_weights_of_fewer() -> None:
    """One more candidate turns scores by the network into interpolated ones."""
    pi = distribution(2_000, temperature=0.5)
    with patch("prefrec_ray.policy.distribution.EXACT", 10):
        (few,), (more,) = (pi._weigh.among(STATE, [np.arange(ALL_SCORED + extra)]) for extra in (0, 1))
    np.testing.assert_allclose(few, more[:-1], atol=2e-3)


@pytest.mark.parametrize("k", [0, 6])
def test_more_items_than_candidates_are_refused(k: int) -> None:
    with pytest.raises(UserError, match=f"found k = {k}; expected 1 to 5, the number of candidates"):
        among(distribution(40), np.arange(5), np.zeros(5), k)
