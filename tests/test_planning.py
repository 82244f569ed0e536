"""`prefrec plan`: stages against the same sums done by hand, the cheapest cluster, and the limits that break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from prefrec_ray import planning
from prefrec_ray.cli.main import run
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.planning import Cluster, PlannedRun, plan
from prefrec_ray.runs.settings import TrainSettings

CONFIG: dict[str, Any] = {
    "prepare": {"source": {"kind": "simulator", "path": "logs"}},
    "train": {"recipe": "paper", "config": {"replay_buffer_size": None, "num_epochs": 1}},
}


def planned(impressions: int = 10**8, width: int = 245) -> PlannedRun:
    prepare = PrepareSettings.model_validate(CONFIG["prepare"])
    return PlannedRun(impressions, width, prepare, TrainSettings.model_validate(CONFIG["train"]), EvaluateSettings())


def cluster(nodes: int, memory: float = 64, gigabits: float = 10) -> Cluster:
    return Cluster(nodes, 16, memory * 1e9, gigabits / 8 * 1e9)


def seconds(run: PlannedRun, where: Cluster, name: str) -> float:
    return next(stage.seconds for stage in plan(run, where).stages if stage.name == name)


def test_a_stage_takes_its_work_over_its_processors_or_its_bytes_over_its_network() -> None:
    """100 million impressions at 9.5 core seconds per million on 64 cores; rows of 80 + 4 * 245 bytes."""
    fast, slow = cluster(4, gigabits=100), cluster(4, gigabits=0.1)
    assert seconds(planned(), fast, "prepare: compute states") == pytest.approx(950 / 64)
    assert seconds(planned(), slow, "prepare: compute states") == pytest.approx(1e8 * 1060 / (4 * 1.25e7))
    assert seconds(planned(width=490), fast, "prepare: compute states") == pytest.approx(2 * 950 / 64)
    assert seconds(planned(width=490), fast, "prepare: read the log") == pytest.approx(21 / 64)


def test_training_does_not_get_faster_with_more_nodes() -> None:
    """60 million transitions at 126 core seconds per million, on the two cores of one learner."""
    hours = [seconds(planned(), cluster(nodes), "train: train") / 3600 for nodes in (1, 64)]
    assert hours == pytest.approx([60 * 126 / 2 / 3600] * 2)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(planning, "open_run", lambda *settings: planned(settings[-1]))
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


HOURS = [plan(planned(), cluster(nodes)).hours for nodes in (1, 4)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--nodes", "1,4"], "prepare: compute states"),
        (["--nodes", "1,4"], "cheapest: 1 nodes"),
        (["--nodes", "1,4", "--within", str(sum(HOURS) / 2)], f"cheapest within {sum(HOURS) / 2:g} h: 4 nodes"),
        (["--nodes", "1", "--within", str(HOURS[0] / 2)], "none of these clusters"),
        (["--nodes", "1", "--memory", "2"], "memory in prepare: read the log: 14.4 GB of 2.0 GB"),
        (["--nodes", "1,x"], "--nodes: found 1,x; expected whole numbers from 1 to 4096"),
    ],
)
def test_the_command_prints(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    status = run(["plan", str(config), "--impressions", "1e8", *options])
    printed = capsys.readouterr()
    assert expected in (printed.err if status else printed.out)
    assert status == (2 if options[-1] == "1,x" else 0)
