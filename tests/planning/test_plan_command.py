"""`prefrec plan` with made costs: its tables, the cheapest cluster, and the limits that break."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefrec_ray.cli.main import run
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.dataset.prepare.users import GROUPS
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.planning.cluster import BUCKET_TASKS, SHARD_TASK, Cluster, Costs
from prefrec_ray.planning.stages import PlannedRun, plan_run, prepare_phases
from prefrec_ray.runs.settings import TrainSettings

GB = 10**9
CONFIG: dict[str, Any] = {
    "prepare": {"source": {"kind": "simulator", "path": "logs"}},
    "train": {"recipe": "paper", "config": {"replay_buffer_size": None, "num_epochs": 1}},
}


def costs(**changes: Any) -> Costs:
    task = {"start": 0.1, "row": 1e-5, "memory": 2e8, "row_memory": 1e3}
    single = {"feedback_network_of": task, "repeats_of": task, "_score": task}
    values = {
        "cores": 2,
        "width": 245,
        "requests": 250,
        "tasks": {**dict.fromkeys((*BUCKET_TASKS, SHARD_TASK), task), **single},
        "evaluate": 30,
        "dispatch": 1e-3,
        "overhead": 0.3,
        "pair": 0.01,
        "update": 1e-4,
        "label": 1e-5,
        "driver": 3e8,
        "learner": 2e9,
        "stored": {"log": 30, "sessions": 8, "requests": 1100, "transitions": 2000, "narrow": 80},
    }
    return Costs.model_validate({**values, **changes})


def planned(impressions: int, width: int = 245) -> PlannedRun:
    sections = {name: CONFIG.get(name, {}) for name in ("prepare", "train", "evaluate")}
    prepare = PrepareSettings.model_validate(sections["prepare"])
    train, evaluate = TrainSettings.model_validate(sections["train"]), EvaluateSettings()
    return PlannedRun(impressions, width, prepare, train, evaluate, costs())


def cluster(nodes: int, memory: float = 64, disk: float = 0) -> Cluster:
    return Cluster(nodes, 16, memory * GB, disk * GB, 10 * GB / 8, 0.02, 1e-3, overhead=0)


def test_every_impression_and_transition_is_in_a_task_of_each_stage() -> None:
    run = planned(30_000_000)
    tasks: dict[str, int] = {}
    for phase in prepare_phases(run, cluster(4)):
        tasks[phase.stage] = tasks.get(phase.stage, 0) + phase.tasks
    assert tasks["compute states"] == tasks["scale states"] == run.buckets
    assert tasks["group by user"] == min(run.buckets, GROUPS)
    assert tasks["shuffle transitions"] * (48 << 20) >= run.transitions * (2 * 245 + 8) * 4


def test_work_grows_with_impressions_and_wide_stages_with_the_width_of_states() -> None:
    small, large, wide = (plan_run(run, cluster(1)) for run in (planned(10**7), planned(10**8), planned(10**7, 490)))

    def work(one: Any, stage: str) -> float:
        return next(plan.work for plan in one.commands["prepare"] if plan.stage == stage)

    assert work(large, "compute states") == pytest.approx(10 * work(small, "compute states"), rel=0.02)
    assert work(wide, "compute states") == pytest.approx(2 * work(small, "compute states"), rel=0.02)
    assert large.hours > 6 * small.hours


def test_limits_that_break_are_named() -> None:
    assert plan_run(planned(10**8), cluster(4)).broken == []
    assert plan_run(planned(10**8), cluster(4, disk=50)).broken[0] == "disk: 321.8 GB of 200.0 GB"
    (first, *_) = plan_run(planned(10**8), cluster(4, memory=2)).broken
    assert first.startswith("memory in prepare, ")


def test_the_command_prints_stages_and_the_cheapest_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, file = tmp_path / "my.yaml", tmp_path / "costs.json"
    config.write_text(yaml.safe_dump(CONFIG))
    file.write_text(json.dumps(costs().model_dump()))

    def plan(*options: str) -> str:
        status = run(["plan", str(config), "--costs", str(file), "--impressions", "1e8", *options])
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    assert "prepare: compute states" in plan("--nodes", "1,4")
    hours = [plan_run(planned(10**8), cluster(nodes)).hours for nodes in (1, 4)]
    assert hours[0] > hours[1]
    assert "cheapest: 1 nodes" in plan("--nodes", "1,4")
    assert f"cheapest within {sum(hours) / 2:g} h: 4 nodes" in plan("--nodes", "1,4", "--within", str(sum(hours) / 2))
    assert "none of these clusters" in plan("--nodes", "1", "--within", str(hours[0] / 2))
    assert "--nodes: found 1,x; expected whole numbers from 1 to 4096" in plan("--nodes", "1,x")
    missing = plan("--costs", "x.json")
    assert f"--costs: found no file x.json; expected costs measured before: prefrec plan {config} --cal" in missing
    file.write_text("{}")
    assert f"{file}: key 'cores' is missing" in plan()
    for part, name in (("tasks", "repeats_of"), ("stored", "narrow")):
        kept = costs().model_dump()
        del kept[part][name]
        file.write_text(json.dumps(kept))
        assert f"{part}: {name} is missing" in plan()
