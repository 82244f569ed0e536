"""Checkpoints: whole or skipped, the last few and the best kept, and a killed run ends like one that never was."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import MANIFEST, best_checkpoint, checkpoints, damage, latest_checkpoint
from prefrec_ray.runs.export import export_policy
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import train

SETTINGS: dict[str, Any] = {
    "task": "depth",
    "checkpoint_every": 1,
    "keep_checkpoints": 3,
    "config": {
        "train_batch_size_per_learner": 64,
        "preference_batch_size": 16,
        "hidden_sizes": [16, 16],
        "updates_per_iteration": 5,
        "pretrain_epochs": 1,
        "num_epochs": 1,
    },
}


#: The same run on two learners, each a process of its own.
TWO_LEARNERS: dict[str, Any] = {
    **SETTINGS,
    "config": {
        **SETTINGS["config"],
        "num_learners": 2,
        "train_batch_size_per_learner": 32,
        "num_cpus_per_learner": 0.5,
    },
}


class Scripted:
    """A judge that gives the scores it was told, by iteration."""

    metric = "validation/ncis"

    def __init__(self, scores: dict[int, float]) -> None:
        self.given = scores
        self.iteration = 0

    def due(self, iteration: int, last: bool) -> bool:
        self.iteration = iteration
        return iteration in self.given

    def scores(self, policy: Policy, task: str) -> dict[str, float]:
        return {"validation/ncis": self.given[self.iteration]}


@pytest.fixture(scope="module")
def whole(tiny_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "run"
    train(TrainSettings(**SETTINGS), tiny_dataset, str(output))
    return output


def copy(run: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", str(run), str(target)], check=True)
    return target


def largest(checkpoint: Path) -> Path:
    return max((file for file in checkpoint.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def cut(checkpoint: Path) -> None:
    file = largest(checkpoint)
    file.write_bytes(file.read_bytes()[:-7])


def flip(checkpoint: Path) -> None:
    file = largest(checkpoint)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose(checkpoint: Path) -> None:
    largest(checkpoint).unlink()


def unfinished(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()


@pytest.mark.parametrize("harm", [cut, flip, lose, unfinished])
def test_a_damaged_checkpoint_is_passed_over(
    whole: Path, tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(whole, tmp_path / "run")
    newest, before = sorted(run.glob("checkpoint_*"), reverse=True)[:2]
    harm(newest)
    with caplog.at_level(logging.WARNING), latest_checkpoint(str(run)) as found:
        assert found is not None
        assert found[0] == str(before)
    (line,) = caplog.messages
    assert newest.name in line
    assert "damaged" in line


def test_a_run_with_a_damaged_checkpoint_ends_the_same(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    for checkpoint in sorted(run.glob("checkpoint_*"))[1:]:
        flip(checkpoint)
    (run / "policy.0123.partial").mkdir()
    rows = train(TrainSettings(**SETTINGS), tiny_dataset, str(run), resume=True)
    assert rows[-1]["progress"] == 1.0
    assert (run / "policy/actor.npz").read_bytes() == (whole / "policy/actor.npz").read_bytes()
    assert all(damage(checkpoint) is None for checkpoint in checkpoints(str(run)))
    assert not list(run.glob("*.partial"))


def test_the_last_ones_and_the_best_are_kept(tiny_dataset: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scores = {2: 1.0, 3: 2.0, 4: 1.5}
    settings = TrainSettings(**{**SETTINGS, "keep_checkpoints": 2})
    rows = train(settings, tiny_dataset, str(run), judge=Scripted(scores))
    last = len(rows)
    kept = [int(Path(uri).name.split("_")[1]) for uri in checkpoints(str(run))]
    assert kept == [3, last - 1, last]
    assert best_checkpoint(str(run)) == f"{run}/checkpoint_000003"
    assert [row["validation/ncis"] for row in rows[:4]] == [None, 1.0, 2.0, 1.5]
    # The policy is the best one, not the last.
    exported = Policy.load(f"{run}/policy")
    assert exported.actor is not None
    states = np.random.default_rng(0).normal(size=(5, exported.state.width)).astype(np.float32)
    best = export_policy(f"{run}/checkpoint_000003", str(tmp_path / "best"))
    export_policy(f"{run}/checkpoint_{last:06d}", str(tmp_path / "final"))
    assert np.array_equal(exported.act(states), best.act(states))
    # Their actions may be the same items: the weights tell them apart.
    kept, first, final = (folder / "actor.npz" for folder in (run / "policy", tmp_path / "best", tmp_path / "final"))
    assert kept.read_bytes() == first.read_bytes() != final.read_bytes()


def kill_once(settings: dict[str, Any], dataset: str, run: Path, wait: float) -> bool:
    """Trains (or goes on) in a process of its own, killed `wait` seconds after the run's folder is there.

    Whether it was killed before its end.
    """
    command = [sys.executable, str(Path(__file__).with_name("train_until_killed.py"))]
    command += [json.dumps(settings), dataset, str(run)]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "training"
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        return process.wait() != 0
    finally:
        process.kill()


def check_kills(
    whole: Path, dataset: str, folder: Path, kills: int, seed: int, settings: dict[str, Any] = SETTINGS
) -> None:
    moments = random.Random(seed)
    run, killed = folder / "run", 0
    for _ in range(kills):
        killed += kill_once(settings, dataset, run, moments.uniform(0.0, 4.0))
        if (run / "policy/policy.json").exists():
            assert (run / "policy/actor.npz").read_bytes() == (whole / "policy/actor.npz").read_bytes()
            run = folder / f"run{killed}"
    assert killed
    train(TrainSettings(**settings), dataset, str(run), resume=True)
    assert (run / "policy/actor.npz").read_bytes() == (whole / "policy/actor.npz").read_bytes()


def test_a_killed_run_ends_with_the_same_weights(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    check_kills(whole, tiny_dataset, tmp_path, kills=2, seed=int(time.time()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    check_kills(whole, tiny_dataset, tmp_path, kills=20, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_of_two_learners(tiny_dataset: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(TrainSettings(**TWO_LEARNERS), tiny_dataset, str(whole))
    check_kills(whole, tiny_dataset, tmp_path, kills=20, seed=1, settings=TWO_LEARNERS)
