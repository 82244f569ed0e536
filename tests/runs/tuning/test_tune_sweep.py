"""A sweep leaves its table, policies and best settings; trials read nothing; killed and resumed it ends the same."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray
import yaml
from ray import tune
from recorder import RECORDED, record_runs

from prefrec_ray import storage
from prefrec_ray.cli.config import open_section
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.policy import Policy
from prefrec_ray.reports.load import load_runs
from prefrec_ray.runs.checkpoints import checkpoints
from prefrec_ray.runs.export import export_policy
from prefrec_ray.runs.train import COLUMNS, start_run
from prefrec_ray.runs.tuning import results, run
from prefrec_ray.runs.tuning.results import CLOCK
from prefrec_ray.runs.tuning.run import sweep
from prefrec_ray.runs.tuning.trial import SweepTrial

SECTION: dict[str, Any] = {
    "method": ["IL", "PrefRec"],
    "task": "depth",
    "seeds": [0],
    "base": {
        "train_batch_size_per_learner": 64,
        "preference_batch_size": 16,
        "hidden_sizes": [16, 16],
        "updates_per_iteration": 3,
        "pretrain_epochs": 1,
        "num_epochs": 2,
    },
    "metric": "policy/item_distance",
    "mode": "min",
    "max_concurrent": 1,
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
}
NAMES = ["IL_depth_0_000", "PrefRec_depth_0_001"]


def write(folder: Path, section: dict[str, Any]) -> str:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"tune": section}))
    return str(file)


def table(output: Path) -> list[dict[str, str]]:
    with open(output / "trials.csv") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def undisturbed(tiny_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, run while the data it has loaded are out of reach: a trial that reads them again fails.

    They come back for the policies, which are made when all trials have ended.
    """
    folder = tmp_path_factory.mktemp("undisturbed")
    data = Path(tiny_dataset)
    load, label = "load transitions: data sets", "label transitions: rewards"
    last_stage = {"transitions": load, "preferences": load, "requests": label}
    hidden = {name: (data / name, data / f"hidden_{name}") for name in last_stage}

    def hide(stage: str, done: int, total: int, note: str = "") -> None:
        for name, (shown, away) in hidden.items():
            if stage == last_stage[name] and done == total:
                shown.rename(away)

    def show(*_: Any) -> None:
        for shown, away in hidden.values():
            if away.exists():
                away.rename(shown)

    patched = pytest.MonkeyPatch()
    write_run = results.write_run
    patched.setattr(results, "write_run", lambda *given: (show(), write_run(*given))[1])
    tracked = record_runs(patched)
    settings = open_section(write(folder, SECTION), "tune")
    try:
        sweep(settings, tiny_dataset, str(folder / "sweep"), report=hide, tracking=RECORDED)
        (folder / "tracked.json").write_text(
            json.dumps({name: vars(run) for name, run in tracked.items()}, default=str)
        )
    finally:
        show()
        patched.undo()
    return folder / "sweep"


def test_the_trials_of_a_sweep_are_tracked(undisturbed: Path) -> None:
    tracked = json.loads((undisturbed.parent / "tracked.json").read_text())
    assert set(tracked) == set(NAMES)
    for row in table(undisturbed):
        trial = tracked[row["trial"]]
        assert trial["config"]["trial"]["method"] == row["method"]
        assert [step for step, _ in trial["rows"]] == list(range(1, int(row["training_iteration"]) + 1))
        assert trial["rows"][-1][1]["policy/item_distance"] == float(row["policy/item_distance"])
        assert trial["ends"] == ["finished"]


def test_a_sweep_leaves_table_policies_and_best_settings(undisturbed: Path, tiny_dataset: str) -> None:
    rows = table(undisturbed)
    assert [row["trial"] for row in rows] == NAMES
    assert {row["status"] for row in rows} == {"finished"}
    assert [row["losses/qf_loss"] == "" for row in rows] == [True, False]
    for name in NAMES:
        assert Policy.load(str(undisturbed / "policies" / name)).provenance["method"] == name.partition("_")[0]
    best = open_section(str(undisturbed / "best.yaml"), "train")
    assert best.method == min(rows, key=lambda row: float(row["policy/item_distance"]))["method"]
    assert best.dataset == tiny_dataset
    assert best.validation is None
    runs = load_runs([str(undisturbed)])
    assert len(runs) == 2
    assert all(list(run.curves) == list(COLUMNS) for run in runs)
    # The reward came pre-trained: no trial has an iteration of that phase.
    assert {phase for run in runs for phase in run.curves["phase"]} == {"train"}


#: The command in a process that has joined Ray; the command itself would first try the address in another process.
SCRIPT = """
import os, ray
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
from prefrec_ray.cli.main import main
main()
"""


def test_a_sweep_that_was_killed_ends_the_same(undisturbed: Path, tiny_dataset: str, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    command = [
        *(sys.executable, "-c", SCRIPT),
        *("tune", write(tmp_path, SECTION), "--dataset", tiny_dataset, "--output", str(output)),
    ]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert first.stdout is not None
    finished = []
    for line in first.stdout:
        if ": finished" in line:
            finished.append(line.partition(":")[0])
            break
    assert finished == NAMES[:1]
    running = output / NAMES[1]
    # Its second checkpoint is there: the first one is in the state of the sweep.
    while not list(running.glob("checkpoint_00000[1-9]")):
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (output / "trials.csv").exists()

    lines: list[str] = []
    settings = open_section(str(tmp_path / "sweep.yaml"), "tune")
    sweep(settings, tiny_dataset, str(output), resume=True, say=lines.append)
    assert [line.partition(":")[0] for line in lines if ": finished" in line] == NAMES[1:]
    # From the newest checkpoint that the state of the sweep knew of, not from the start.
    (went_on,) = (line for line in lines if "resuming" in line)
    assert went_on in [f"{NAMES[1]}: resuming from iteration {iteration}" for iteration in (2, 4)]
    assert table(output) == table(undisturbed)
    states = {str(trial): trial.last_result for trial in tune.ExperimentAnalysis(str(output)).trials}
    assert states[NAMES[1]]["resumed_from"] in (2, 4)
    assert states[NAMES[1]]["iterations_since_restore"] < states[NAMES[1]]["training_iteration"]
    for name in NAMES:
        actors = [folder / "policies" / name / "actor.safetensors" for folder in (output, undisturbed)]
        assert actors[0].read_bytes() == actors[1].read_bytes()


def test_one_process_at_a_time_tunes(undisturbed: Path, tiny_dataset: str, tmp_path: Path) -> None:
    with storage.claimed(str(undisturbed)), pytest.raises(UserError, match=r"sweep: process \d+ .* writes there since"):
        sweep(open_section(write(tmp_path, SECTION), "tune"), tiny_dataset, str(undisturbed), resume=True)


def test_a_trial_without_room_is_tried_again_and_then_named(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, lines = tmp_path / "attempts", []

    class NoRoom(SweepTrial):
        def save_checkpoint(self, checkpoint_dir: str) -> None:
            with attempts.open("a") as file:
                file.write(f"{self.name}\n")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run, "SweepTrial", NoRoom)
    section = {**SECTION, "method": "IL", "seeds": [0], "metric": None, "max_failures": 1}
    with pytest.raises(UserError, match="1 of 1 trials failed, IL_depth_0_000 with: no space left to write to"):
        sweep(open_section(write(tmp_path, section), "tune"), tiny_dataset, str(tmp_path / "sweep"), say=lines.append)
    (line,) = (line for line in lines if line.startswith("trials get no ranking and no best.yaml"))
    assert {"losses/actor_loss", "policy/item_distance"} <= set(re.split("[ ,]+", line))
    assert attempts.read_text().splitlines() == ["IL_depth_0_000"] * 2


@pytest.mark.parametrize("changes", [{"seeds": [2]}, {"validation": {"every": 2, "estimators": ["ncis"]}}])
def test_another_sweep_is_not_resumed(
    undisturbed: Path, tiny_dataset: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    other = open_section(write(tmp_path, {**SECTION, **changes}), "tune")
    with pytest.raises(UserError, match=r"started with settings\.\w+"):
        sweep(other, tiny_dataset, str(undisturbed), resume=True)


def test_trials_that_fail_and_a_metric_without_values(tiny_dataset: str, tmp_path: Path) -> None:
    section = {**SECTION, "method": "IL", "seeds": [0], "metric": "losses/qf_loss", "max_failures": 0}
    section["base"] = {**SECTION["base"], "updates_per_iteration": 18}
    section["search"] = {"train_batch_size_per_learner": {"grid": [64, 80000]}}
    output = tmp_path / "sweep"
    with pytest.raises(UserError, match=r"1 of 2 trials failed, IL_depth_0_001 with: .*expected a smaller batch"):
        sweep(open_section(write(tmp_path, section), "tune"), tiny_dataset, str(output))
    assert [row["status"] for row in table(output)] == ["finished", "failed"]
    section["search"] = {"actor_lr": {"grid": [1e-4, 1e30]}}
    with pytest.raises(UserError, match=r"failed, IL_depth_0_001 with: iteration \d+: .*(diverged|finite)"):
        sweep(open_section(write(tmp_path, section), "tune"), tiny_dataset, str(tmp_path / "wild"))
    section["search"] = {"train_batch_size_per_learner": {"grid": [64]}}
    with pytest.raises(UserError, match="no trial reported the metric 'losses/qf_loss'"):
        sweep(open_section(write(tmp_path, section), "tune"), tiny_dataset, str(tmp_path / "other"))


SEARCH = {
    **SECTION,
    "method": "PrefRec",
    "seeds": [0],
    "num_samples": 2,
    "max_concurrent": 2,
    "search": {"actor_lr": {"loguniform": [1e-5, 1e-2]}, "expectile": {"uniform": [0.5, 0.9]}},
}


def test_a_searcher_with_a_scheduler(tiny_dataset: str, tmp_path: Path) -> None:
    section = {**SEARCH, "searcher": "optuna", "scheduler": "asha"}
    section["base"] = {**SECTION["base"], "updates_per_iteration": 9}
    rows = sweep(open_section(write(tmp_path, section), "tune"), tiny_dataset, str(tmp_path / "sweep"))
    assert len({row["trial"] for row in rows}) == 2
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    assert all(1e-5 <= row["actor_lr"] <= 1e-2 for row in rows)


def first_is_best() -> Any:
    """A scorer who scores every third iteration, each lower than the one before."""

    class Judge:  # local, so that trials get the class itself: they cannot import this file
        metric = "validation/preference"

        def due(self, iteration: int, last: bool) -> bool:
            self.iteration = iteration
            return last or iteration % 3 == 0

        def scores(self, policy: Policy, task: str) -> dict[str, float]:
            return {self.metric: 1 / self.iteration}

    return Judge()


def test_a_sweep_begins_again_and_keeps_the_policies_that_train_keeps(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "sweep"
    # The real scorer cannot read histories as short as these.
    monkeypatch.setattr(ValidationScorer, "prepare", lambda *arguments: first_is_best())
    section = {**SECTION, "method": "IL", "seeds": [0], "metric": "validation/preference", "mode": "max"}
    section["validation"] = {"every": 3, "estimators": ["preference"]}
    settings = open_section(write(tmp_path, section), "tune")
    # Killed before its first trial, it begins again.
    with monkeypatch.context() as first:
        first.setattr(run, "_tuner", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep(settings, tiny_dataset, str(output))
    assert not list(output.glob("*-state-*"))
    (row,) = sweep(settings, tiny_dataset, str(output), resume=True)
    assert (row["status"], row["policy_iteration"]) == ("finished", 3)
    assert row["training_iteration"] > 3
    assert row["validation/preference"] == pytest.approx(1 / 3)

    # Training with best.yaml gives the same policy.
    best = open_section(str(output / "best.yaml"), "train")
    assert best.validation == settings.validation
    start_run(best, tiny_dataset, str(tmp_path / "run"))
    kept, alone = (output / "policies" / row["trial"], tmp_path / "run" / "policy")
    assert (kept / "actor.safetensors").read_bytes() == (alone / "actor.safetensors").read_bytes()
    export_policy(checkpoints(str(tmp_path / "run"))[-1], str(tmp_path / "last"))
    assert (tmp_path / "last" / "actor.safetensors").read_bytes() != (kept / "actor.safetensors").read_bytes()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"resources": {"cpus": 64}}, "trial IL_depth_0_000 asks for 64 CPU, the cluster has 2"),
    ({"search": {"reward_leave_out": {"grid": [["item"]]}}}, "unknown group 'item'; did you mean 'items'?"),
    ({"search": {"teachers": {"grid": [["nobody"]]}}}, "teachers: unknown teacher 'nobody'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes_that_the_data_show_leave_no_folder(
    tiny_dataset: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    output = tmp_path / "sweep"
    with pytest.raises(UserError) as error:
        sweep(open_section(write(tmp_path, {**SECTION, **changes}), "tune"), tiny_dataset, str(output))
    assert message in str(error.value)
    assert not output.exists()
