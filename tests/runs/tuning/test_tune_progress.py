"""Progress of a sweep: a table on a terminal, lines otherwise, and nothing in Tune's files."""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from prefrec_ray.runs.tuning.progress import ProgressTable, final_table, table
from prefrec_ray.runs.tuning.settings import TuneSettings


@dataclass
class Trial:
    name: str
    status: str
    last_result: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


TRIALS = [
    Trial("IL_a", "TERMINATED", {"progress": 1.0, "finished": True, "m": 0.5}),
    Trial(
        "PrefRec_b",
        "RUNNING",
        {
            "progress": 0.25,
            "time_total_s": 20.0,
            "m": math.nan,
        },
    ),
    Trial("PrefRec_c", "PENDING"),
    Trial("PrefRec_d", "TERMINATED", {"progress": 0.5}),
]


def test_the_table_shows_state_progress_time_left_and_metric() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(table(TRIALS, "m", 70.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["PrefRec_b"] == ["PrefRec_b", "running", "25%", "0:01:00"]
    assert rows["IL_a"] == ["IL_a", "finished", "100%", "0.5"]
    assert rows["PrefRec_d"][1] == "stopped"
    assert "PrefRec_c" not in rows
    # 2.25 of 4 trials' work took 70 s; the other 1.75 will take 54.
    assert "2 of 4 trials ended, 1 running, 0:01:10 elapsed, 0:00:54 left" in text


def test_a_table_of_nothing() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(table([], None, 0.0))
    assert "0 of 0 trials ended" in console.file.getvalue()  # type: ignore[attr-defined]


LONG = "ConservativeQLearning_frequency_0_012"


def test_at_80_columns_nothing_is_cut_inside_a_word() -> None:
    result = {"progress": 0.5, "validation/preference": -12.345, "time_total_s": 3600.0}
    text = printed(table([Trial(LONG, "RUNNING", result)], "validation/preference", 70.0), 80)
    assert {"ConservativeQLearning_", "frequency_0_012", "running", "50%", "1:00:00", "-12.35"} <= set(text.split())
    assert {"validation/", "preference"} <= set(text.split())
    settings = TuneSettings.model_validate({"metric": "validation/preference", "search": SEARCH})
    about = {"method": "PrefRec", "time_total_s": 3600.0, "status": "finished"}
    rows = [
        {**about, "trial": LONG, "updates_per_iteration": 1000, "actor_lr": 0.000123456, "validation/preference": 1.5},
        {**about, "trial": "best", "updates_per_iteration": 10, "actor_lr": 1e-5, "validation/preference": 2.5},
        {**about, "trial": "failed", "updates_per_iteration": 10, "actor_lr": 1e-5, "validation/preference": None},
    ]
    lines = [line.split() for line in printed(final_table(rows, settings), 80).splitlines()]
    assert lines[:3] == [["validation/"], ["trial", "status", "settings", "preference", "time"], BEST]
    assert [words[0] for words in lines if "finished" in words] == ["best", "ConservativeQLearning_", "failed"]
    words = {word for line in lines for word in line}
    assert {"ConservativeQLearning_", "frequency_0_012", "updates_per_", "iteration", "0.0001235"} <= words


SEARCH = {"updates_per_iteration": {"grid": [10, 1000]}, "actor_lr": {"uniform": [0, 1]}}
BEST = ["best", "finished", "updates_per_", "2.5", "1:00:00"]


def printed(table: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text


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
        "2 of 4 trials ended, 1 running, 0:00:10 elapsed, 0:00:08 left",
        "IL_a: finished, m 0.5 (2 of 4)",
        "bad: failed (2 of 4)",
    ]


def test_tune_keeps_nothing_of_the_display() -> None:
    shown = ProgressTable("m")
    shown.setup()
    again = pickle.loads(pickle.dumps(shown))
    assert again._metric == "m"
    assert again._console is None
