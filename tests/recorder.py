"""A tracker in memory, in the place of MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prefrec_ray.tracking import backends
from prefrec_ray.tracking.settings import RunRecord, TrackingSettings

RECORDED = TrackingSettings(mlflow="recorded")


class Recorded:
    """The calls of one run. `fails` raises for a call that fails."""

    name = "the recorder"

    def __init__(self, fails: Callable[[], None] = lambda: None) -> None:
        self.params: dict[str, Any] = {}
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.files: list[str] = []
        self.ends: list[str] = []
        self.group = ""
        self._fails = fails

    def begin(self, params: Mapping[str, Any]) -> None:
        self._fails()
        self.params |= params

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._fails()
        self.rows.append((step, dict(metrics)))

    def attach(self, path: str) -> None:
        self._fails()
        assert Path(path).exists()
        self.files.append(Path(path).name)

    def end(self, failed: bool) -> None:
        self._fails()
        self.ends.append("failed" if failed else "finished")


def record_runs(patch: pytest.MonkeyPatch, fails: Callable[[], None] = lambda: None) -> dict[str, Recorded]:
    """Record all runs that are tracked by `RECORDED`, by name."""
    runs: dict[str, Recorded] = {}

    def new(record: RunRecord, run: str) -> Recorded:
        found = runs.setdefault(record.name, Recorded(fails))
        found.group = record.experiment
        return found

    patch.setattr(backends, "MlflowRun", new)
    return runs
