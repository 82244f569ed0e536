"""A tracker in memory, in the place of Ray's callback for MLflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prefrec_ray.runs import tracking
from prefrec_ray.runs.tracking import TrackingSettings

RECORDED = TrackingSettings(mlflow="recorded")


class RecordedRun:
    """What the tracker got of one run."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.ends: list[str] = []


class Recorder:
    """Ray's callback, whose calls are recorded in `runs`. `fails` raises for a call that fails."""

    def __init__(self, runs: dict[str, RecordedRun], fails: Callable[[], None]) -> None:
        self._runs, self._fails = runs, fails

    def setup(self) -> None:
        self._fails()

    def log_trial_start(self, trial: Any) -> None:
        self._fails()
        self._runs[str(trial)] = RecordedRun(dict(trial.config))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._fails()
        self._runs[str(trial)].rows.append((iteration, dict(result)))

    def log_trial_end(self, trial: Any, failed: bool) -> None:
        self._fails()
        self._runs[str(trial)].ends.append("failed" if failed else "finished")

    def on_experiment_end(self, trials: list[Any]) -> None:
        pass


def record_runs(patch: pytest.MonkeyPatch, fails: Callable[[], None] = lambda: None) -> dict[str, RecordedRun]:
    """Record all runs that are tracked by `RECORDED`, by name."""
    runs: dict[str, RecordedRun] = {}
    patch.setattr(tracking, "_mlflow", lambda uri, group: Recorder(runs, fails))
    return runs
