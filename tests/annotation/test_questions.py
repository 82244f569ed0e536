"""The questions: pairs that are allowed, everything an annotator sees against the log itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from people_answers import LENGTH, quiet

from prefrec_ray.annotation.questions import SplitUsers, pair_id, pair_ids, read_pairs, write_pairs
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text("utf-8").splitlines()]


def test_pairs_are_different_and_allowed(question_folder: Path, dataset: PreparedDataset, log: pd.DataFrame) -> None:
    pairs = lines(question_folder)
    split_of = {
        user: split
        for split in ("train", "validation", "test")
        for file in dataset.files("requests", split)
        for user in dataset.read(file, ["user_id"])["user_id"].to_pylist()
    }
    count = log.who.value_counts()
    assert [pair["split"] for pair in pairs] == ["train"] * 45 + ["validation"] * 15
    assert len({(p["user_0"], p["start_0"], p["start_1"]) for p in pairs}) == len(pairs)
    for pair in pairs:
        assert pair["user_0"] == pair["user_1"]
        assert split_of[pair["user_0"]] == pair["split"]
        assert abs(pair["start_0"] - pair["start_1"]) >= pair["length"] == LENGTH
        assert max(pair["start_0"], pair["start_1"]) + LENGTH < count[pair["user_0"]]


def test_an_annotator_sees_what_the_log_says(question_folder: Path, log: pd.DataFrame) -> None:
    log = log.assign(ms=log.when * 1000)
    new = (log.who != log.who.shift()) | (log.ms.diff() > 30 * 60 * 1000)
    log["session"] = new.groupby(log.who).cumsum() - 1
    for pair in lines(question_folder):
        for side, segment in enumerate(pair["segments"]):
            history = log[log.who == pair[f"user_{side}"]].reset_index(drop=True)
            expected = history[pair[f"start_{side}"] : pair[f"start_{side}"] + LENGTH]
            requests = [(v["session"], r["item"], r["feedback"]) for v in segment for r in v["requests"]]
            assert requests == [
                (row.session, row.what, {"like": float(str(np.float32(row.like))), "click": float(row.click)})
                for row in expected.itertuples()
            ]
            for session in segment:
                mine = history[history.session == session["session"]]
                after = history[history.session == session["session"] + 1]
                assert pd.Timestamp(session["start"]) == pd.Timestamp(mine.ms.min(), unit="ms", tz="UTC")
                assert session["depth"] == len(mine)
                assert session["gap_ms"] == (after.ms.min() - mine.ms.max() if len(after) else None)


def test_what_is_written_is_read_back(question_folder: Path) -> None:
    pairs = read_pairs(str(question_folder))
    assert pairs.to_pylist() == [{k: v for k, v in pair.items() if k != "segments"} for pair in lines(question_folder)]
    ids = pairs["pair_id"].to_pylist()
    assert pair_ids(pairs).to_pylist() == ids
    assert len(set(ids)) == len(ids)
    assert max(ids) < 2**48


def test_same_seed_same_files(question_folder: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    for seed in (3, 4):
        write_pairs(dataset, str(tmp_path / str(seed)), 60, 0.25, "within_user", LENGTH, seed, quiet)
    same, other = ((tmp_path / str(seed) / "pairs.jsonl").read_bytes() for seed in (3, 4))
    assert same == (question_folder / "pairs.jsonl").read_bytes() != other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 20_000, "pairing": "within_user"}, ["different train pairs, expected 15000: ask for fewer"]),
        ({"length": 40}, ["0 of", "train users have more than 80 impressions", "smaller length"]),
    ],
)
def test_mistakes(dataset: PreparedDataset, tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    arguments = {"count": 20, "held_out": 0.25, "pairing": "any_users", "length": LENGTH, "seed": 0, **changes}
    with pytest.raises(UserError) as caught:
        write_pairs(dataset, str(tmp_path / "pairs"), progress=quiet, **arguments)
    assert [word for word in words if word not in str(caught.value)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "{}", "no json", '{"pair_id": 1}'])
def test_a_folder_of_pairs_that_was_changed(tmp_path: Path, line: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(UserError, match="no pairs" if not line else "line 1: expected a pair"):
        read_pairs(str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"pair_id": "7"},
        {"split": 5},
        {"split": "test"},
        {"user_0": 5},
        {"start_0": None},
        {"start_0": 1.0},
        {"length": LENGTH + 1},
        {"user_1": "\ud800"},
    ],
)
def test_a_pair_of_which_a_value_was_changed(question_folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    first, second = lines(question_folder)[:2]
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps({**second, **changes})}\n", "utf-8")
    with pytest.raises(UserError, match="line 2: expected a pair written by `prefrec pairs`"):
        read_pairs(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user_0": 5, "user_1": 5}, ": found numbers and texts as ids of users; expected one type"),
        ({"user_0": None}, "line 2: .*key 'user_0': expected a whole number"),
        ({"user_0": 2**63}, "line 2: .*key 'user_0'"),
        ({"start_0": 1.0}, "line 2: .*key 'start_0': expected a whole number"),
        ({"start_1": -1}, "line 2: .*key 'start_1'"),
        ({"start_1": 2**62}, "line 2: .*key 'start_1'"),
        ({"length": 0}, "line 2: .*key 'length'"),
    ],
)
def test_values_that_no_pair_has(question_folder: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    first, second = lines(question_folder)[:2]
    changed = {**second, **changes}
    rows = [first, {**changed, "pair_id": pair_id(changed)}]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    with pytest.raises(UserError, match=words):
        read_pairs(str(tmp_path))


def test_a_split_without_users_has_no_segment() -> None:
    nobody = SplitUsers(pa.array([], pa.int64()), np.array([], np.int64))
    assert nobody.has(pa.array([1]), np.array([0]), np.array([3])).tolist() == [False]


def test_a_pair_whose_sides_were_exchanged(question_folder: Path, tmp_path: Path) -> None:
    pair = lines(question_folder)[0]
    exchanged = {**pair, "start_0": pair["start_1"], "start_1": pair["start_0"]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(exchanged), "utf-8")
    with pytest.raises(UserError, match="pair_id or split does not match the pair"):
        read_pairs(str(tmp_path))


def test_of_one_pair_none_is_held_out(dataset: PreparedDataset, tmp_path: Path) -> None:
    pairs = write_pairs(dataset, str(tmp_path / "q"), 1, 0.9, "within_user", LENGTH, 0, quiet)
    assert pairs["split"].to_pylist() == ["train"]
