"""A run's folder: complete, resumed to the same end, and refused if damaged."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from recorder import RECORDED, record_runs
from tiny import SHORT_RUN, learner_of

from prefrec_ray.algorithms.base.module import NetworkWeights
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import ValidationSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import checkpoint_of, checkpoints
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.tracking import Tracking
from prefrec_ray.runs.train import COLUMNS, build_config, check_output, describe, start_run
from prefrec_ray.settings import parse


def settings(**changes: Any) -> TrainSettings:
    return parse(TrainSettings, {"task": "depth", "checkpoint_every": 2, "config": SHORT_RUN, **changes}, "train")


class Stop(Exception):
    pass


def stop_at(iteration: int) -> Callable[..., None]:
    """A report that raises `Stop` after an iteration."""

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        if done == iteration:
            raise Stop

    return report


def test_a_run_leaves_its_curves_checkpoints_and_policy(
    tiny_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "run")
    seen: list[tuple] = []
    clock = itertools.count(50)  # a second per iteration
    monkeypatch.setattr("prefrec_ray.runs.train.time", SimpleNamespace(monotonic=lambda: next(clock)))
    tracked = record_runs(monkeypatch)
    tracking = Tracking(RECORDED, output)
    rows = start_run(settings(), tiny_dataset, output, report=lambda *report: seen.append(report), tracking=tracking)
    assert rows[-1]["progress"] == 1.0
    assert [step for step, _ in tracked["run"].rows] == list(range(1, len(rows) + 1))
    assert tracked["run"].rows[-1][1]["losses/qf_loss"] == rows[-1]["losses/qf_loss"]
    assert tracked["run"].config["resolved"]["gamma"] == 0.97
    assert tracked["run"].ends == ["finished"]
    assert {row["phase"] for row in rows} == {"pretrain", "train"}
    done = np.cumsum([row["transitions"] or 0 for row in rows])
    rates = [f"{count / (number + 1):,.0f} transitions/s" for number, count in enumerate(done)]
    notes = ["reward" if row["phase"] == "pretrain" else rate for row, rate in zip(rows, rates, strict=True)]
    stage = "train: iterations"
    assert seen == [
        (stage, 0, 0, "starting"),
        *((stage, number, len(rows), note) for number, note in enumerate(notes, start=1)),
    ]
    with open(f"{output}/progress.csv") as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == list(COLUMNS)
    assert [int(row["training_iteration"]) for row in written] == list(range(1, len(rows) + 1))
    assert json.loads(Path(output, "config.json").read_text())["resolved"]["gamma"] == 0.97
    assert len(list(Path(output).glob("checkpoint_*"))) == 2
    assert not list(Path(output).glob("*.partial"))
    policy = Policy.load(f"{output}/policy")
    assert policy.provenance["task"] == "depth"
    states = np.zeros((3, PreparedDataset.open(tiny_dataset).metadata.state_dim), dtype=np.float32)
    assert policy.act(states).shape == (3, 2)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"num_learners": 1, "num_cpus_per_learner": 100},
            "the run asks for 100 CPU, the cluster has 2; expected less",
        ),
        ({"num_learners": 2, "custom_resources_per_learner": {"spot": 1}}, "asks for 2 spot, the cluster has 0"),
        ({"num_gpus_per_learner": 1}, "asks for 1 GPU, the cluster has 0"),
    ],
)
def test_what_the_cluster_does_not_have_is_not_waited_for(
    tiny_dataset: str, tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        start_run(settings(config={**SHORT_RUN, **asked}), tiny_dataset, str(tmp_path / "run"))
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_task_that_is_not_prepared(tiny_dataset: str, tmp_path: Path) -> None:
    words = r"task 'mixture': its preferences are prepared for depth; see prepare\.preferences\.tasks"
    with pytest.raises(UserError, match=words):
        start_run(settings(task="mixture"), tiny_dataset, str(tmp_path / "run"))


def test_a_stopped_run_resumes_to_the_same_policy(tiny_dataset: str, tmp_path: Path) -> None:
    bf16 = settings(config={**SHORT_RUN, "precision": "bf16"})
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    expected = start_run(bf16, tiny_dataset, whole)

    with pytest.raises(Stop):
        start_run(bf16, tiny_dataset, stopped, report=stop_at(4))
    # Iteration 4 has not been saved: the run goes on from the checkpoint before.
    assert checkpoints(stopped) == [f"{stopped}/checkpoint_000002", f"{stopped}/checkpoint_000004"]
    Path(stopped, "checkpoint_000004").rename(tmp_path / "aside")
    messages: list[str] = []
    rows = start_run(bf16, tiny_dataset, stopped, resume=True, say=messages.append)
    assert json.loads(Path(stopped, "config.json").read_text())["resolved"]["precision"] == "bf16"
    assert [row["losses/qf_loss"] for row in rows] == [row["losses/qf_loss"] for row in expected]
    assert (
        Path(stopped, "policy/actor.safetensors").read_bytes() == Path(whole, "policy/actor.safetensors").read_bytes()
    )
    assert messages == [
        "resuming from iteration 2",
        "serving rule: not chosen by roll-outs (no user in the split 'train' has two sessions)",
    ]


def test_a_run_goes_on_with_the_learner_of_its_checkpoint(tiny_dataset: str, tmp_path: Path) -> None:
    """With the checkpoint of another seed it ends with other weights than a run that begins again would."""
    resumed, other = str(tmp_path / "resumed"), str(tmp_path / "other")

    for seed, output in ((0, resumed), (1, other)):
        with pytest.raises(Stop):
            start_run(settings(seed=seed), tiny_dataset, output, report=stop_at(3))
    Path(checkpoint_of(resumed, 2)).rename(tmp_path / "own")
    Path(checkpoint_of(other, 2)).rename(checkpoint_of(resumed, 2))
    expected = build_config(settings(), tiny_dataset).build_algo()
    try:
        expected.restore_from_path(checkpoint_of(resumed, 2))
        rows = start_run(settings(), tiny_dataset, resumed, resume=True)
        while expected.iteration < len(rows):
            expected.train()
        arrays = NetworkWeights.from_module(learner_of(expected).net).arrays
    finally:
        expected.stop()
    ended = NetworkWeights.load(checkpoints(resumed)[-1]).arrays
    assert arrays.keys() == ended.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(ended[name], array, err_msg=name)


def test_an_existing_folder_and_other_settings_are_refused(tiny_dataset: str, tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    start_run(settings(), tiny_dataset, output)
    with pytest.raises(UserError, match="already exists"):
        start_run(settings(), tiny_dataset, output)
    with pytest.raises(UserError, match="started with seed = 0, resumed with 1"):
        start_run(settings(seed=1), tiny_dataset, output, resume=True)


def test_what_is_no_run_is_not_gone_on_with(tiny_dataset: str, tmp_path: Path) -> None:
    mine = ("checkpoint_7/weights.bin", "download.partial", "notes.txt")
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=r"nothing to resume \(no config.json in it\); choose another output folder"):
        start_run(settings(), tiny_dataset, str(tmp_path), resume=True)
    assert all((tmp_path / name).read_text() == "mine" for name in mine)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json: found list; expected the settings of a run"):
        start_run(settings(), tiny_dataset, str(tmp_path), resume=True)


def test_a_run_killed_as_it_began_is_begun_again(tiny_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "config.json.0123abcd.partial").write_text("{")
    assert check_output(str(tmp_path), "config.json", describe(settings(), tiny_dataset), resume=True) == {}


BAD = [
    ({"method": "PrefReq"}, "found 'PrefReq'; did you mean 'PrefRec'?"),
    ({"config": {"expectle": 0.7}}, "key 'config.expectle': unknown key; did you mean 'expectile'?"),
    ({"config": {"gamma": "high"}}, "key 'config.gamma': expected a number, found 'high'"),
    ({"config": {"finetune_reward": 1}}, "expected true or false"),
    ({"config": {"num_epochs": None}}, "key 'config.num_epochs': expected a number, found None"),
    ({"config": {"reward_leave_out": "items"}}, "expected a list"),
    ({"config": {"q_products": ["item"]}}, "key 'config.q_products.0': expected 'items' or 'tastes', found 'item'"),
    *(
        ({"config": {key: value}}, f"key 'config.{key}")
        for key, value in {
            "train_batch_size_per_learner": "4e3",
            "updates_per_iteration": -3,
            "hidden_sizes": [],
            "actor_lr": "-1e-4",
            "preference_batch_size": 16.5,
            "tau": 5,
            "gamma": float("nan"),
            "serving": "banana",
            "num_learners": -3,
            "seed": 1,
        }.items()
    ),
    ({"method": "TD3", "config": {"policy_delay": 0}}, "key 'config.policy_delay': expected greater than 0, found 0"),
    ({"config": {"hidden_sizes": ["a"]}}, "key 'config.hidden_sizes.0': expected a whole number, found 'a'"),
    ({"config": {"serving": {"rule": "l1"}}}, "key 'config.serving.rule': expected"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(TrainSettings, changes, "a.yaml: train")
    assert message in str(error.value)
    assert str(error.value).startswith("a.yaml: train: ")
    with pytest.raises(ValidationError, match=re.escape(message)):
        TrainSettings(**changes)


GROUPS = ["profile", "feedback", "items", "tastes", "sessions", "time", "recency", "counts"]
BAD_ON_DATA = [
    ({"expectile": 1.5}, "key 'config.expectile': expected less than 1, found 1.5"),
    ({"pairing": "within"}, "key 'config.pairing': expected 'any_users' or 'within_user', found 'within'"),
    ({"reward_leave_out": ["item"]}, "reward_leave_out: unknown group 'item'; did you mean 'items'?"),
    (
        {"reward_input": "next_state", "reward_leave_out": GROUPS},
        "reward_leave_out: found no other column for the reward",
    ),
    ({"train_batch_size_per_learner": 80000}, "expected a smaller batch"),
    ({"gamma": 1}, "key 'config.gamma': expected less than 1, found 1"),
    ({"replay_buffer_size": 0}, "key 'config.replay_buffer_size': expected greater than 0, found 0"),
    ({"replay_buffer_size": 50}, "for 48 transitions in use"),
]


@pytest.mark.parametrize(("config", "message"), BAD_ON_DATA)
def test_settings_that_do_not_fit_the_data(
    tiny_dataset: str, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    output = tmp_path / "run"
    with pytest.raises(UserError) as error:
        start_run(settings(config={**SHORT_RUN, **config}), tiny_dataset, str(output))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not output.exists()


def test_what_may_be_null_may_be_so_under_every_recipe() -> None:
    for recipe in ("paper", "robust"):
        config = build_config(TrainSettings(recipe=recipe, config={"replay_buffer_size": None}), "dataset")
        assert config.replay_buffer_size is None


def test_numbers_of_yaml_one_one() -> None:
    # YAML 1.1 takes 3e-4 for a text.
    assert build_config(TrainSettings(config={"actor_lr": "3e-4"}), "dataset").actor_lr == 3e-4


def test_a_single_setting_overrides_its_recipe() -> None:
    config = build_config(TrainSettings(recipe="paper", config={"gamma": 0.5}), "dataset")
    assert (config.gamma, config.actor_lr, config.reward_input) == (0.5, 5e-6, "state_action")


def test_training_that_diverges_ends_as_a_mistake(tiny_dataset: str, tmp_path: Path) -> None:
    wild = settings(method="TD3", config={**SHORT_RUN, "critic_lr": 1e30}, checkpoint_every=1)
    with pytest.raises(UserError, match=r"iteration \d+: losses/qf_loss: found (inf|nan) first; .* diverged"):
        start_run(wild, tiny_dataset, str(tmp_path / "run"))
    assert not (tmp_path / "run/policy").exists()
    # Weights may go in the last update of all, which no loss has seen.
    wild = settings(method="IL", config={**SHORT_RUN, "actor_lr": 1e39, "num_epochs": 0.01, "updates_per_iteration": 1})
    with pytest.raises(UserError, match=r"iteration 1: 'actor\.net.*' has numbers that are not finite"):
        start_run(wild, tiny_dataset, str(tmp_path / "last"))
    assert not list((tmp_path / "last").glob("checkpoint*"))


def test_one_process_at_a_time_trains_a_run(tiny_dataset: str, tmp_path: Path) -> None:
    output = str(tmp_path / "run")

    def second(stage: str, done: int, total: int, note: str = "") -> None:
        if not done:  # before the run has files
            return
        for resume in (False, True):
            with pytest.raises(UserError, match=r"run: process \d+ on .* writes there since"):
                start_run(settings(), tiny_dataset, output, resume=resume)
        raise Stop

    with pytest.raises(Stop):
        start_run(settings(), tiny_dataset, output, report=second)
    with pytest.raises(UserError, match="already exists"):
        start_run(settings(), tiny_dataset, output)
    assert not list(tmp_path.glob("*.claim"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_another_users_checkpoints_are_not_loaded(tiny_dataset: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    start_run(settings(), tiny_dataset, str(output))
    file = sorted(output.glob("checkpoint_*/**/*.pkl"))[-1]
    os.chown(file, 12345, -1)
    with pytest.raises(UserError, match=f"{file}: found a file of user 12345, and checkpoints run code"):
        start_run(settings(), tiny_dataset, str(output), resume=True)


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
    lines: list[str] = []
    rows = start_run(
        settings(method="IL", validation=ValidationSettings()), tiny_dataset, str(tmp_path / "run"), say=lines.append
    )
    assert lines == [
        f"validation: not used, because only one of {len(rows)} iterations would be scored; expected a smaller `every`"
    ]
    assert not any(name.startswith("validation/") for name in rows[-1])
    assert (tmp_path / "run" / "policy").exists()
