"""Ordering by binary search: any strict or weak order is found, in as few answers as a search takes."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hand_store import write_store
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.annotation.page.desk import Desk
from prefrec_ray.annotation.page.rank import implied, ordered
from prefrec_ray.annotation.page.settings import LabelSettings
from prefrec_ray.annotation.page.summary import summary
from prefrec_ray.annotation.pairs import SplitUsers, draw_lists
from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse


def compare(a: float, b: float) -> str:
    return "tie" if a == b else "first" if a > b else "second"


@given(st.lists(st.integers(0, 6), min_size=2, max_size=12))
def test_an_order_is_found_and_says_all_pairs(worth: list[int]) -> None:
    known: dict[tuple[int, int], str] = {}
    while True:
        groups, pair = ordered(len(worth), lambda a, b: known.get((a, b)))
        if pair is None:
            break
        assert pair not in known
        known[pair] = compare(worth[pair[0]], worth[pair[1]])
    assert len(known) <= sum(math.ceil(math.log2(placed + 1)) for placed in range(1, len(worth)))
    pairs = combinations(range(len(worth)), 2)
    assert implied(groups) == {(a, b): compare(worth[a], worth[b]) for a, b in pairs}


def test_one_that_cannot_be_told_is_left_out() -> None:
    groups, pair = ordered(3, lambda a, b: "skip" if a == 1 else "first")
    assert (groups, pair) == ([[0], [2]], None)
    assert implied(groups) == {(0, 2): "second"}


def test_people_order_lists(tmp_path: Path) -> None:
    """Two lists of five with two annotators each, undo and a restart in the middle, and the export."""
    folder = tmp_path / "store"
    chosen = write_store(folder, pairs=20, known=0, mode="rank", segments=5, votes=2)
    desk = Desk(str(folder), chosen, lambda: 0.0)
    places = list(combinations(range(5), 2))
    for who in ("anna", "bo", "cy"):
        desk.store.invite(who, 1e12)
        answers = 0
        while (question := desk.question(who)) is not None:
            a, b = places[(question.lease.pair - 1) % 10]
            label = compare(a % 4, b % 4)  # segments 0 and 4 are equally good
            label = {"first": "second", "second": "first"}.get(label, label) if question.lease.flipped else label
            desk.answer(who, question.lease.token, label, 1.0)
            answers += 1
            if answers == 3:
                desk.undo(who)
                desk.store.close()
                desk = Desk(str(folder), chosen, lambda: 0.0)
        assert answers > 8 or who == "cy"
    labels = {(pair, who): label for pair, who, label in desk.store.labels()}
    assert labels == {
        (pair, who): compare(*(place % 4 for place in places[(pair - 1) % 10]))
        for pair in range(1, 21)
        for who in ("anna", "bo")
    }
    assert len(desk.store.votes()) < len(labels)
    assert (desk.left, desk.board.progress) == (0, (2, 2))
    assert summary(desk).progress == (2, 2)


def test_lists_are_segments_of_one_user_that_do_not_overlap() -> None:
    import pyarrow as pa

    requests = np.array([61, 90, 40, 200])
    users = SplitUsers(pa.array(["a", "b", "c", "d"]), requests)
    table = draw_lists(users, "train", 10, 6, 3, seed=0).to_pylist()
    assert len(table) == 3 * 15
    for first in range(0, 45, 15):
        rows = table[first : first + 15]
        assert len({row[f"user_{side}"] for row in rows for side in (0, 1)}) == 1
        starts = sorted({row[f"start_{side}"] for row in rows for side in (0, 1)})
        assert len(starts) == 6
        assert min(np.diff(starts)) >= 10
        assert starts[-1] + 10 < requests["abcd".index(rows[0]["user_0"])]
    assert len({row["pair_id"] for row in table}) == 45
    with pytest.raises(UserError, match="3 of 4 train users have more than 60 impressions; expected at least 4"):
        draw_lists(users, "train", 10, 6, 4, seed=0)


def test_lists_are_of_one_user() -> None:
    with pytest.raises(UserError, match="mode 'rank' orders segments of one user"):
        parse(LabelSettings, {"mode": "rank", "pairing": "any_users"}, "label")
