"""Interpolated scores: exact for linear scores, near for smooth ones, and defined for degenerate embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from prefrec_ray.policy.landmarks import ALL_SCORED, Landmarks


def embeddings_of(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, width)).astype(np.float32)


def found(embeddings: np.ndarray) -> Landmarks:
    landmarks = Landmarks.from_embeddings(embeddings)
    assert landmarks is not None
    return landmarks


def test_a_small_catalogue_has_no_landmarks() -> None:
    assert Landmarks.from_embeddings(embeddings_of(ALL_SCORED, 4)) is None
    assert Landmarks.from_embeddings(embeddings_of(ALL_SCORED + 1, 4)) is not None
    assert Landmarks.from_embeddings(embeddings_of(ALL_SCORED + 1, 100)) is None  # half of the items and more


def test_weights_are_those_of_a_cubic_radial_basis_function() -> None:
    embeddings = embeddings_of(700, 3)
    landmarks = found(embeddings)
    values = np.random.default_rng(1).normal(size=(5, len(landmarks.rows)))
    expected = RBFInterpolator(embeddings[landmarks.rows], values.T, kernel="cubic", degree=1)(embeddings).T
    np.testing.assert_allclose(landmarks.interpolate(values, embeddings), expected, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), width=st.integers(1, 12), kept=st.integers(1, 12))
def test_linear_scores_are_exact_also_in_a_subspace(seed: int, width: int, kept: int) -> None:
    embeddings = embeddings_of(800, width, seed)
    embeddings[:, kept:] = 0.5
    embeddings[400:500] = embeddings[300]  # equal items
    landmarks = found(embeddings)
    scores = embeddings @ np.random.default_rng(seed).normal(size=width) + 3.0
    np.testing.assert_allclose(landmarks.interpolate(scores[None, landmarks.rows], embeddings)[0], scores, atol=2e-3)
    assert len(np.unique(embeddings[landmarks.rows], axis=0)) == len(landmarks.rows)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_items_with_the_same_embedding_take_no_landmarks_of_others(share: float) -> None:
    """Like 3,000 items, of which a `share` has unknown content."""
    embeddings = embeddings_of(3_000, 8)
    embeddings[np.random.default_rng(3).random(3_000) < share] = [0.0, -0.0] * 4
    embeddings[np.random.default_rng(4).random(3_000) < share / 2] = 0.0
    landmarks = found(embeddings)
    others = np.abs(embeddings).sum(axis=1) > 0
    assert len(landmarks.rows) >= min(128, others.sum())
    assert len(np.unique(embeddings[landmarks.rows], axis=0)) == len(landmarks.rows)
    direction = np.random.default_rng(1).normal(size=8) / np.sqrt(8)
    scores = np.tanh(2 * (embeddings @ direction))
    error = landmarks.interpolate(scores[None, landmarks.rows], embeddings)[0] - scores
    assert error[others].std() < 0.2 * scores[others].std()


@pytest.mark.parametrize("width", [2, 8])
def test_smooth_scores_are_near(width: int) -> None:
    embeddings = embeddings_of(3_000, width)
    direction = np.random.default_rng(1).normal(size=width) / np.sqrt(width)
    scores = np.tanh(2 * (embeddings @ direction)) + (embeddings @ direction) ** 2
    landmarks = found(embeddings)
    error = landmarks.interpolate(scores[None, landmarks.rows], embeddings)[0] - scores
    assert error.std() < {2: 0.02, 8: 0.2}[width] * scores.std()
    shuffled = np.random.default_rng(2).permutation(scores)  # scores without a relation to the embeddings
    error = landmarks.interpolate(shuffled[None, landmarks.rows], embeddings)[0] - shuffled
    assert error.std() > 0.9 * scores.std()
