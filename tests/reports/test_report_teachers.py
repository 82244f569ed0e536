"""The section on teachers: figures of the data set's labels and of the runs' reward models."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_report_page import Page

from prefrec_ray.dataset import SCHEMA_VERSION
from prefrec_ray.reports.html import document
from prefrec_ray.reports.load import load_runs
from prefrec_ray.reports.teachers import reward_accuracy, teachers_section


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Sessions of six users, with one impression per session and a level that depends only on the user."""
    folder = tmp_path / "dataset"
    (folder / "sessions").mkdir(parents=True)
    level = np.repeat(np.arange(6.0), 30)
    user = np.repeat(np.arange(6), 30)
    columns = {"user_id": user, "depth": np.ones(180, int), "level_depth": level, "level_frequency": level}
    table = pa.table({**columns, "split": ["train"] * 180})
    pq.write_table(table, folder / "sessions/part-00000.parquet")
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "counts": {},
        "state_dim": 1,
        "action_dim": 1,
        "action_low": -1,
        "action_high": 1,
        "state": {},
        "normaliser": {},
        "settings": {"preferences": {"length": 5, "min_requests": 10}},
        "seed": 0,
        "tasks": ["depth", "frequency"],
        "teachers": [],
        "mixture_weight": 0.5,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_labels_and_reward_models_stand_side_by_side(runs: Path, dataset: Path) -> None:
    for name, teacher in (("paper", "any_users"), ("robust", "within_user")):
        file = runs / name / "config.json"
        config = json.loads(file.read_text())
        config |= {"dataset": str(dataset), "resolved": {"pairing": teacher, "scoring": "mean"}}
        file.write_text(json.dumps(config))
    loaded = load_runs([str(runs)])
    section = document("Teachers", [teachers_section(loaded)])
    cells = Page(section).texts["td"]
    teachers = ["any_users_sum", "any_users_mean", "within_user_sum", "within_user_mean"]
    assert cells[:24] == [
        *(teachers[0], "frequency", "0%", "100%", "50% (more)", "100%"),
        *(teachers[1], "frequency", "0%", "100%", "50% (more)", "100%"),
        *(teachers[2], "frequency", "100%", "100%", "–", "–"),
        *(teachers[3], "frequency", "100%", "100%", "–", "–"),
    ]
    assert section.count('class="policy"') == 2
    models = []
    for run in loaded:
        lasts = [run.curves[f"reward/accuracy_{kind}"][-1] for kind in ("within_user", "any_users")]
        models += [run.label, *(f"{value:.0%}" for value in lasts)]
    assert cells[24:] == models
    assert "If such a rule predicts most labels" in section


def test_the_last_accuracy_of_a_run(runs: Path) -> None:
    run = load_runs([str(runs)])[0]
    values = run.curve("reward/accuracy_within_user")
    assert reward_accuracy(run, "within_user") == values[-1]
    run.curves["reward/accuracy_within_user"][-4:] = np.nan
    assert reward_accuracy(run, "within_user") == values[-5]
    assert reward_accuracy(run, "other") is None


def test_without_its_data_set_there_is_no_section(runs: Path) -> None:
    assert teachers_section(load_runs([str(runs)])) is None
