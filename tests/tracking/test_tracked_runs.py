"""A tracked run: all rows arrive once and in order, also after failed calls."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import RECORDED, record_runs

from prefrec_ray import storage
from prefrec_ray.cli.config import open_tracking
from prefrec_ray.errors import UserError
from prefrec_ray.tracking import tracker as tracking
from prefrec_ray.tracking.settings import TrackingSettings
from prefrec_ray.tracking.tracker import PAUSE, UNTRACKED, Tracker, attach_to_run


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {"training_iteration": i, "phase": "train", "losses/q": i / 2, "scored": None, "flag": True}
        for i in range(1, count + 1)
    ]


@given(failing=st.sets(st.integers(0, 30)), seconds=st.lists(st.floats(0, 2 * PAUSE), min_size=12, max_size=12))
def test_rows_arrive_once_and_in_order_whatever_fails(
    tmp_path_factory: pytest.TempPathFactory, failing: set[int], seconds: list[float]
) -> None:
    folder, calls, said, now = tmp_path_factory.mktemp("run"), iter(range(1000)), [], [0.0]

    def fails() -> None:
        if next(calls) in failing:
            raise ConnectionError("away\nfor a while")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: now[0]))
        runs = record_runs(patch, fails)
        tracker, rows = Tracker(RECORDED, str(folder), say=said.append), rows_of(10)
        tracker.begin({"gamma": 0.9, "serving": {"rule": "best", "none": {}}})
        for number, wait in enumerate(seconds):
            tracker.log(rows[: number + 1])  # a run that resumed logs earlier rows again
            now[0] += wait
        (folder / "evaluation.json").write_text("{}")
        tracker.attach(str(folder / "evaluation.json"))
        while not runs[folder.name].ends:
            tracker.end()
    run = runs[folder.name]
    assert run.params == {"gamma": 0.9, "serving.rule": "best", "serving.none": {}}
    assert run.rows == [(i, {"training_iteration": i, "losses/q": i / 2}) for i in range(1, 11)]
    assert run.files == ["evaluation.json"]
    assert len(said) == bool(failing & set(range(next(calls) - 1)))
    assert all(line.startswith("tracking: the recorder fails (ConnectionError: away); training goes") for line in said)


def test_a_tracker_that_is_away_is_not_called_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ConnectionError

    record_runs(monkeypatch, fails)
    with Tracker(RECORDED, str(tmp_path)) as tracker:
        tracker.begin({})
        tracker.log(rows_of(50))
    assert len(calls) == 2  # at the begin and at the end


def test_a_run_that_did_not_begin_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = record_runs(monkeypatch)
    with pytest.raises(KeyError), Tracker(RECORDED, str(tmp_path)):
        raise KeyError
    assert runs[tmp_path.name].ends == []
    assert not (tmp_path / "tracking.json").exists()


def test_later_files_belong_to_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.html"
    file.write_text("page")
    runs = record_runs(monkeypatch)
    attach_to_run(str(tmp_path), str(file))
    assert runs == {}
    with Tracker(RECORDED, str(tmp_path), "a loop", "night 3") as tracker:
        tracker.begin({})
    first = storage.read_json(str(tmp_path / "tracking.json"))
    attach_to_run(str(tmp_path), str(file))
    assert runs["night 3"].files == ["report.html"]
    assert runs["night 3"].group == "a loop"
    assert storage.read_json(str(tmp_path / "tracking.json")) == first


def test_without_settings_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with UNTRACKED as tracker:
        tracker.begin({"gamma": 0.9})
        tracker.log(rows_of(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("{mlflow: 'http://me:hush@host:5000'}", "key 'mlflow': found a URI with a user name or password; expected"),
        ("{mlflow: 'http://hush@host:5000'}", "key 'mlflow': found a URI with a user name or password; expected"),
        ("{mlflow: 'http://[host'}", "key 'mlflow': found an invalid URI; expected http://HOST:PORT"),
        ("{model: shop}", "key 'mlflow' is missing; expected the tracking URI of the registered 'model'"),
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
    assert open_tracking(str(tmp_path / "my.yaml")) == TrackingSettings()
