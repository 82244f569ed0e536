"""Runs at MLflow and at Weights & Biases, if their clients are installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from platform_desk import make_policy

from prefrec_ray.tracking import backends
from prefrec_ray.tracking.settings import RunRecord, TrackingSettings, read_record, write_record
from prefrec_ray.tracking.tracker import Tracker, attach_to_run


def rows_of(first: int, last: int) -> list[dict[str, float]]:
    return [{"training_iteration": i, "losses/q": i / 2, "own metric (%)": 1.0} for i in range(first, last + 1)]


def test_a_run_at_mlflow_continues_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)  # a store without a server writes its files here
    run, said = tmp_path / "run", []
    make_policy().save(str(run / "policy"))
    (run / "evaluation.json").write_text("{}")
    settings = TrackingSettings(mlflow=f"sqlite:///{tmp_path}/tracked.db", experiment="shop")
    tracker = Tracker(settings, str(run), say=said.append)
    tracker.begin({"gamma": 0.9, "long": "x" * 10_000})
    tracker.log(rows_of(1, 2))  # killed before the third row
    with Tracker(settings, str(run), say=said.append) as again:
        again.begin({"gamma": 0.95})  # a parameter never changes
        again.log(rows_of(1, 4))
        again.attach(str(run / "policy"))
    attach_to_run(str(run), str(run / "evaluation.json"), say=said.append)
    assert said == []
    client = mlflow.MlflowClient(settings.mlflow)
    (found,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert (found.data.params["gamma"], len(found.data.params["long"])) == ("0.9", 500)
    history = client.get_metric_history(found.info.run_id, "losses/q")
    assert [(one.step, one.value) for one in history] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert {one.path for one in client.list_artifacts(found.info.run_id)} == {"policy", "evaluation.json"}


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"model": "feed"}, True), ({"mlflow": "http://new:5000"}, False), ({"experiment": "shop"}, False)],
)
def test_a_resumed_run_goes_to_the_trackers_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], same: bool
) -> None:
    clients: list[str | None] = []
    monkeypatch.setattr(backends, "connect", lambda settings: clients.append(settings.mlflow))
    settings = {"mlflow": "http://old:5000"}
    before = RunRecord.model_validate(
        {"settings": settings, "group": "g", "name": "run", "wandb_id": "1", "mlflow_id": "2"}
    )
    write_record(before, str(tmp_path))
    resumed = TrackingSettings(**{**settings, **change})
    Tracker(resumed, str(tmp_path)).begin({})
    assert clients == [resumed.mlflow]
    after = read_record(str(tmp_path))
    assert after is not None
    assert (after.settings, after.mlflow_id) == (resumed, "2" if same else None)


def test_a_run_at_weights_and_biases_is_complete_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, said = tmp_path / "run", []
    run.mkdir()
    (run / "evaluation.json").write_text("{}")
    with Tracker(TrackingSettings(wandb="shop"), str(run), name="first", say=said.append) as tracker:
        tracker.begin({"gamma": 0.9})
        tracker.log(rows_of(1, 3))
        tracker.attach(str(run / "evaluation.json"))
    assert said == []
    wandb.teardown()  # writes what its process holds
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    for text in (b"gamma", b"losses/q", b"own metric (%)", b"evaluation.json"):
        assert text in content


def test_a_run_without_credentials_becomes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    said: list[str] = []
    with Tracker(TrackingSettings(wandb="shop"), str(tmp_path), say=said.append) as tracker:
        tracker.begin({})
        tracker.log(rows_of(1, 3))
    assert len(said) == 1
    wandb.teardown()
    assert "tracking: Weights & Biases fails" in said[0]
    assert [b"losses/q" in file.read_bytes() for file in tmp_path.glob("wandb/offline-run-*/*.wandb")] == [True]
