"""Dawid and Skene with one error rate: against all worlds enumerated, and where votes are few."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.annotation.aggregate import AGGREGATES, PRIOR, SIDES, Model, consensus


@given(st.data())
def test_the_posterior_is_bayes_rule(data: st.DataObject) -> None:
    sides = data.draw(st.lists(st.integers(0, 2), max_size=6))
    r = np.array(data.draw(st.lists(st.floats(0.35, 0.98), min_size=len(sides), max_size=len(sides))))
    share, wrong = np.array([0.5, 0.2, 0.3]), np.array([[0, 0.1, 0.9], [0.5, 0, 0.5], [0.7, 0.3, 0]])
    joint = [
        share[k] * np.prod([q if side == k else (1 - q) * wrong[k, side] for side, q in zip(sides, r, strict=True)])
        for k in range(3)
    ]
    model = Model(share, wrong)
    posterior = model.posterior(np.ones(len(sides), int), np.array(sides, int), r, 2)
    np.testing.assert_allclose(posterior[1], joint / np.sum(joint), rtol=1e-9)
    np.testing.assert_allclose(posterior[0], share)


def crowd(votes: int, pairs: int = 600, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    truth, reliability = rng.choice([0, 2], pairs), rng.permutation(np.linspace(0.55, 0.95, 20))
    annotator = np.argsort(rng.random((pairs, 20)), axis=1)[:, :votes].ravel()
    pair = np.repeat(np.arange(pairs), votes)
    right = rng.random(len(pair)) < reliability[annotator]
    return truth, reliability, pair, annotator, np.where(right, truth[pair], 2 - truth[pair])


def test_with_many_votes_it_finds_truth_and_reliability() -> None:
    truth, reliability, pair, annotator, side = crowd(votes=15)
    result = consensus(pair, annotator, side, 20, np.full(len(truth), -1))
    assert (result.posterior.argmax(axis=1) == truth).mean() > 0.98
    np.testing.assert_allclose(result.reliability, reliability, atol=0.05)
    label = AGGREGATES["one-coin"](pair, annotator, SIDES[side], len(truth)).label
    assert (np.sign(label - 0.5) == truth - 1).mean() > 0.98


def test_with_few_votes_it_is_as_sure_as_it_is_right() -> None:
    """Maximum likelihood is certain of a pair with one vote; this estimate is 0.75."""
    truth, _, pair, annotator, side = crowd(votes=3, pairs=3000)
    posterior = consensus(pair, annotator, side, 20, np.full(len(truth), -1)).posterior
    sure = posterior.max(axis=1)
    right = posterior.argmax(axis=1) == truth
    for low, high in itertools.pairwise((0.5, 0.8, 0.9, 0.96, 1.0)):
        chosen = (sure >= low) & (sure < high)
        assert chosen.sum() > 100
        assert abs(right[chosen].mean() - sure[chosen].mean()) < 0.06
    one = consensus(np.array([0]), np.array([0]), np.array([2]), 1, np.array([-1]))
    assert 0.5 < one.posterior[0, 2] < 0.95


def test_known_answers_say_who_is_reliable() -> None:
    side = np.array([2] * 10 + [0] * 10)
    result = consensus(np.tile(np.arange(10), 2), np.repeat([0, 1], 10), side, 2, np.full(10, 2))
    right, wrong = PRIOR
    assert result.reliability.tolist() == pytest.approx(
        [(10 + right) / (10 + right + wrong), right / (10 + right + wrong)]
    )


def test_without_votes_every_side_is_equally_likely() -> None:
    nothing = np.empty(0, int)
    np.testing.assert_allclose(consensus(nothing, nothing, nothing, 0, nothing).model.share, 1 / 3)
