"""The whole way through the command line, at a tiny size."""

import json
from pathlib import Path

import pytest

from prefrec_ray.cli.main import run

CONFIG = """
simulate:
  users: 120
  requests: 60
  items: 200
  seed: 3
  shards: 2
prepare:
  source: {kind: simulator, path: logs}
  train_fraction: 0.6
  validation_fraction: 0.2
  preferences: {length: 10, min_requests: 20, pairs: 200, validation_pairs: 50, tasks: [frequency]}
train:
  task: frequency
  checkpoint_every: 1
  config:
    hidden_sizes: [16]
    train_batch_size_per_learner: 64
    preference_batch_size: 32
    pretrain_epochs: 1
    num_epochs: 0.2
    updates_per_iteration: 5
    serving: {temperature: 0.2, variety: 1.0, repetition: 0.0, scores: q}
tune:
  method: [PrefRec, IL]
  task: frequency
  base: {hidden_sizes: [16], train_batch_size_per_learner: 64, preference_batch_size: 32, num_epochs: 0.2}
  search:
    gamma: {grid: [0.9, 0.97], methods: [PrefRec]}
  max_concurrent: 1
  validation: {every: 1, estimators: [ncis]}
evaluate:
  split: test
  model: {models: 2, users: 24, requests: 60}
"""


def test_from_nothing_to_a_report(
    short_fits: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    assert run(["simulate", "config.yaml", "--output", "logs"]) == 0
    assert run(["prepare", "config.yaml", "--output", "dataset"]) == 0
    train = ["train", "config.yaml", "--dataset", "dataset"]
    assert run([*train, "--output", "runs/robust"]) == 0
    assert run([*train, "recipe=paper", "seed=1", "--output", "runs/paper"]) == 0
    assert run([*train, "--output", "runs/robust", "--resume"]) == 0
    checkpoint = sorted(Path("runs/paper").glob("checkpoint_*"))[-1]
    assert run(["export", str(checkpoint), "--output", "policy"]) == 0
    policies, ncis = ["runs/paper/policy", "runs/robust/policy"], ["--estimators", "ncis"]
    assert run(["evaluate", *policies, "--dataset", "dataset", "--config", "config.yaml", "--online"]) == 0
    assert run(["evaluate", "policy", "--dataset", "dataset", "--output", "notes/new/policy.json", *ncis]) == 0
    assert Path("notes/new/policy.json").exists()
    assert run(["report", "runs", "--output", "pages/new/all.html"]) == 0
    assert run(["tune", "config.yaml", "--dataset", "dataset", "--output", "sweep"]) == 0
    assert run(["evaluate", "sweep", "--dataset", "dataset", "--online", *ncis]) == 0
    assert run(["report", "sweep", "--output", "pages/sweep/report.html"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for made in (
        "logs: logs",
        "data set: dataset",
        "run: runs/robust",
        "policy: policy",
        "report: pages/new/all.html",
    ):
        assert f"✓ {made}\n" in out
    assert "next: prefrec train config.yaml --dataset dataset --output RUN" in out

    assert Path("policy/actor.safetensors").read_bytes() == Path("runs/paper/policy/actor.safetensors").read_bytes()
    evaluation = json.loads(Path("runs/evaluation.json").read_text())
    pairs = {(r["estimator"], r["subject"]) for r in evaluation["records"] if r["role"] == "policy"}
    names = ("PrefRec paper seed 1", "PrefRec robust seed 0")
    assert set(evaluation["verdicts"]) == set(evaluation["support"]) == set(names)
    assert pairs == {(estimator, name) for estimator in ("model", "ncis", "online") for name in names}
    for name in ("robust", "paper"):  # nothing is selected, so nothing is scored
        assert "validation/" not in Path(f"runs/{name}/progress.csv").read_text()
    page = Path("pages/new/all.html").read_text()
    assert "Fig. 4" in page
    assert "Fig. 6" in page
    assert "://" not in page

    trials = ["PrefRec_frequency_0_000", "PrefRec_frequency_0_001", "IL_frequency_0_002"]
    records = json.loads(Path("sweep/evaluation.json").read_text())["records"]
    evaluated = {record["bundle"] for record in records if record["role"] == "policy"}
    assert evaluated == {f"sweep/policies/{trial}" for trial in trials}
    page = Path("pages/sweep/report.html").read_text()
    for title in ("True level on test users", "NCIS on test users"):
        assert f"<h3>{title}</h3>" in page
    policies = ("PrefRec gamma=0.9", "PrefRec gamma=0.97", "IL")
    for row in (*policies, "nutrition (control)", "random items (negative control)"):
        assert f"<td>{row}</td>" in page
