"""A run goes on only with the settings that its figures and scores were made by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import describe, start_run

BEGUN: dict[str, Any] = {"method": "IQL", "validation": {"every": 2, "estimators": ["preference", "ncis"]}}
OTHERS: list[dict[str, Any]] = [
    {"seed": 1},
    {"config": {"gamma": 0.5}},
    {"validation": None},
    {"validation": {**BEGUN["validation"], "every": 3}},
    {"validation": {**BEGUN["validation"], "estimators": ["ncis"]}},
    {"validation": {**BEGUN["validation"], "online": True}},
]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "run").mkdir()
    run, dataset = str(tmp_path / "run"), str(tmp_path / "dataset")
    storage.write_json(f"{run}/config.json", describe(TrainSettings.model_validate(BEGUN), dataset))
    other = TrainSettings.model_validate({**BEGUN, **changes})
    (key,) = changes
    with pytest.raises(UserError, match=rf"started with {key}[.\w]* = .*, resumed with .*; expected the same settings"):
        start_run(other, dataset, run, resume=True)
