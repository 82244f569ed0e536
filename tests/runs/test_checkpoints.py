"""Checkpoints: whole or skipped, the last few and the best kept, and a killed run ends like one that never was."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import random
import re
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
from tiny import SHORT_RUN

from prefrec_ray import storage
from prefrec_ray.algorithms.base.algorithm import on_first_learner
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly.work import Stages
from prefrec_ray.policy import Policy
from prefrec_ray.runs import train
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.runs.export import export_policy, load_reward
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import run_iteration, start_run
from prefrec_ray.storage.checksums import MANIFEST, damage, seal

SETTINGS: dict[str, Any] = {
    "task": "depth",
    "checkpoint_every": 1,
    "keep_checkpoints": 3,
    "config": {
        **SHORT_RUN,
        "serving": {"temperature": 0.2, "variety": 1.0, "repetition": 0.0, "scores": "q"},
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
    """A validation scorer with given scores by iteration."""

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
    start_run(TrainSettings(**SETTINGS), tiny_dataset, str(output))
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


def flip_manifest(checkpoint: Path) -> None:
    """A digit of a size or a checksum."""
    text = (checkpoint / MANIFEST).read_text()
    place = re.search(r"\d", text.partition(":")[2])
    assert place is not None
    at = text.index(":") + 1 + place.start()
    (checkpoint / MANIFEST).write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])


def other_types(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text('{"files": 3}')


@pytest.mark.parametrize("harm", [cut, flip, lose, unfinished, flip_manifest, other_types])
def test_a_damaged_checkpoint_is_passed_over(
    whole: Path, tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(whole, tmp_path / "run")
    newest, before = sorted(run.glob("checkpoint_*"), reverse=True)[:2]
    harm(newest)
    with caplog.at_level(logging.WARNING), first_whole(reversed(checkpoints(str(run)))) as checkpoint:
        assert checkpoint is not None
        assert checkpoint[0] == str(before)
    (line,) = caplog.messages
    assert newest.name in line
    assert "damaged" in line
    with pytest.raises(UserError, match=r"checkpoint_\d+: (damaged \(|not a training checkpoint;)"):
        export_policy(str(newest), str(tmp_path / "policy"))
    assert not (tmp_path / "policy").exists()


def test_a_run_with_a_damaged_checkpoint_ends_the_same(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    first, *others = sorted(run.glob("checkpoint_*"))
    for checkpoint in others:
        flip(checkpoint)
    (run / "policy.0123.partial").mkdir()
    (run / "result.json").write_text("")
    messages: list[str] = []
    rows = start_run(TrainSettings(**SETTINGS), tiny_dataset, str(run), resume=True, say=messages.append)
    assert messages == [f"resuming from iteration {int(first.name[-6:])}"]
    assert [row["training_iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["progress"] == 1.0
    for name in ("result.json", "progress.csv"):
        assert len((run / name).read_text().splitlines()) == len((whole / name).read_text().splitlines())
    assert (run / "policy/actor.safetensors").read_bytes() == (whole / "policy/actor.safetensors").read_bytes()
    assert all(damage(checkpoint) is None for checkpoint in checkpoints(str(run)))
    assert not list(run.glob("*.partial"))


def test_the_last_ones_and_the_best_are_kept(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    scores = {1: math.nan, 2: 1.0, 3: 2.0, 4: 1.5}  # NaN: no user has a level
    settings = TrainSettings(**{**SETTINGS, "keep_checkpoints": 2}, validation={"every": 1})
    monkeypatch.setattr("prefrec_ray.runs.train.ValidationScorer.prepare", lambda *arguments: Scripted(scores))
    rows = start_run(settings, tiny_dataset, str(run))
    last = len(rows)
    kept = [int(Path(uri).name.split("_")[1]) for uri in checkpoints(str(run))]
    assert kept == [3, last - 1, last]
    assert [row["validation/ncis"] for row in rows[:4]] == [None, 1.0, 2.0, 1.5]
    # The policy is the best one, not the last.
    exported = Policy.load(f"{run}/policy")
    assert exported.actor is not None
    states = np.random.default_rng(0).normal(size=(5, exported.state.width)).astype(np.float32)
    best = export_policy(f"{run}/checkpoint_000003", str(tmp_path / "best"))
    export_policy(f"{run}/checkpoint_{last:06d}", str(tmp_path / "final"))
    assert np.array_equal(exported.act(states), best.act(states))
    # Their actions may be the same items, so the test compares weights.
    kept, first, final = (
        folder / "actor.safetensors" for folder in (run / "policy", tmp_path / "best", tmp_path / "final")
    )
    assert kept.read_bytes() == first.read_bytes() != final.read_bytes()


def kill_once(settings: dict[str, Any], dataset: str, run: Path, wait: float) -> tuple[bool, str]:
    """Train (or resume) in a child process that is killed `wait` seconds after Ray's start.

    Returns whether it was killed before its end, and its output.
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
        return process.wait() != 0, process.stdout.read().strip()
    finally:
        process.kill()


def newest_whole(run: Path) -> str:
    """Return the message of a run that resumes from its newest complete checkpoint."""
    whole = [int(uri[-6:]) for uri in checkpoints(str(run)) if damage(uri) is None]
    return f"resuming from iteration {whole[-1]}" if whole else "no complete checkpoint: from the start"


def check_kills(
    whole: Path, dataset: str, folder: Path, kills: int, seed: int, settings: dict[str, Any] = SETTINGS
) -> None:
    moments = random.Random(seed)
    run, killed, ended = folder / "run", 0, 0
    while killed < kills:
        expected = newest_whole(run)
        was_killed, message = kill_once(settings, dataset, run, moments.uniform(0.0, 4.0))
        assert message in ("", expected)  # empty if it was killed earlier
        killed += was_killed
        if (run / "policy/policy.json").exists():
            assert (run / "policy/actor.safetensors").read_bytes() == (whole / "policy/actor.safetensors").read_bytes()
            ended += 1
            run = folder / f"run{ended}"
    expected, lines = newest_whole(run), list[str]()
    start_run(TrainSettings(**settings), dataset, str(run), resume=True, say=lines.append)
    assert lines == [expected]
    assert (run / "policy/actor.safetensors").read_bytes() == (whole / "policy/actor.safetensors").read_bytes()
    assert not [path for path in folder.rglob("*") if path.suffix in (".partial", ".claim")]


def test_a_killed_run_ends_with_the_same_weights(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    check_kills(whole, tiny_dataset, tmp_path, kills=1, seed=int(time.time()))


def test_a_run_with_a_killed_learner_continues_by_itself(
    whole: Path, tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `max_failures` it ends. A night's run continues, and ends with the weights of an undisturbed run."""
    remote = {**SETTINGS["config"], "num_learners": 1}
    kills, losses, lines = [2], [ray.exceptions.RayActorError()], list[str]()

    def fail_once(*arguments: Any) -> Any:
        if losses:
            raise losses.pop()
        return run_iteration(*arguments)

    with monkeypatch.context() as lost:
        lost.setattr(train, "run_iteration", fail_once)
        with pytest.raises(ray.exceptions.RayActorError):
            start_run(TrainSettings(**SETTINGS, max_failures=0), tiny_dataset, str(tmp_path / "ended"))
    assert not (tmp_path / "ended" / "policy").exists()

    def killing(algorithm: Any, *arguments: Any) -> Any:
        if kills and algorithm.iteration == kills[0]:
            kills.pop(0)
            os.kill(on_first_learner(algorithm.learner_group, lambda learner: os.getpid()), signal.SIGKILL)
        return run_iteration(algorithm, *arguments)

    monkeypatch.setattr(train, "run_iteration", killing)
    run, log = (
        tmp_path / "nights/0001/run",
        PrepareSettings.model_validate({"source": {"kind": "simulator", "path": "logs"}}),
    )
    settings = TrainSettings(**{**SETTINGS, "config": remote})
    Stages(log, settings, EvaluateSettings(), "loop.yaml", say=lines.append).train(tiny_dataset, str(run), None)
    assert kills == []
    assert [line.partition(": ")[0] for line in lines[:2]] == ["failure 1 of at most 3", "resuming from iteration 2"]
    assert (run / "policy/actor.safetensors").read_bytes() == (whole / "policy/actor.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    check_kills(whole, tiny_dataset, tmp_path, kills=20, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_of_two_learners(tiny_dataset: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    start_run(TrainSettings(**TWO_LEARNERS), tiny_dataset, str(whole))
    check_kills(whole, tiny_dataset, tmp_path, kills=20, seed=1, settings=TWO_LEARNERS)


class Trap:
    """Creates a file if it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_weights_alone_are_read_without_a_pickle(whole: Path, tiny_dataset: str, tmp_path: Path) -> None:
    """Every pickle of a checkpoint is a trap, and the checkpoint has a valid seal, as an attacker could make it."""
    run = copy(whole, tmp_path / "run")
    newest = max(run.glob("checkpoint_*"))
    pickles = list(newest.rglob("*.pkl"))
    assert pickles
    for file in pickles:
        file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    seal(str(newest))
    export_policy(str(newest), str(tmp_path / "policy"))
    assert (tmp_path / "policy/actor.safetensors").read_bytes() == (whole / "policy/actor.safetensors").read_bytes()
    for uri in (run, newest):
        reward = load_reward(str(uri))
        assert all(parameter.isfinite().all() for parameter in reward.net.parameters())
    assert not (tmp_path / "sprung").exists()


def test_weights_of_a_checkpoint_that_are_not_finite(whole: Path, tmp_path: Path) -> None:
    newest = copy(max(whole.glob("checkpoint_*")), tmp_path / "checkpoint")
    arrays = storage.read_arrays(str(newest / "weights.npz"))
    name = next(iter(arrays))
    arrays[name].flat[0] = np.inf
    storage.write_arrays(str(newest / "weights.npz"), arrays)
    with pytest.raises(UserError, match=r"damaged \(weights.npz was changed after it was written\)"):
        export_policy(str(newest), str(tmp_path / "policy"))
    seal(str(newest))
    with pytest.raises(UserError, match="has numbers that are not finite"):
        export_policy(str(newest), str(tmp_path / "policy"))
