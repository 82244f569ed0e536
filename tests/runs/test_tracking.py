"""Runs at trackers: Ray's callbacks, whose errors never stop training."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from patience import soon
from recorder import RECORDED, record_runs

from prefrec_ray.cli.config import open_tracking
from prefrec_ray.errors import UserError
from prefrec_ray.runs import tracking
from prefrec_ray.runs.tracking import NO_TRACKING, PAUSE, TrackedRun, Tracking, TrackingSettings

RUN = TrackedRun("first", {"gamma": 0.9, "serving": {"rule": "best"}, "long": "x" * 400}, "shop")


def row(number: int) -> dict[str, Any]:
    return {"training_iteration": number, "phase": "train", "losses/q": number / 2, "scored": None}


@given(failing=st.sets(st.integers(0, 30)), seconds=st.lists(st.floats(0, 2 * PAUSE), min_size=12, max_size=12))
def test_no_error_of_a_tracker_stops_training_and_rows_stay_in_order(failing: set[int], seconds: list[float]) -> None:
    calls, said, now = iter(range(1000)), [], [0.0]

    def fails() -> None:
        if next(calls) in failing:
            raise ConnectionError("away\nfor a while")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: now[0]))
        runs = record_runs(patch, fails)
        with Tracking(RECORDED, say=said.append) as tracked:
            tracked.start(RUN)
            for number, wait in enumerate(seconds):
                tracked.log(RUN, row(number))
                now[0] += wait
            now[0] += PAUSE
    failed = bool(failing & set(range(next(calls))))
    assert said == ["tracking: MLflow fails (ConnectionError: away); training continues"] * failed
    if failed:
        assert [step for step, _ in runs["first"].rows] == sorted({step for step, _ in runs["first"].rows})
    else:
        assert [step for step, _ in runs["first"].rows] == list(range(12))
        assert runs["first"].rows[3][1] == {"training_iteration": 3, "phase": "train", "losses/q": 1.5}
        assert runs["first"].ends == ["finished"]


def test_a_tracker_that_is_away_is_not_called_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ConnectionError

    record_runs(monkeypatch, fails)
    with Tracking(RECORDED) as tracked:
        tracked.start(RUN)
        for number in range(50):
            tracked.log(RUN, row(number))
    assert len(calls) == 1


@pytest.mark.parametrize(("error", "end"), [(None, "finished"), (KeyError, "failed")])
def test_a_run_ends_with_its_process(monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None, end: str) -> None:
    runs = record_runs(monkeypatch)
    try:
        with Tracking(RECORDED) as tracked:
            tracked.start(RUN)
            if error is not None:
                raise error
    except KeyError:
        pass
    assert runs["first"].ends == [end]


def test_a_run_is_at_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)  # a store without a server writes its files here
    settings, said = TrackingSettings(mlflow=f"sqlite:///{tmp_path}/tracked.db"), []
    with Tracking(settings, group="shop", say=said.append) as tracked:
        tracked.start(RUN)
        for number in range(1, 4):
            tracked.log(RUN, row(number))
    assert said == []
    client = mlflow.MlflowClient(settings.mlflow)
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert (run.data.params["gamma"], run.data.params["serving/rule"]) == ("0.9", "best")
    history = client.get_metric_history(run.info.run_id, "losses/q")
    assert [(entry.step, entry.value) for entry in history] == [(1, 0.5), (2, 1.0), (3, 1.5)]


def test_a_server_that_does_not_respond_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for variable in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    said: list[str] = []
    began = time.monotonic()
    with Tracking(TrackingSettings(mlflow=f"http://127.0.0.1:{port}"), say=said.append) as tracked:
        tracked.start(RUN)
        for number in range(1, 4):
            tracked.log(RUN, row(number))
    assert time.monotonic() - began < soon(20)
    (line,) = said
    assert line.startswith("tracking: MLflow fails (")


def test_a_run_is_at_weights_and_biases(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    with Tracking(TrackingSettings(wandb="shop"), str(tmp_path), say=said.append) as tracked:
        tracked.start(RUN)
        for number in range(1, 4):
            tracked.log(RUN, row(number))
    assert said == []
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert [text in content for text in (b"gamma", b"losses/q", b"first")] == [True] * 3


def test_weights_and_biases_without_credentials_is_one_line(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    assert ray.is_initialized()
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    said: list[str] = []
    with Tracking(TrackingSettings(wandb="shop"), str(tmp_path), say=said.append) as tracked:
        tracked.start(RUN)
        tracked.log(RUN, row(1))
    (line,) = said
    assert line.startswith("tracking: Weights & Biases fails (ValueError: No WandB API key found")


def test_without_settings_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Tracking() as tracked:
        tracked.start(RUN)
        tracked.log(RUN, row(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("{mlflow: 'http://me:hush@host:5000'}", "key 'mlflow': found a URI with a user name or password; expected"),
        ("{mlflow: 'http://hush@host:5000'}", "key 'mlflow': found a URI with a user name or password; expected"),
        ("{mlflow: 'http://[host'}", "key 'mlflow': found an invalid URI; expected http://HOST:PORT"),
        ("{mlfow: runs}", "key 'mlfow': unknown key; did you mean 'mlflow'?"),
    ],
)
def test_mistakes_in_the_section_are_one_line_without_the_password(tmp_path: Path, section: str, line: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"tracking: {section}")
    with pytest.raises(UserError) as error:
        open_tracking(str(file))
    assert line in str(error.value)
    assert "hush" not in str(error.value)


def test_without_the_section_nothing_is_tracked(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("train: {}")
    assert open_tracking(str(tmp_path / "my.yaml")) == NO_TRACKING
