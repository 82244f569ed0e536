"""What is shown of a sweep: a table on a terminal, lines without one; nothing of it in Tune's files."""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from prefrec_ray.runs.tuning.progress import ProgressTable, table


@dataclass
class Trial:
    name: str
    status: str
    last_result: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


TRIALS = [
    Trial("IL_a", "TERMINATED", {"progress": 1.0, "finished": True, "phase": "train", "m": 0.5}),
    Trial(
        "PrefRec_b",
        "RUNNING",
        {
            "progress": 0.25,
            "phase": "train",
            "losses/qf_loss": 0.125,
            "losses/actor_loss": math.nan,
            "transitions_per_second": 12_345.6,
            "time_total_s": 20.0,
            "m": math.nan,
        },
    ),
    Trial("PrefRec_c", "PENDING"),
    Trial("PrefRec_d", "TERMINATED", {"progress": 0.5}),
]


def test_the_table_shows_progress_losses_rate_and_time_left() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(table(TRIALS, "m", 70.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["PrefRec_b"] == ["PrefRec_b", "running", "25%", "train", "0.125", "12,346", "0:01:00"]
    assert rows["IL_a"] == ["IL_a", "finished", "100%", "train", "0.5"]
    assert rows["PrefRec_d"][1] == "stopped"
    assert "PrefRec_c" not in rows
    # 2.25 of 4 trials' work took 70 s; the other 1.75 will take 54.
    assert "2 of 4 trials ended, 1 running, 0:01:10 gone, 0:00:54 left" in text


def test_a_table_of_nothing() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(table([], None, 0.0))
    assert "0 of 0 trials ended" in console.file.getvalue()  # type: ignore[attr-defined]


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=50.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("prefrec_ray.runs.tuning.progress.time", clock)
    shown = ProgressTable("m")
    shown.setup()
    for _ in range(19):  # of a second each
        shown.on_step_end(1, TRIALS)
        clock.now += 1
    shown.on_trial_complete(1, TRIALS, TRIALS[0])
    shown.on_trial_error(1, TRIALS, Trial("bad", "ERROR"))
    shown.on_experiment_end(TRIALS)
    assert capsys.readouterr().out.splitlines() == [
        "2 of 4 trials ended, 1 running, 0:00:10 gone, 0:00:08 left",
        "IL_a: finished, m 0.5 (2 of 4)",
        "bad: failed (2 of 4)",
    ]


def test_tune_keeps_nothing_of_the_display() -> None:
    shown = ProgressTable("m")
    shown.setup()
    again = pickle.loads(pickle.dumps(shown))
    assert again._metric == "m"
    assert again._console is None
