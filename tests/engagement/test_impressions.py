"""The sample of impressions for the fatigue estimate, and the order of users' rows."""

from __future__ import annotations

import numpy as np
import pytest

from prefrec_ray.engagement.impressions import Impressions


def make_shown(lengths: list[int]) -> Impressions:
    """Users with the given numbers of impressions, each with its own time."""
    lengths_ = np.array(lengths, dtype=np.int64)
    rows = int(lengths_.sum())
    numbers = np.arange(rows)
    values = numbers[:, None].astype(np.float32)
    return Impressions(np.cumsum(lengths_) - lengths_, values, numbers // 7, numbers * 1000, values)


def test_of_users_with_long_histories_the_beginning_is_asked() -> None:
    shown = make_shown([159, 520, 160, 3, 500])
    beginnings = shown.beginnings()
    assert beginnings.lengths.tolist() == [500, 160, 500]
    for start, length, user in zip(beginnings.starts, beginnings.lengths, (1, 2, 4), strict=True):
        own = slice(shown.starts[user], shown.starts[user] + length)
        for column in ("embeddings", "session", "timestamp", "feedback"):
            mine, theirs = getattr(beginnings, column)[start : start + length], getattr(shown, column)[own]
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("lengths", [[], [1, 2, 3]])
def test_of_short_histories_nothing_is_asked(lengths: list[int]) -> None:
    assert len(make_shown(lengths).beginnings().timestamp) == 0


def test_users_are_taken_with_their_rows() -> None:
    shown = make_shown([4, 3, 5, 2])
    both = Impressions.concatenate([shown.take(np.array([2, 0])), shown.take(np.array([3]))])
    assert both.lengths.tolist() == [5, 4, 2]
    assert (both.timestamp // 1000).tolist() == [7, 8, 9, 10, 11, 0, 1, 2, 3, 12, 13]
    assert both.feedback[:, 0].tolist() == (both.timestamp // 1000).tolist()
