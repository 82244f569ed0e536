"""Exposure counts in bulk and step by step, against a plain loop over each user's history."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.mdp.exposure import MEMORY, WINDOWS, RecentRows, exposures, recent_kinds, repetitions, width


def loop(rows: list[int], kinds: np.ndarray, item: int) -> list[float]:
    """Return the exposure to `item` after the impressions `rows` of one user."""
    values: list[float] = []
    for column in kinds.T:
        same = [column[row] == column[item] and column[item] >= 0 for row in reversed(rows)]
        values += [sum(same[:window]) for window in WINDOWS]
        values.append(math.log1p(min(same.index(True) if True in same else MEMORY, MEMORY)))
    return [*values, sum(row == item for row in rows[-MEMORY:])]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=4), kinds=st.integers(1, 3), seed=st.integers(0, 9999)
)
def test_all_ways_agree(lengths: list[int], kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 4, (12, kinds)).astype(np.int32)
    starts = np.cumsum(lengths) - lengths
    rows = rng.integers(0, 12, sum(lengths))
    bulk = exposures(starts, rows, codes)
    assert bulk.shape == (len(rows), width(kinds))
    tracked = RecentRows(len(lengths), codes)
    for step in range(max(lengths)):
        users = np.flatnonzero(np.array(lengths) > step)
        shown = rows[starts[users] + step]
        one = tracked.exposures(shown, users)
        several = tracked.exposures(np.stack([shown, (shown + 1) % 12], axis=1), users)
        np.testing.assert_array_equal(one, bulk[starts[users] + step])
        np.testing.assert_array_equal(several[:, 0], one)
        for place, user in enumerate(users):
            past = rows[starts[user] : starts[user] + step].tolist()
            for values, item in ((one[place], shown[place]), (several[place, 1], (shown[place] + 1) % 12)):
                np.testing.assert_allclose(values, loop(past, codes, item), rtol=1e-6)
        tracked.observe(shown, users)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=4), kinds=st.integers(1, 3), seed=st.integers(0, 9999)
)
def test_repetitions_are_those_of_a_plain_loop(lengths: list[int], kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 4, (12, kinds)).astype(np.int32)
    starts = np.cumsum(lengths) - lengths
    rows = rng.integers(0, 12, sum(lengths))
    user = rng.integers(0, len(lengths), 5)
    step = rng.integers(0, np.array(lengths)[user])
    recent = recent_kinds(starts[user], starts[user] + step, rows, codes)
    assert recent.shape == (5, MEMORY, kinds)
    window = int(rng.integers(1, MEMORY + 1))
    every = repetitions(recent, codes, np.arange(12), window)
    own = rng.integers(0, 12, (5, 3))
    np.testing.assert_array_equal(repetitions(recent, codes, own, window), np.take_along_axis(every, own, axis=1))
    for place in range(5):
        begin = starts[user[place]]
        past = rows[begin : begin + step[place]].tolist()[::-1][:window]
        expected = [
            sum(codes[row, k] == codes[item, k] >= 0 for row in past for k in range(kinds)) / kinds
            for item in range(12)
        ]
        np.testing.assert_allclose(every[place], expected, rtol=1e-6)
