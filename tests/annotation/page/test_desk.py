"""Questions and votes without HTTP: sides, undo, repeats, gold and restarts."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hand_store import write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.annotation.page.desk import Desk, LabelSettings, Stale
from prefrec_ray.annotation.page.store import Store, Vote
from prefrec_ray.errors import UserError

FAR = 1e12
PLAIN = {"gold": 0.0, "repeats": 0.0}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Desk]:
    def make_desk(pairs: int = 12, people: str = "ab", **changes: object) -> Desk:
        folder = tmp_path / "store"
        chosen = write_store(folder, pairs=pairs, known=2, **{**PLAIN, **changes})
        desk = Desk(str(folder), chosen, Clock())
        for who in people:
            desk.store.invite(who, FAR)
        return desk

    return make_desk


def ask(desk: Desk, who: str) -> Vote:
    """The question of this person as a skip."""
    question = desk.question(who)
    assert question is not None
    about = {name: getattr(question, name) for name in ("pair", "repeat", "flipped", "token")}
    return Vote(annotator=who, label="skip", time=0, **about)


def test_an_answer_is_of_the_segment_that_was_on_that_side(make: Callable[..., Desk]) -> None:
    desk = make(pairs=40)
    sides = set()
    for _ in range(20):
        open_vote, question = ask(desk, "a"), desk.question("a")
        assert question is not None
        assert desk.segments(question)[0] == desk.store.segments(open_vote.pair)[1 if open_vote.flipped else 0]
        desk.vote("a", open_vote.token, "first")
        vote = desk.last_vote("a")
        assert vote is not None
        assert vote.label == ("second" if open_vote.flipped else "first")
        assert vote.pair == open_vote.pair
        sides.add(open_vote.flipped)
    assert sides == {False, True}


def test_a_question_stays_until_it_is_answered_and_twice_is_once(make: Callable[..., Desk]) -> None:
    desk = make()
    open_vote = ask(desk, "a")
    assert ask(desk, "a") == open_vote
    desk.vote("a", open_vote.token, "tie")
    desk.vote("a", open_vote.token, "tie")
    assert len(desk.store.votes()) == 1
    with pytest.raises(Stale):
        desk.vote("b", open_vote.token, "tie")
    with pytest.raises(Stale):
        desk.vote("a", "no token", "tie")
    assert ask(desk, "a").pair != open_vote.pair


def test_undo_asks_again_with_the_same_sides(make: Callable[..., Desk]) -> None:
    desk = make()
    first = ask(desk, "a")
    desk.vote("a", first.token, "first")
    second = ask(desk, "a")
    desk.vote("a", second.token, "second")
    ask(desk, "a")
    desk.undo("a")
    again = ask(desk, "a")
    assert (again.pair, again.flipped) == (second.pair, second.flipped)
    desk.undo("a")
    assert ask(desk, "a").pair == first.pair
    assert desk.store.votes() == []
    desk.undo("a")  # nothing to take back
    desk.vote("a", ask(desk, "a").token, "tie")
    assert [vote.label for vote in desk.store.votes()] == ["tie"]


@pytest.mark.parametrize(("votes", "people"), [(1, "abc"), (2, "ab"), (3, "abcd"), (5, "ab")])
def test_a_team_answers_every_pair_as_often_as_wanted(make: Callable[..., Desk], votes: int, people: str) -> None:
    """In any order, with several pairs on screens at a time; a posterior of 1 decides no pair."""
    desk = make(people=people, votes=votes, posterior=1.0)
    desk.gold.clear()
    desk.decided.clear()
    rng = np.random.default_rng(votes)
    on_screen: dict[str, str] = {}
    for _ in range(4 * votes * 12 * len(people)):
        who = str(rng.choice(list(people)))
        if who in on_screen:
            desk.vote(who, on_screen.pop(who), "first")
        elif (question := desk.question(who)) is not None:
            assert not question.repeat
            on_screen[who] = question.token
    counts = Counter(vote.pair for vote in desk.store.votes())
    assert counts == dict.fromkeys(desk.pairs, min(votes, len(people)))


def test_pairs_that_were_begun_come_first(make: Callable[..., Desk]) -> None:
    desk = make(people="abc", votes=3)
    desk.gold.clear()
    begun = ask(desk, "a")
    assert ask(desk, "b").pair == begun.pair  # on a screen
    desk.vote("a", begun.token, "first")
    assert ask(desk, "c").pair == begun.pair
    desk.decided.add(begun.pair)
    desk.undo("a")
    assert begun.pair not in desk.decided


def test_gold_and_repeats_come_as_often_as_asked_for(make: Callable[..., Desk]) -> None:
    desk = make(pairs=400, gold=0.1, repeats=0.1)
    desk.gold = dict.fromkeys(range(200, 400), "first")
    for _ in range(300):
        desk.vote("a", ask(desk, "a").token, "first")
    votes = desk.store.votes()
    repeats = [number for number, vote in enumerate(votes) if vote.repeat]
    assert 10 <= len(repeats) <= 55
    assert sum(vote.pair >= 200 for vote in votes if not vote.repeat) >= 10
    first = {vote.pair: number for number, vote in enumerate(votes) if not vote.repeat}
    assert all(number - first[votes[number].pair] > 10 for number in repeats)


def test_everybody_is_asked_gold_pairs(make: Callable[..., Desk]) -> None:
    """Also pairs with enough votes of others."""
    desk = make(pairs=3, votes=1, gold=0.5)
    asked = {"a": set(), "b": set()}
    for who, pairs in asked.items():
        for _ in range(60):
            question = desk.question(who)
            if question is not None:
                pairs.add(question.pair)
                desk.vote(who, question.token, "first")
    assert asked["a"] >= {1, 2}
    assert asked["b"] == {1, 2}


def test_repeats_come_the_other_way_round(make: Callable[..., Desk]) -> None:
    desk = make(pairs=60, repeats=0.5)
    for _ in range(60):
        open_vote = ask(desk, "a")
        desk.vote("a", open_vote.token, "first")
    votes = desk.store.votes()
    sides = {(v.pair, v.repeat): v.flipped for v in votes}
    repeated = [pair for pair, repeat in sides if repeat]
    assert len(repeated) > 10
    assert all(sides[pair, True] != sides[pair, False] for pair in repeated)


def test_a_decided_pair_is_asked_no_more(make: Callable[..., Desk]) -> None:
    desk = make(pairs=4, people="abcdefgh", votes=8, posterior=0.9)
    for who in "abcdefgh":
        while (question := desk.question(who)) is not None:
            label = "second" if question.flipped else "first"
            desk.vote(who, question.token, label)
    by_pair = [sum(v.pair == pair for v in desk.store.votes()) for pair in desk.pairs]
    assert max(by_pair) < 8
    assert desk.decided == set(desk.pairs)


def test_whoever_leaves_gives_the_pair_back(make: Callable[..., Desk]) -> None:
    desk = make(pairs=3, votes=1)
    mine = [ask(desk, "a").pair]
    others = []
    while desk.question("b") is not None:
        open_vote = ask(desk, "b")
        others.append(open_vote.pair)
        desk.vote("b", open_vote.token, "first")
    assert sorted(mine + others) == [1, 2, 3]
    desk.now.now += 901  # type: ignore[attr-defined]
    assert ask(desk, "b").pair == mine[0]
    desk.vote("b", ask(desk, "b").token, "first")
    assert desk.question("a") is None


@settings(max_examples=15)
@given(st.data())
def test_a_restart_finds_what_was_there(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        chosen = write_store(Path(folder) / "store", pairs=8, known=2, votes=2, repeats=0.3)
        desk = Desk(f"{folder}/store", chosen, Clock())
        for who in "ab":
            desk.store.invite(who, FAR)
        for _ in range(data.draw(st.integers(0, 30))):
            who = data.draw(st.sampled_from("ab"))
            what = data.draw(st.sampled_from(["first", "second", "tie", "skip", "undo"]))
            question = desk.question(who)
            if what == "undo":
                desk.undo(who)
            elif question is not None:
                desk.vote(who, question.token, what)
        again = Desk(f"{folder}/store", LabelSettings(votes=2, repeats=0.3), Clock())
        assert again.store.votes() == desk.store.votes()
        assert sorted(again.judged()) == sorted(desk.judged())
        desk.store.close()
        again.store.close()


def test_mistakes(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(folder, pairs=5)
    assert (folder / "labels.sqlite").stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="key 'pairs': the store was made with 5, found 6"):
        Desk(str(folder), LabelSettings(pairs=6), Clock())
    with pytest.raises(UserError, match="no store of votes"):
        Store(str(tmp_path))
    (tmp_path / "labels.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match=r"labels\.sqlite: not a store of votes"):
        Store(str(tmp_path))
    (tmp_path / "labels.sqlite").unlink()
    (tmp_path / "labels.sqlite").mkdir()
    with pytest.raises(UserError, match=r"labels\.sqlite: unable to open database file; expected a store of votes"):
        Store(str(tmp_path))


def test_a_store_below_ones_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_store(tmp_path / "store", pairs=5)
    Store("~/store").close()
    (tmp_path / "store" / "labels.sqlite").unlink()
    Store.create("~/store", {}, [])
    assert (tmp_path / "store" / "labels.sqlite").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DROP TABLE votes", "not a store of votes (no such table: votes)"),
        ("DELETE FROM about WHERE key = 'secret'", "not a store of votes (missing, or of another type: secret)"),
        ("UPDATE about SET value = '5' WHERE key = 'settings'", "not a store of votes (missing, or of another type: "),
        ("UPDATE about SET value = '{\"pairs\": 0}' WHERE key = 'settings'", "settings: key 'pairs': "),
        ("UPDATE about SET value = replace(hex(zeroblob(50000)), '0', '[')", "not a store of votes (maximum recursion"),
        ("UPDATE pairs SET gold = 'maybe'", "not a store of votes (found the gold label 'maybe'; expected"),
        ("UPDATE votes SET label = 'maybe'", "not a store of votes (votes: key 'label': expected 'first', 'second', "),
        ("UPDATE votes SET time = x'00ff'", "not a store of votes (votes: key 'time': expected a number, found"),
        ("UPDATE people SET expires = 'never'", "not a store of votes (people: found values of another type)"),
    ],
)
def test_a_store_that_was_changed_is_one_line(tmp_path: Path, damage: str, words: str) -> None:
    write_store(tmp_path / "store", pairs=5)
    database = sqlite3.connect(tmp_path / "store" / "labels.sqlite", isolation_level=None)
    database.execute("INSERT INTO people VALUES ('a', 'token', 9e9)")
    database.execute("INSERT INTO votes VALUES (1, 1, 'a', 'first', 0, 0, 1.0, 'vote')")
    database.execute(damage)
    database.close()
    with pytest.raises(UserError, match=re.escape(f"labels.sqlite: {words}")):
        Desk(str(tmp_path / "store"), LabelSettings(), Clock())


def test_a_store_with_a_damaged_page_is_one_line(tmp_path: Path) -> None:
    write_store(tmp_path / "store", pairs=40)
    file = tmp_path / "store" / "labels.sqlite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.sqlite: not a store of votes"):
        Desk(str(tmp_path / "store"), LabelSettings(), Clock())
