"""The truth bench's scores, on evaluations made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.truth.bench import SWEEP, WORLDS, ended, sweeps
from benchmarks.truth.scores import cells, less, mean, pick, table, won
from prefrec_ray.prepare.settings import PrepareSettings
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.tuning.settings import TuneSettings


def evaluation(values: dict[tuple[str, int], float], nutrition: float) -> dict[str, Any]:
    """Values by (method, seed) on the task depth; the logging policy is worth 1."""
    records: list[dict[str, Any]] = [
        {"estimator": "online", "subject": "nutrition", "role": "control", "task": "depth", "value": nutrition}
    ]
    served = {"behaviour": {"distinct_items": 100}, "imitation": {"item_distance": 0.5}}
    for (method, seed), value in values.items():
        subject = f"{method} seed {seed}"
        known = {"subject": subject, "role": "policy", "task": "depth", "method": method, "behaviour": 1.0}
        records += [
            {**known, "estimator": "online", "value": value, "provenance": {"seed": seed}},
            {**known, "estimator": "ncis", "value": 100.0, "provenance": {"seed": seed}},
        ]
        served[subject] = {"distinct_items": 10 + seed, "item_distance": 0.25}
    return {"records": records, "served": served}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    sweep_values = {
        "robust": {("PrefRec", 1): 3.0, ("PrefRec", 2): 2.0, ("IL", 1): 1.5, ("IL", 2): 2.5},
        "paper": {("PrefRec", 1): 0.5, ("PrefRec", 2): 1.0},
        "truth": {("PrefRec", 1): 4.0, ("PrefRec", 2): 6.0},
    }
    for world, nutrition in (("easy", 3.0), ("differing_hard", 9.0)):
        for sweep, values in sweep_values.items():
            (tmp_path / world / sweep).mkdir(parents=True)
            text = json.dumps(evaluation(values, nutrition))
            (tmp_path / world / sweep / "evaluation.json").write_text(text)
    (tmp_path / "unfinished" / "robust").mkdir(parents=True)
    return tmp_path


def test_scores_are_shares_of_what_is_possible(output: Path) -> None:
    scored = cells(output)
    assert {cell["world"] for cell in scored} == {"easy", "differing_hard"}
    # easy: the learned policies on the truth (mean 5) beat the hand-made one (3); hard: the hand-made one (9) is best.
    score = {(c["world"], c["recipe"], c["method"], c["seed"]): c["score"] for c in scored}
    assert score["easy", "robust", "PrefRec", 1] == pytest.approx((3 - 1) / (5 - 1))
    assert score["differing_hard", "robust", "PrefRec", 1] == pytest.approx((3 - 1) / (9 - 1))
    assert score["easy", "paper", "PrefRec", 1] == pytest.approx(-0.5 / 4)
    (one,) = pick(scored, world="easy", recipe="robust", method="PrefRec", seed=2)
    assert one["items"] == pytest.approx(0.12)
    assert one["distance"] == pytest.approx(0.5)


def test_cells_won_and_means_over_seeds(output: Path) -> None:
    scored = cells(output)
    assert won(scored) == {"logging policy": (1.0, 4), "IL": (0.5, 4), "paper": (1.0, 4)}
    robust = pick(scored, recipe="robust", method="PrefRec", world="easy")
    assert mean(robust).startswith("0.38 [0.25, 0.50]")
    text = table(scored)
    assert "| easy | depth | 0.38 [0.25, 0.50] |" in text
    assert "above IL: 50% of 4 cells" in text
    # Differences .28 and -.09 of the two seeds: t of one degree of freedom is 12.7.
    assert less(scored, "IL") == "+0.09 [-2.29, +2.48]"
    assert less(scored, "PrefRec") == ""
    # A world without IL says nothing of PrefRec against it.
    alone = [{**cell, "world": "alone", "score": 9.0} for cell in pick(scored, method="PrefRec", world="easy")]
    assert less(scored + alone, "IL") == less(scored, "IL")


def test_an_interrupted_sweep_has_not_ended(tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    assert not ended(file)
    file.write_text("trial,status\na,finished\nb,waiting\n")
    assert not ended(file)
    file.write_text("trial,status\na,finished\nb,failed\n")
    assert ended(file)


def test_every_world_is_valid_and_has_its_teachers() -> None:
    files = sorted(WORLDS.glob("*.yaml"))
    assert len(files) >= 8
    common = yaml.safe_load(SWEEP.read_text())["tune"]
    for file in files:
        sections = yaml.safe_load(file.read_text())
        parse(SimulateSettings, sections["simulate"], str(file))
        prepared = parse(PrepareSettings, sections["prepare"], str(file))
        teachers = {teacher.name for teacher in prepared.preferences.teachers}
        for name, settings in sweeps(sections, {}).items():
            tuned = parse(TuneSettings, settings, name)
            chosen = tuned.base.get("teachers")
            assert tuned.task == ["depth", "frequency", "mixture"]
            assert (chosen is None) == ({"any_users_sum", "within_user_mean"} <= teachers)
            assert set(chosen or []) <= teachers
    assert common["seeds"]
