"""Costs of a task from samples of three runs of two sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.planning import calibration
from prefrec_ray.planning.calibration import Meter, _cost, calibrate
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.simulator.settings import SimulateSettings

#: Impressions of the two data sets, in four buckets.
ROWS = np.array([4_000, 16_000])


def meters(seconds: list[float], memory: list[int]) -> list[Meter]:
    """Return a meter per run, the sizes in turn. Another task of each run takes 300 bytes."""
    made = []
    for own, peak in zip(seconds, memory, strict=True):
        meter = Meter()
        meter.seconds["_write"], meter.memory["_write"], meter.memory["_state_moments"] = own, peak, 300
        made.append(meter)
    return made


def test_seconds_are_the_medians_of_runs_and_memory_is_their_peak() -> None:
    """Per task: 1,000 impressions take .5 s, 4,000 take 2 s. One run of each size is slow."""
    cost = _cost("_write", meters([2, 8, 2, 8, 9, 50], [1_000, 3_000, 1_500, 4_500, 900, 2_000]), ROWS)
    assert (cost.start, cost.row) == pytest.approx((0, 5e-4))
    assert (cost.memory, cost.row_memory) == pytest.approx((500, 1))


def test_a_task_that_no_sample_saw_has_the_memory_of_a_worker() -> None:
    cost = _cost("_write", meters([0, 0, 0, 0, 0, 0], [0, 600, 0, 500, 0, 0]), ROWS)
    assert (cost.memory, cost.row_memory) == pytest.approx((200, 0.1))


def test_every_run_of_a_calibration_is_reported_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the last one, an evaluation that is interrupted."""
    runs: list[str] = []
    reports: list[tuple[str, int, int, str]] = []
    made = SimpleNamespace(metadata=SimpleNamespace(counts={}), uri="")

    def run(name: str, result: Any = None) -> Any:
        assert reports[-1][1:3] == (len(runs), 9)
        runs.append(name)
        return result

    def interrupted(*_: object) -> None:
        run("evaluate")
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "simulate", lambda *_: None)
    monkeypatch.setattr(calibration, "run_tasks", lambda *_: None)
    monkeypatch.setattr(calibration, "measured_prepare", lambda *_: run("prepare", (None, made)))
    monkeypatch.setattr(calibration, "_train", lambda *_: run("train", {}))
    monkeypatch.setattr(calibration, "run_evaluation", interrupted)
    prepared = PrepareSettings.model_validate({"source": {"kind": "simulator", "path": "logs"}})
    with pytest.raises(KeyboardInterrupt):
        calibrate(
            SimulateSettings(),
            prepared,
            TrainSettings(),
            EvaluateSettings(),
            lambda *values: reports.append(values),
        )
    assert runs == ["prepare"] * 7 + ["train", "evaluate"]
