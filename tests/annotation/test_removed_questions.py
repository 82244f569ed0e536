"""Users are removed from questions, and from the store of the votes on them."""

import json
import shutil
from pathlib import Path

import pytest
from killed import killed_copies

from prefrec_ray.annotation.page.create import QUESTIONS
from prefrec_ray.annotation.page.desk import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import FILE, Store, Vote
from prefrec_ray.annotation.questions import pair_id, read_pairs
from prefrec_ray.forget import remove_questions

#: Users of the two segments of each pair.
PAIRS = [(1, 2), (3, 3), (2, 4), (5, 5)]


def questions() -> list[dict]:
    rows = []
    for number, (first, second) in enumerate(PAIRS):
        row = {"user_0": first, "start_0": number, "user_1": second, "start_1": number + 9, "length": 5}
        segments = [[{"session": 0, "requests": [{"item": f"shown to {user}"}]}] for user in (first, second)]
        rows.append({"pair_id": pair_id(row), "split": "train", **row, "segments": segments})
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two votes on each pair."""
    folder, rows = tmp_path / "place" / "store", questions()
    (folder / QUESTIONS).mkdir(parents=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / QUESTIONS / "pairs.jsonl").write_text(text)
    about = {"dataset": "d", "signals": [], "secret": "s", "settings": LabelSettings().model_dump(include=set(DRAWN))}
    Store.create(str(folder), about, [(row["pair_id"], "train", None, json.dumps(row["segments"])) for row in rows])
    opened = Store(str(folder))
    for name in ("a", "b"):
        opened.invite(name, 1e10)
        for row in rows:
            about = {"pair": row["pair_id"], "annotator": name, "token": f"{name} {row['pair_id']}"}
            opened.vote(Vote(label="first", repeat=False, flipped=False, time=2.0, **about))
    opened.close()
    return folder


def left(folder: Path) -> tuple[list[int], list[int], list[int]]:
    """Return the pairs of the questions, of the store and of the votes, by their places in `PAIRS`."""
    place = {row["pair_id"]: number for number, row in enumerate(questions())}
    opened = Store(str(folder))
    pairs, votes = sorted(place[pair] for pair, _ in opened.pairs()), {place[vote.pair] for vote in opened.votes()}
    opened.close()
    return [place[pair] for pair in read_pairs(str(folder / QUESTIONS))["pair_id"].to_pylist()], pairs, sorted(votes)


def test_questions_and_votes_are_removed(store: Path) -> None:
    before = (store / QUESTIONS / "pairs.jsonl").read_text().splitlines()
    removed = remove_questions(str(store / QUESTIONS), ["2", "nobody"])
    assert removed == {"questions of label stores": 2, "votes of label stores": 4, "questions for annotators": 2}
    assert left(store) == ([1, 3], [1, 3], [1, 3])
    assert (store / QUESTIONS / "pairs.jsonl").read_text().splitlines() == [before[1], before[3]]
    assert not [path for path in store.rglob("*") if path.is_file() and b"shown to 4" in path.read_bytes()]
    assert b"shown to 5" in (store / FILE).read_bytes()


def test_all_questions_may_go(store: Path) -> None:
    assert remove_questions(str(store / QUESTIONS), ["1", "2", "3", "5"])["questions for annotators"] == 4
    assert remove_questions(str(store / QUESTIONS), ["1", "2"]) == {}


def test_questions_without_a_store(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / QUESTIONS, tmp_path / "questions")
    assert remove_questions(str(tmp_path / "questions"), ["3"]) == {"questions for annotators": 1}
    assert len(read_pairs(str(tmp_path / "questions"))) == 3


def test_a_kill_leaves_old_or_new_files_and_a_second_call_finishes(store: Path, tmp_path: Path) -> None:
    old, new, seen = [0, 1, 2, 3], [1, 3], []
    for killed in killed_copies(
        lambda folder: remove_questions(str(folder / QUESTIONS), ["2"]),
        store,
        tmp_path / "copies",
        "forget",
        "annotation",
        "storage",
    ):
        found = left(killed)
        assert found in ((old, old, old), (old, new, new), (new, new, new))
        seen.append(found)
        remove_questions(str(killed / QUESTIONS), ["2"])
        assert left(killed) == (new, new, new)
    assert seen == sorted(seen)
    assert (old, old, old) in seen
