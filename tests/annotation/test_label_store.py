"""A store is made of a data set: pairs that can be compared, scored as the data set's labels are."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from people_answers import LENGTH, quiet

from prefrec_ray.algorithms.feed.preferences import load_buffer
from prefrec_ray.annotation.labels import import_labels
from prefrec_ray.annotation.page.create import (
    comparable_first,
    create_store,
    gold_labels,
    visits,
    visits_and_scores,
    with_votes,
)
from prefrec_ray.annotation.page.desk import Desk, LabelSettings
from prefrec_ray.annotation.questions import read_pairs
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError

SETTINGS = LabelSettings(pairs=60, held_out=0.25, length=LENGTH, seed=3, gold=0.1, repeats=0.0)


@pytest.fixture(scope="module")
def store(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "labels"
    create_store(dataset, str(folder), SETTINGS, quiet)
    return folder


def visit_ratios(folder: Path) -> list[float]:
    lines = (folder / "pairs.jsonl").read_text("utf-8").strip("\n").split("\n")
    counts = [sorted(map(len, json.loads(line)["segments"])) for line in lines]
    return [most / least for least, most in counts]


def test_it_asks_about_segments_with_similar_numbers_of_visits(
    store: Path, question_folder: Path, dataset: PreparedDataset
) -> None:
    assert max(visit_ratios(question_folder)) > 2  # as drawn
    assert max(visit_ratios(store / "pairs")) <= 2
    splits = [pair["split"] for pair in read_pairs(str(store / "pairs")).to_pylist()]
    assert splits == ["train"] * 45 + ["validation"] * 15
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    desk = Desk(str(store), LabelSettings(), lambda: 0.0)
    for line in (store / "pairs" / "pairs.jsonl").read_text("utf-8").strip("\n").split("\n"):
        pair = json.loads(line)
        assert desk.store.segments(pair["pair_id"]) == pair["segments"]
    assert desk.store.about["signals"] == ["click"]
    desk.store.close()
    with pytest.raises(UserError, match="already exists"):
        create_store(dataset, str(store), SETTINGS, quiet)


def test_visits_of_a_segment_are_the_sessions_that_it_touches() -> None:
    depth = np.array([3, 1, 4, 2, 2])  # two users: 3 + 1 + 4 requests, and 2 + 2
    row = np.array([0, 0, 0, 0, 3, 3])
    start, length = np.array([0, 2, 2, 7, 1, 0]), np.array([3, 1, 3, 1, 2, 4])
    assert visits(depth, row, start, length).tolist() == [1, 1, 3, 1, 2, 2]
    # 1 and 2 are within a factor of two, 1 and 3 are not: they come last.
    assert comparable_first(np.array([[1, 3], [1, 2], [5, 2], [4, 4]])).tolist() == [1, 3, 0, 2]


def test_gold_pairs_have_the_largest_differences() -> None:
    assert gold_labels(np.array([0.5, -2.0, 0.0, 1.0]), 2) == {1: "first", 3: "second"}
    assert gold_labels(np.array([0.0, 0.5]), 2) == {1: "second"}


def test_scores_are_those_of_the_scripted_teacher(store: Path, dataset: PreparedDataset) -> None:
    """The mean level of the sessions that end in the segment, computed only from the file of sessions."""
    task = dataset.metadata.tasks[0]
    sessions = pd.concat([dataset.read(file).to_pandas() for file in dataset.files("sessions")])
    level = {"depth": sessions.level_depth, "frequency": sessions.level_frequency}[task]
    sessions = sessions.assign(level=level.fillna(0.0), last=sessions.groupby("user_id").depth.cumsum() - 1)
    desk = Desk(str(store), LabelSettings(), lambda: 0.0)
    assert len(desk.gold) == 6
    pairs = read_pairs(str(store / "pairs"))
    found = visits_and_scores(dataset, pairs)[:, :, 1]
    differences = {}
    for number, pair in enumerate(pairs.to_pylist()):
        scores = []
        for side in (0, 1):
            mine, start = sessions[sessions.user_id == pair[f"user_{side}"]], pair[f"start_{side}"]
            inside = mine[(mine["last"] >= start) & (mine["last"] < start + LENGTH)]
            scores.append(inside.level.mean() if len(inside) else 0.0)
        assert found[number] == pytest.approx(scores)
        if pair["split"] == "train":
            differences[pair["pair_id"]] = scores[1] - scores[0]
    assert min(abs(differences[pair]) for pair in desk.gold) >= sorted(map(abs, differences.values()))[-7] - 1e-9
    assert all((differences[pair] > 0) == (label == "second") for pair, label in desk.gold.items())
    desk.store.close()


def test_a_store_is_a_teacher(store: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    desk = Desk(str(store), LabelSettings(repeats=0.0), lambda: 0.0)
    answers = []
    for who in ("anna", "bo"):
        desk.store.invite(who, 1.0)
        while len(answers) < (50 if who == "anna" else 90) and (question := desk.question(who)) is not None:
            desk.vote(who, question.token, "first")
            vote = desk.last_vote(who)
            assert vote is not None
            answers.append({"pair_id": vote.pair, "annotator": who, "label": vote.label})
    desk.store.close()
    config = {"gamma": 0.9, "teachers": ["within_user_mean", str(store)]}
    names = with_votes(config, dataset.uri)["teachers"]
    assert names[0] == "within_user_mean"
    assert names[1].startswith("labels-")
    again = {"gamma": 0.9, "teachers": (str(store),)}
    assert with_votes(again, dataset.uri) == {"gamma": 0.9, "teachers": names[1:]}
    assert with_votes({"gamma": 0.9}, dataset.uri) == {"gamma": 0.9}
    # The same as exported, and imported by hand.
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in answers))
    import_labels(str(file), str(store / "pairs"), dataset.uri, "by-hand", "one-coin", False)
    labels = [
        dataset.read(dataset.people_path(name, "train")).drop_columns("teacher") for name in (names[1], "by-hand")
    ]
    assert labels[0].equals(labels[1])
    assert load_buffer(dataset.uri, dataset.metadata.tasks[0], "train", names[1:], None) is not None
    assert pa.types.is_float32(labels[0]["label"].type)


def test_runs_that_learn_from_a_store_at_the_same_time_read_the_same_labels(
    store: Path, dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "two-runs"
    shutil.copytree(store, copy)
    desk = Desk(str(copy), LabelSettings(repeats=0.0), lambda: 0.0)
    desk.store.invite("anna", 1.0)
    while (question := desk.question("anna")) is not None:
        desk.vote("anna", question.token, "second")
    desk.store.close()
    with monkeypatch.context() as patched:
        patched.setattr(PreparedDataset, "people", lambda _: [])  # as the second looks before the first has written
        first, second = (with_votes({"teachers": [str(copy)]}, dataset.uri)["teachers"] for _ in range(2))
        votes = tmp_path / "votes.csv"
        votes.write_text(f"pair_id,annotator,label\n{read_pairs(str(copy / 'pairs'))['pair_id'][0]},bo,first\n")
        with pytest.raises(UserError, match=f"--name: .*{first[0]} exists; choose another name, or --replace"):
            import_labels(str(votes), str(copy / "pairs"), dataset.uri, first[0], "mean", False)
    assert first == second
    assert dataset.people_path(first[0], "train").endswith(f"{first[0]}/1/train.parquet")
