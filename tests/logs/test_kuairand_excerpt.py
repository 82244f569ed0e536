"""The real KuaiRand, where PREFREC_KUAIRAND_DIR names a folder of it: counts against pandas, and the whole way."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plain_kuairand import check_sessions, plain_sessions

from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.logs.sources import KuaiRandSource
from prefrec_ray.settings import parse

FOLDER = os.environ.get("PREFREC_KUAIRAND_DIR", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="PREFREC_KUAIRAND_DIR names no folder of KuaiRand")

CONFIG = """
prepare:
  source: {{kind: kuairand, path: {folder}}}
  train_fraction: 0.6
  validation_fraction: 0.2
  preferences: {{length: 10, min_requests: 20, pairs: 500, validation_pairs: 100, tasks: [depth]}}
train:
  task: depth
  validation: null
  config:
    hidden_sizes: [32]
    train_batch_size_per_learner: 256
    preference_batch_size: 32
    pretrain_epochs: 1
    num_epochs: 0.2
    updates_per_iteration: 20
    serving: {{temperature: 0.2, variety: 1.0, repetition: 0.0, scores: q}}
evaluate:
  model: {{models: 2, users: 40, requests: 60}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the logs of every sixteenth user, and the other files."""
    folder = tmp_path_factory.mktemp("kuairand")
    for file in Path(FOLDER).iterdir():
        if file.name.startswith("log_standard_"):
            rows = pd.read_csv(file)
            rows[rows.user_id % 16 == 0].to_csv(folder / file.name, index=False)
        else:
            (folder / file.name).symlink_to(file.resolve())
    return folder


@pytest.fixture(scope="module")
def raw(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(file) for file in sorted(folder.glob("log_standard_*"))], ignore_index=True)


def test_counts_at_every_step(ray_session: None, raw: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    source = {"kind": "kuairand", "path": str(folder), "tabs": "all"}
    log = parse(KuaiRandSource, source, "source").open_log(seed=0)
    assert log.interactions().count() == len(raw)
    everything = {"source": source, "preferences": {"length": 5, "min_requests": 10, "pairs": 50}}
    everything |= {"partitions": 3}
    dataset = prepare(parse(PrepareSettings, everything, "prepare"), str(tmp_path / "dataset"))

    unique = raw.drop_duplicates()
    assert dataset.metadata.dropped == {"duplicates": len(raw) - len(unique)}
    counts = pd.DataFrame(dataset.metadata.counts).sum(axis=1)
    assert counts["requests"] == len(unique)
    assert counts["users"] == unique.user_id.nunique()
    assert counts["sessions"] == len(plain_sessions(unique))
    check_sessions(pd.concat(dataset.read(file).to_pandas() for file in dataset.files("sessions")), unique)
    items = dataset.items()
    assert sorted(items.ids) == sorted(unique.video_id.unique())
    taken = items.embeddings[items.rows(unique.video_id.to_numpy())]
    assert np.abs(taken.mean(axis=0)).max() < 0.3
    assert taken.std(axis=0).min() > 0.25


def test_the_whole_way(
    short_fits: None,
    raw: pd.DataFrame,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG.format(folder=folder))
    assert run(["prepare", "config.yaml", "--output", "dataset"]) == 0
    single = raw.drop_duplicates()
    single = single[single.tab == 1]
    counts = pd.DataFrame(PreparedDataset.open("dataset").metadata.counts).sum(axis=1)
    assert counts["requests"] == len(single)
    assert counts["users"] == single.user_id.nunique()
    assert counts["sessions"] == len(plain_sessions(single.copy()))
    assert run(["train", "config.yaml", "--dataset", "dataset", "--output", "runs/a"]) == 0
    assert run(["evaluate", "runs/a/policy", "--dataset", "dataset", "--config", "config.yaml"]) == 0
    assert run(["report", "runs/a"]) == 0
    assert capsys.readouterr().err == ""
    records = json.loads(Path("runs/a/evaluation.json").read_text())["records"]
    assert {record["role"] for record in records} >= {"policy", "placebo", "control"}
    assert "Fig. 6" in Path("runs/a/report.html").read_text()
