"""Assignment of questions: no pair twice, no more votes than requested, the configured share of gold and repeats."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.annotation.page.board import Board

NOW, LATER = 100.0, 200.0


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_team_answers_every_pair_as_often_as_wanted(votes: int, people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    board = Board(range(12), [], votes, (0.0, 0.0))
    counts = Counter()
    names = [f"p{number}" for number in range(people)]
    open_now: dict[str, int] = {}
    for _ in range(400):
        who = names[rng.integers(people)]
        if who in open_now:
            board.voted(who, open_now.pop(who), "first", False)
            continue
        question = board.next(who, NOW, rng)
        if question is not None:
            assert not question[1]
            assert (who, question[0]) not in counts
            counts[who, question[0]] += 1
            open_now[who] = question[0]
            board.leased(who, question[0], LATER)
    for who, pair in open_now.items():
        board.voted(who, pair, "first", False)
    assert Counter(pair for _, pair in counts) == dict.fromkeys(range(12), min(votes, people))


def test_a_lease_that_has_ended_frees_the_pair() -> None:
    board, rng = Board([7], [], 1, (0.0, 0.0)), np.random.default_rng(0)
    board.leased("anna", 7, NOW + 1)
    assert board.next("bo", NOW, rng) is None
    assert board.next("bo", NOW + 2, rng) == (7, False)


def test_pairs_that_were_begun_come_first() -> None:
    board, rng = Board(range(10), [], 3, (0.0, 0.0)), np.random.default_rng(0)
    board.voted("anna", 6, "first", False)
    assert board.next("bo", NOW, rng) == (6, False)
    board.decided.add(6)
    assert board.next("bo", NOW, rng) == (0, False)
    board.undone("anna", 6, False)
    assert board.decided == set()


def test_gold_and_repeats_come_as_often_as_asked_for() -> None:
    board, rng = Board(range(2000), range(400), 3, (0.1, 0.05)), np.random.default_rng(0)
    questions = []
    for _ in range(1000):
        pair, repeat = board.next("anna", NOW, rng) or (-1, False)
        questions.append((pair, repeat))
        board.voted("anna", pair, "first", repeat)
    repeats = [number for number, (_, repeat) in enumerate(questions) if repeat]
    assert 25 <= len(repeats) <= 75
    first = {pair: number for number, (pair, repeat) in enumerate(questions) if not repeat}
    assert all(number - first[questions[number][0]] > 10 for number in repeats)
    assert len({questions[number] for number in repeats}) == len(repeats)
    # Everybody is asked gold pairs, also where others have answered them often enough.
    small = Board([1], [1], 1, (1.0, 0.0))
    small.voted("anna", 1, "first", False)
    assert small.next("bo", NOW, rng) == (1, False)
    assert small.next("anna", NOW, rng) is None
