"""Validation is on by default; a data set too small for a model of users is trained on without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import write_dataset

from prefrec_ray.cli.train import judge_of
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.evaluation.validation import Judge
from prefrec_ray.runs.settings import TrainSettings

LONG = {"users": 20, "sessions": 21, "requests": 1200}
ONE_SESSION = {**LONG, "sessions": 20}
SHORT = {
    "no validation users": ({"train": LONG}, "no requests in the split 'validation'"),
    "no requests": ({"train": LONG, "validation": dict.fromkeys(LONG, 0)}, "no requests in the split 'validation'"),
    "training users come once": ({"train": ONE_SESSION, "validation": LONG}, "no user in the split 'train' has two"),
    "validation users come once": ({"train": LONG, "validation": ONE_SESSION}, "in the split 'validation' has two"),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "dataset", users=4, requests=12, pairs=4, length=3)
    return tmp_path / "dataset"


def count(dataset: Path, counts: dict[str, Any]) -> None:
    metadata = json.loads((dataset / "metadata.json").read_text())
    (dataset / "metadata.json").write_text(json.dumps({**metadata, "counts": counts}))


@pytest.mark.parametrize(("counts", "told"), SHORT.values(), ids=SHORT)
def test_a_small_data_set_is_trained_on_without_scores(dataset: Path, counts: dict[str, Any], told: str) -> None:
    count(dataset, counts)
    messages: list[str] = []
    assert judge_of(TrainSettings(), str(dataset), messages.append) is None
    (line,) = messages
    assert line.startswith("no scores on validation users: ")
    assert told in line


@pytest.mark.parametrize(("counts", "told"), SHORT.values(), ids=SHORT)
def test_what_the_yaml_asks_for_is_not_left_out(dataset: Path, counts: dict[str, Any], told: str) -> None:
    count(dataset, counts)
    settings = TrainSettings.model_validate({"validation": {"every": 2}})
    with pytest.raises(UserError, match=f"{told}.*expected longer histories, or estimators without 'model'"):
        judge_of(settings, str(dataset), pytest.fail)


def test_validation_is_on_by_default(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count(dataset, {"train": LONG, "validation": LONG})
    monkeypatch.setattr(Judge, "prepare", lambda *arguments: arguments)
    assert judge_of(TrainSettings(task="depth"), str(dataset), pytest.fail) == (
        str(dataset),
        ValidationSettings(),
        ["depth"],
        None,
    )
    assert judge_of(TrainSettings(validation=None), str(dataset), pytest.fail) is None
