"""`prefrec train`: the rate that it prints, and a run without a selection, which fits no model of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import SHORT_RUN

from prefrec_ray.cli.train import RowProgress
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import train


def row(iteration: int, transitions: int | None) -> dict[str, Any]:
    phase = "pretrain" if transitions is None else "train"
    return {"training_iteration": iteration, "progress": iteration / 4, "phase": phase, "transitions": transitions}


def test_the_rate_is_of_the_whole_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, shown = iter([100.0, 102.0, 110.0, 120.0]), []
    monkeypatch.setattr("prefrec_ray.cli.train.time.monotonic", lambda: next(seconds))
    rows = RowProgress(lambda *report: shown.append(report), "train")
    for one in (row(2, None), row(3, 3000), row(4, 5000)):  # resumed after the first of four iterations
        rows(one)
    assert shown == [
        ("train", 2, 4, "reward"),
        ("train", 3, 4, "300 transitions/s"),
        ("train", 4, 4, "400 transitions/s"),
    ]


@pytest.mark.parametrize(
    ("validation", "selects"),
    [(None, False), ({}, False), ({"every": 5}, False), ({"every": 6}, False), ({"every": 4}, True)],
)
def test_a_selection_needs_two_scored_checkpoints(validation: dict[str, Any] | None, selects: bool) -> None:
    assert TrainSettings(validation=validation).selects(5) is selects
    assert TrainSettings().validation is None
    assert ValidationSettings(every=2).scored(5) == [2, 4, 5]


def test_a_run_without_a_selection_fits_no_model_of_users(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "prefrec_ray.runs.train.ValidationScorer.prepare", lambda *arguments: pytest.fail("a model was fitted")
    )
    told: list[str] = []
    settings = TrainSettings(task="depth", method="IL", config=SHORT_RUN, validation=ValidationSettings())
    rows = train(settings, tiny_dataset, str(tmp_path / "run"), say=told.append)
    assert told == [
        f"validation: not used, because only one of {len(rows)} iterations would be scored; expected a smaller `every`"
    ]
    assert not any(name.startswith("validation/") for name in rows[-1])
    assert (tmp_path / "run" / "policy").exists()
