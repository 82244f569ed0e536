"""Transitions of pages: each impression, and the first impression of the user's next page."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.mdp.pages import Pages


@pytest.mark.parametrize("lengths", [[1], [5], [1, 1, 1], [3, 1, 4], [2, 2], [1, 6, 1], [0, 2, 0, 0, 3, 0], []])
def test_without_pages_a_row_is_followed_by_the_next_row_of_the_user(lengths: list[int]) -> None:
    user = np.repeat(np.arange(len(lengths)), lengths)
    expected = [i for i in range(len(user) - 1) if user[i] == user[i + 1]]
    starts = np.cumsum([0, *lengths])[:-1].astype(np.int64)
    rows, following = Pages.from_steps(starts, None, len(user)).transitions()
    assert (rows.tolist(), following.tolist()) == (expected, [i + 1 for i in expected])


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), max_size=5))
def test_all_rows_of_a_page_are_followed_by_the_first_row_of_the_next(users: list[list[int]]) -> None:
    sizes = [size for pages in users for size in pages]
    firsts = np.cumsum([0, *sizes])
    step = np.repeat([number for pages in users for number in range(len(pages))], sizes).astype(np.int64)
    starts = np.cumsum([0, *map(sum, users)])[:-1].astype(np.int64)
    pages = Pages.from_steps(starts, step, sum(sizes))
    assert pages.sizes.tolist() == sizes
    assert pages.sums(np.ones(sum(sizes))).tolist() == sizes
    last = np.cumsum([len(of_user) for of_user in users]) - 1  # page of each user
    expected = [
        (row, firsts[page + 1])
        for page, (first, size) in enumerate(zip(firsts, sizes, strict=False))
        if page not in last
        for row in range(first, first + size)
    ]
    assert list(zip(*(part.tolist() for part in pages.transitions()), strict=True)) == expected
