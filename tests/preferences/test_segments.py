"""Pairs of segments: inside the histories, apart, near to each other where of one user, and drawn as is said."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.preferences.segments import DRAWS
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
        apart = np.abs(np.diff(pairs.start, axis=1))
        assert ((apart >= length) & (apart < 2 * length)).all()


@pytest.mark.parametrize("pairing", sorted(PAIRINGS))
def test_every_allowed_pair_is_as_likely_as_is_said(pairing: str) -> None:
    """Of one user: each distance is, and then each place."""
    requests, length, count = np.array([9, 9, 9]), 2, 60_000
    starts = range(requests[0] - length)
    allowed: dict[tuple[int, int, int, int], float] = {}
    if pairing == "any_users":
        pairs_allowed = [(u, a, v, b) for u, v in permutations(range(3), 2) for a in starts for b in starts]
        allowed = dict.fromkeys(pairs_allowed, 1 / len(pairs_allowed))
    else:
        for user, apart in product(range(3), (2, 3)):  # fewer than `length` between
            places = [(a, a + apart) for a in starts if a + apart in starts]
            for a, b in (*places, *((b, a) for a, b in places)):
                allowed[user, a, user, b] = 1 / 3 / 2 / (2 * len(places))
    pairs = DRAWS[pairing](np.random.default_rng(1), requests, length, count)
    drawn = Counter(zip(*np.stack([pairs.user, pairs.start], axis=2).reshape(-1, 4).T.tolist(), strict=True))
    assert set(drawn) == set(allowed)
    assert sum(allowed.values()) == pytest.approx(1)
    chi_square = sum((drawn[pair] - count * share) ** 2 / (count * share) for pair, share in allowed.items())
    degrees = len(allowed) - 1
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


def test_users_are_equally_likely_whatever_the_length_of_their_histories() -> None:
    pairs = DRAWS["any_users"](np.random.default_rng(2), np.array([11, 1000, 50]), 10, 30_000)
    shares = np.bincount(pairs.user.ravel()) / 60_000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)
