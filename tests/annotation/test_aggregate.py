"""Aggregated labels and agreement against plain computations and published figures."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.annotation.aggregate import AGGREGATES, disagreement, krippendorff_alpha

votes = st.lists(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=6), min_size=1, max_size=6)


def columns(judged: list[list[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    pair = np.repeat(np.arange(len(judged)), [len(labels) for labels in judged])
    annotator = np.concatenate([np.arange(len(labels)) for labels in judged])
    return pair, annotator, np.concatenate(judged), len(judged)


@settings(deadline=None, max_examples=100)
@given(votes)
def test_mean_and_majority(judged: list[list[float]]) -> None:
    np.testing.assert_allclose(AGGREGATES["mean"](*columns(judged)).label, [np.mean(labels) for labels in judged])
    expected = []
    for labels in judged:
        most = Counter("first" if v < 0.5 else "second" if v > 0.5 else "tie" for v in labels).most_common()
        alone = len(most) == 1 or most[0][1] > most[1][1]
        expected.append({"first": 0.0, "second": 1.0, "tie": 0.5}[most[0][0]] if alone else 0.5)
    np.testing.assert_array_equal(AGGREGATES["majority"](*columns(judged)).label, expected)


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
OBSERVERS = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]


def test_the_published_example() -> None:
    votes = [(unit, value) for row in OBSERVERS for unit, value in enumerate(row.split()) if value != "."]
    unit, value = np.array([u for u, _ in votes]), np.array([v for _, v in votes])
    assert krippendorff_alpha(unit, value) == pytest.approx(0.743, abs=5e-4)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30))
def test_alpha_is_observed_over_expected_disagreement(votes: list[tuple[int, int]]) -> None:
    units = [[v for u, v in votes if u == unit] for unit in range(5)]
    units = [values for values in units if len(values) > 1]
    everything = [value for values in units for value in values]
    observed = sum(sum(a != b for a, b in permutations(values, 2)) / (len(values) - 1) for values in units) / max(
        len(everything), 1
    )
    apart = [a != b for a, b in permutations(everything, 2)]
    alpha = krippendorff_alpha(np.array([u for u, _ in votes], int), np.array([v for _, v in votes], int))
    if not any(apart):
        assert alpha is None
    else:
        assert alpha == pytest.approx(1 - observed / np.mean(apart))


def test_disagreement_is_a_share_of_votes() -> None:
    annotator = np.array([0, 0, 0, 2, 2])
    voted, side = np.array([0, 0, 1, 2, 2]), np.array([0, 2, 1, 2, 1])
    np.testing.assert_allclose(disagreement(annotator, voted, side, 3), [1 / 3, np.nan, 1 / 2])


@pytest.mark.parametrize("name", list(AGGREGATES))
def test_a_label_is_on_the_side_on_which_all_annotators_are(name: str) -> None:
    """Three annotators always agree; a quarter of the pairs are ties, and more of the others are first."""
    sides = np.tile([0, 0, 1, 2, 0, 0, 1, 0], 10)
    judged = [[(0.0, 0.5, 1.0)[one]] * 3 for one in sides]
    assert AGGREGATES[name](*columns(judged)).side.tolist() == sides.tolist()


def test_probabilities_on_both_sides_may_have_a_tie_as_their_mean() -> None:
    votes = np.array([0.1, 0.9], np.float32).astype(np.float64)
    assert AGGREGATES["mean"](np.zeros(2, int), np.arange(2), votes, 1).side.tolist() == [1]
