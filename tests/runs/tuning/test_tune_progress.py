"""Progress of a sweep."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prefrec_ray.runs.tracking import Tracking
from prefrec_ray.runs.tuning.trial import SweepProgress


@dataclass
class Trial:
    name: str
    status: str
    last_result: dict[str, Any] = field(default_factory=dict)
    num_failures: int = 1
    max_failures: int = 3
    error_file: str = ""

    def __str__(self) -> str:
        return self.name


def test_a_sweep_reports_its_share_and_a_line_per_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = Trial("IL_a", "TERMINATED", {"progress": 1.0, "finished": True, "m": 0.5})
    half = Trial("PrefRec_b", "RUNNING", {"progress": 0.25, "m": math.nan})
    waiting, stopped = Trial("PrefRec_c", "PENDING"), Trial("PrefRec_d", "TERMINATED", {"progress": 0.5})
    trials = [done, half, waiting, stopped]
    reports: list[tuple] = []
    lines: list[str] = []
    monkeypatch.setattr(SweepProgress, "calls", (lambda *report: reports.append(report), lines.append, Tracking()))
    shown = pickle.loads(pickle.dumps(SweepProgress("m", 5)))  # as in a sweep that resumes
    shown.on_trial_result(1, trials, half, {"resumed_from": 6, "iterations_since_restore": 1})
    shown.on_trial_result(1, trials, half, {"resumed_from": 6, "iterations_since_restore": 2})
    half.error_file = str(tmp_path / "error.txt")
    Path(half.error_file).write_text("Failure # 1\na report\nThe node is lost. Causes are many.\n")
    shown.on_trial_recover(1, trials, half)
    shown.on_trial_complete(1, trials, done)
    shown.on_trial_complete(1, trials, stopped)
    shown.on_trial_error(1, trials, Trial("bad", "ERROR"))
    # 2.25 of 5 trials: one may not have been drawn yet.
    assert reports == [("run trials: %", 45, 100, "2 of 5 trials ended, 1 running")] * 2
    assert lines == [
        "PrefRec_b: resuming from iteration 6",
        "PrefRec_b: failure 1 of at most 3: The node is lost",
        "IL_a: finished, m 0.5 (2 of 5)",
        "PrefRec_d: stopped (2 of 5)",
        "bad: failed (2 of 5)",
    ]
