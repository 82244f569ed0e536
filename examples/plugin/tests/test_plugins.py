"""The plug-ins work under their names: a log of the world, its data set by the teacher, a policy, a MovieLens log."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from prefrec_ray.cli.main import run

YAML = """
simulate: {world: genres, users: 80, requests: 60, items: 30}
prepare:
  source: {kind: simulator, path: logs}
  train_fraction: 0.6
  validation_fraction: 0.2
  preferences:
    {pairs: 64, validation_pairs: 32, length: 12, min_requests: 30, tasks: [frequency],
     teachers: [{pairing: within_user, scoring: sessions}]}
train:
  method: huber
  validation: null
  config:
    {delta: 0.5, hidden_sizes: [8], num_epochs: 2, train_batch_size_per_learner: 256,
     serving: {temperature: 0.2, variety: 0.0, repetition: 0.0, scores: q}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the outputs of `simulate`, `prepare`, `train` and `evaluate`."""
    folder = tmp_path_factory.mktemp("genres")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("my.yaml").write_text(YAML)
        for line in (
            "simulate my.yaml --output logs",
            "prepare my.yaml --output dataset",
            "train my.yaml --dataset dataset --output run",
            "evaluate run/policy --dataset dataset --estimators ncis --online",
        ):
            assert run(line.split()) == 0, line
    return folder


def test_the_world_writes_likes_of_the_favorite_genre(folder: Path) -> None:
    log = pq.read_table(folder / "logs/interactions").to_pandas()
    np.testing.assert_array_equal(log.like, log.item_id % 3 == log.user_id % 3)


def test_the_teacher_labels_the_pairs(folder: Path) -> None:
    labels = pq.read_table(folder / "dataset/preferences/frequency/train.parquet")
    assert set(labels["teacher"].to_pylist()) == {"within_user_sessions"}
    log = pq.read_table(folder / "logs/interactions").to_pandas()
    ended = {user: np.r_[0, np.cumsum(np.diff(rows.timestamp) > 1_800_000)] for user, rows in log.groupby("user_id")}
    for row in labels.to_pylist():
        ends = [ended[row[f"user_{k}"]][[row[f"start_{k}"] + 12, row[f"start_{k}"]]] for k in (0, 1)]
        first, second = (after - before for after, before in ends)
        assert row["label"] == (0.5 if first == second else float(second > first))


def test_the_method_trains_a_policy(folder: Path) -> None:
    about = json.loads((folder / "run/policy/policy.json").read_text())["provenance"]
    assert about["method"] == "genres.method:Huber"
    records = json.loads((folder / "run/evaluation.json").read_text())["records"]
    levels = {one["subject"]: one["value"] for one in records if one["estimator"] == "online"}
    assert levels["best known"] > levels["behaviour"]
    assert "genres.method:Huber" in {one["method"] for one in records}


def test_the_reader_reads_movielens(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = pq.read_table(folder / "logs/interactions")
    seconds = np.asarray(log["timestamp"]) // 1000
    ratings = {"userId": log["user_id"], "movieId": log["item_id"], "rating": log["like"], "timestamp": seconds}
    movies = pq.read_table(folder / "logs/items.parquet").rename_columns(["movieId", "genres"])
    (tmp_path / "ml").mkdir()
    pc.write_csv(pa.table(ratings), tmp_path / "ml/ratings.csv")
    pc.write_csv(movies.append_column("title", movies["genres"]), tmp_path / "ml/movies.csv")
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(YAML.replace("{kind: simulator, path: logs}", "{kind: movielens, path: ml}"))
    assert run(["prepare", "my.yaml", "--output", "dataset"]) == 0
    metadata = json.loads(Path("dataset/metadata.json").read_text())
    assert metadata["state"]["feedback"] == ["stars"]
    assert sum(split["requests"] for split in metadata["counts"].values()) == len(log)
