"""Pairs of segments: inside the histories, without overlap, and uniform over all allowed pairs."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.preferences import DRAWS
from prefrec_ray.settings import PAIRINGS


@settings(deadline=None, max_examples=100)
@given(
    length=st.integers(1, 6),
    more=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    pairing=st.sampled_from(sorted(PAIRINGS)),
    seed=st.integers(0, 2**32),
)
def test_segments_are_followed_by_a_request_and_keep_apart(
    length: int, more: list[int], pairing: str, seed: int
) -> None:
    requests = 2 * length + np.array(more)
    pairs = DRAWS[pairing](np.random.default_rng(seed), requests, length, 50)
    assert pairs.user.shape == pairs.start.shape == (50, 2)
    assert (pairs.start >= 0).all()
    assert (pairs.start + length < requests[pairs.user]).all()
    if pairing == "any_users":
        assert (pairs.user[:, 0] != pairs.user[:, 1]).all()
    else:
        assert (pairs.user[:, 0] == pairs.user[:, 1]).all()
        assert (np.abs(np.diff(pairs.start, axis=1)) >= length).all()


@pytest.mark.parametrize("pairing", sorted(PAIRINGS))
def test_every_allowed_pair_is_equally_likely(pairing: str) -> None:
    requests, length, count = np.array([8, 8, 8]), 2, 60_000
    starts = range(requests[0] - length)
    if pairing == "any_users":
        allowed = {(u, a, v, b) for u, v in permutations(range(3), 2) for a in starts for b in starts}
    else:
        allowed = {(u, a, u, b) for u in range(3) for a in starts for b in starts if abs(a - b) >= length}
    pairs = DRAWS[pairing](np.random.default_rng(1), requests, length, count)
    drawn = Counter(zip(*np.stack([pairs.user, pairs.start], axis=2).reshape(-1, 4).T.tolist(), strict=True))
    assert set(drawn) == allowed
    expected = count / len(allowed)
    chi_square = sum((n - expected) ** 2 / expected for n in drawn.values())
    degrees = len(allowed) - 1
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


def test_users_are_equally_likely_whatever_the_length_of_their_histories() -> None:
    pairs = DRAWS["any_users"](np.random.default_rng(2), np.array([11, 1000, 50]), 10, 30_000)
    shares = np.bincount(pairs.user.ravel()) / 60_000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)
