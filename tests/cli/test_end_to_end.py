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
"""


def test_from_nothing_to_a_report(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's commands, with estimates by the model of users: test_tutorials.py. A sweep: test_own_files.py."""
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
    assert run(["evaluate", *policies, "--dataset", "dataset", "--online", *ncis]) == 0
    assert run(["evaluate", "policy", "--dataset", "dataset", "--output", "notes/new/policy.json", *ncis]) == 0
    assert Path("notes/new/policy.json").exists()
    assert run(["report", "runs", "--output", "pages/new/all.html"]) == 0
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
    assert pairs == {(estimator, name) for estimator in ("ncis", "online") for name in names}
    for name in ("robust", "paper"):  # nothing is selected, so nothing is scored
        assert "validation/" not in Path(f"runs/{name}/progress.csv").read_text()
    page = Path("pages/new/all.html").read_text()
    assert "Fig. 6" in page
    assert "://" not in page
