"""Imported labels: the stored contents, and mistakes that change nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from people_answers import files, write_answers

from prefrec_ray.annotation.labels import import_labels
from prefrec_ray.annotation.questions import pair_id, read_pairs
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError


def test_labels_and_votes_are_kept(question_folder: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    answers = write_answers(question_folder, tmp_path / "a.jsonl")
    summary = import_labels(str(tmp_path / "a.jsonl"), str(question_folder), dataset.uri, "kept", "mean", False)
    assert "kept" in dataset.people()

    votes = dataset.read(dataset.people_path("kept", "votes")).to_pandas()
    words = votes.label.map({0.0: "first", 0.5: "tie", 1.0: "second"}).fillna("skip")
    pd.testing.assert_frame_equal(votes.assign(label=words), answers, check_dtype=False)

    labels = votes.dropna()
    expected = labels.groupby("pair_id").label.agg(["mean", "size"])
    pairs = read_pairs(str(question_folder)).to_pandas().set_index("pair_id")
    parts = {}
    for split in ("train", "validation"):
        part = dataset.read(dataset.people_path("kept", split)).to_pandas().set_index("pair_id")
        assert (part.teacher == "kept").all()
        assert set(part.index) == set(pairs.index[pairs.split == split]) & set(expected.index)
        np.testing.assert_allclose(part.label, expected.loc[part.index, "mean"], atol=1e-6)
        assert (part.votes == expected.loc[part.index, "size"]).all()
        columns = ["user_0", "start_0", "user_1", "start_1", "length"]
        pd.testing.assert_frame_equal(part[columns], pairs.loc[part.index, columns])
        parts[split] = len(part)

    assert {**summary, "version": 1} == json.loads((Path(dataset.uri) / "people" / "kept" / "people.json").read_text())
    assert summary["pairs"] == parts
    assert (summary["votes"], summary["skips"]) == (len(labels), len(votes) - len(labels))
    assert summary["ties"] == pytest.approx((labels.label == 0.5).mean())
    for row in summary["annotators"]:
        mine = labels[labels.annotator == row["annotator"]]
        differs = np.sign(mine.label - 0.5) != np.sign(mine.pair_id.map(expected["mean"]) - 0.5)
        assert (row["votes"], row["skips"]) == (len(mine), len(pairs) - len(mine))
        assert row["disagreement"] == pytest.approx(differs.mean())


def test_a_name_is_taken_until_it_is_replaced(question_folder: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    arguments = (str(file), str(question_folder), dataset.uri, "twice", "majority")
    write_answers(question_folder, file)
    import_labels(*arguments, False)
    before = files(dataset.path("people", "twice"))
    write_answers(question_folder, file, seed=1)
    with pytest.raises(UserError, match=r"people/twice exists; choose another name, or --replace"):
        import_labels(*arguments, False)
    assert files(dataset.path("people", "twice")) == before
    votes = [dataset.read(dataset.people_path("twice", "votes"))]
    import_labels(*arguments, True)
    votes.append(dataset.read(dataset.people_path("twice", "votes")))
    assert votes[0] != votes[1]
    assert len(files(dataset.path("people", "twice"))) == len(before)  # of the old ones none are left


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a/b"}, ["--name: 'a/b' is not a valid name"]),
        ({"name": "2024-06-01"}, ["--name: found 2024-06-01, which YAML does not read as text"]),
        ({"name": "a\n"}, [r"--name: 'a\n' is not a valid name"]),
        ({"name": "within_user_mean"}, ["'within_user_mean' is a scripted teacher"]),
        ({"name": "any_users_mean"}, ["'any_users_mean' is a scripted teacher"]),
        ({"aggregate": "means"}, ["aggregate: unknown way 'means'; did you mean 'mean'?"]),
        ({"pairs": "nowhere"}, ["nowhere/pairs.jsonl: no such file"]),
        ({"dataset": "nowhere"}, ["nowhere: not a prepared data set"]),
        ({"answer": {"label": "left"}}, ["line 2: unknown label 'left'"]),
        ({"pair": {"user_0": "nobody"}}, ["has no train user nobody"]),
        ({"pair": {"start_1": 10_000}}, ["has no train user", "with more than 10005 impressions"]),
        ({"pair": {"split": "validation"}}, ["has no validation user"]),
        ({"only": "validation"}, ["no votes on pairs of training users"]),
    ],
)
def test_mistakes_change_nothing(
    question_folder: Path, dataset: PreparedDataset, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    rows = [json.loads(line) for line in (question_folder / "pairs.jsonl").read_text("utf-8").splitlines()]
    kept = [row for row in rows if row["split"] == changes.get("only", "train")][:3]
    kept[1] |= changes.get("pair", {})
    kept[1]["pair_id"] = pair_id(kept[1])  # a pair of another data set, and none that was changed
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    answers = [{"pair_id": row["pair_id"], "annotator": "anna", "label": "first"} for row in kept]
    answers[1] |= changes.get("answer", {})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    before = files(dataset.uri)
    arguments = {"labels": str(tmp_path / "a.jsonl"), "pairs": str(tmp_path), "dataset": dataset.uri, "name": "new"}
    arguments |= {"aggregate": "mean"} | {k: v for k, v in changes.items() if k not in ("answer", "pair", "only")}
    with pytest.raises(UserError) as caught:
        import_labels(**arguments, replace=True)
    assert [word for word in words if word not in str(caught.value)] == []
    assert files(dataset.uri) == before
