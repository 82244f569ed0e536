"""Composition of pages against counts by hand."""

import numpy as np

from prefrec_ray.mdp.pages import Pages
from prefrec_ray.users.measures import largest_counts, share_like_logged

#: Items 0 to 3 are of one kind, 4 to 6 of another, 7 of a third one; the second kind of 5 to 7 is unknown.
KINDS = np.array([[0, 0, 0, 0, 1, 1, 1, 2], [4, 3, 3, 3, 0, -1, -1, -1]], np.int32).T


def test_the_largest_count_is_of_any_kind_of_the_page() -> None:
    pages = Pages.from_steps(np.array([0, 5]), np.array([0, 0, 0, 1, 1, 0, 0, 0]), 8)
    row = np.array([0, 4, 1, 5, 6, 1, 2, 3])
    np.testing.assert_array_equal(largest_counts(pages, row, KINDS), [[2, 1], [2, 0], [3, 3]])


def test_pages_are_like_logged_ones_up_to_the_range_of_the_log() -> None:
    """One of 200 logged pages has three items of a kind, the others have two."""
    row = np.tile([0, 1, 4, 7], (200, 1))
    row[7] = [0, 1, 2, 7]
    logged = Pages.from_steps(np.array([0]), np.repeat(np.arange(200), 4), 800)
    shown = np.array([[0, 1, 4, 5], [0, 1, 2, 7], [0, 1, 2, 3], [4, 5, 6, 7], [7, 4, 3, 5]])
    assert share_like_logged(logged, row.ravel(), shown, KINDS) == 2 / 5
    single = Pages.from_steps(np.array([0]), None, 800)
    assert share_like_logged(single, row.ravel(), shown, KINDS) is None
