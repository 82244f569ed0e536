"""Shared results of trials equal the results of each trial by itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.rllib.core import DEFAULT_MODULE_ID

from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.reward.model import pretrain
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import build_config
from prefrec_ray.runs.tuning.settings import ResourceSettings
from prefrec_ray.runs.tuning.shared import share

CONFIG = {
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "hidden_sizes": [16, 16],
    "updates_per_iteration": 6,
    "pretrain_epochs": 1.5,
    "num_epochs": 1,
    "finetune_reward": True,
}


def run_of(method: str = "PrefRec", **changes: Any) -> TrainSettings:
    return TrainSettings(method=method, task="depth", seed=3, config={**CONFIG, **changes})


def trained(config: OfflineConfig) -> tuple[list[str], dict[str, np.ndarray]]:
    """The phases of a whole run, and the weights it ends with."""
    algorithm = config.build_algo()
    rows = [algorithm.train()]
    while not rows[-1]["done"]:
        rows.append(algorithm.train())
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    algorithm.stop()
    return [row["phase"] for row in rows], {k: np.array(v) for k, v in state[DEFAULT_MODULE_ID].items()}


@pytest.mark.parametrize("method", ["PrefRec", "TD3_BC"])
def test_a_given_reward_ends_in_the_same_weights(tiny_dataset: str, method: str) -> None:
    alone_phases, alone = trained(build_config(run_of(method), tiny_dataset))
    # Fine-tuning goes on from the moments and from the place in the preferences: both must have come along.
    config = build_config(run_of(method), tiny_dataset)
    data = load_data(config.data_request)
    reward = pretrain(build_config(run_of("PrefRec"), tiny_dataset).reward_request, data)
    phases, weights = trained(config.offline_data(loaded_data=data, pretrained_reward=reward))
    assert alone_phases[:2] == ["pretrain", "pretrain"]
    assert phases == alone_phases[2:]
    for name, value in alone.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def test_the_key_tells_rewards_apart_by_what_they_depend_on(tiny_dataset: str) -> None:
    key = build_config(run_of(), tiny_dataset).reward_request
    assert key == build_config(run_of("IQL", gamma=0.5, actor_lr=1e-2), tiny_dataset).reward_request
    for change in ({"reward_lr": 1e-2}, {"pretrain_epochs": 2}, {"scoring": "sum"}, {"hidden_sizes": [8]}):
        assert key != build_config(run_of(**change), tiny_dataset).reward_request
    assert build_config(run_of(pretrain_epochs=0), tiny_dataset).reward_request is None
    assert build_config(run_of("IL"), tiny_dataset).reward_request is None


def test_one_copy_of_each_and_rewards_are_kept(tiny_dataset: str, tmp_path: Path) -> None:
    runs = [run_of(), run_of("TD3_BC"), run_of("IL"), run_of(scoring="sum")]
    folder = str(tmp_path / "rewards")
    shared = share(runs, tiny_dataset, runs, folder, ResourceSettings(), lambda *stage: None)
    assert len(shared.data) == 3
    assert len({id(data.shards) for data in shared.data.values()}) == 1
    assert len(shared.rewards) == 2
    again = share(runs, tiny_dataset, runs, folder, ResourceSettings(), lambda *stage: None)
    for run in runs[:2]:
        before, after = (s.give(build_config(run, tiny_dataset)).pretrained_reward.value for s in (shared, again))
        assert before.weights.keys() == after.weights.keys()
        assert all(np.array_equal(value, after.weights[name]) for name, value in before.weights.items())
        assert before.moments.keys() == after.moments.keys()
        for number, kinds in before.moments.items():
            assert all(np.array_equal(value, after.moments[number][name]) for name, value in kinds.items())
    assert shared.give(build_config(run_of("IL"), tiny_dataset)).pretrained_reward.value is None


def test_runs_with_another_replay_buffer_share_no_transitions(tiny_dataset: str, tmp_path: Path) -> None:
    whole = PreparedDataset.open(tiny_dataset).metadata.counts["train"]["transitions"]
    # A buffer with all transitions is the same data; IL reads no preferences.
    runs = [run_of(), run_of("IL"), run_of(replay_buffer_size=whole), run_of(replay_buffer_size=800)]
    runs += [run_of("IL", replay_buffer_size=800)]
    shared = share(runs, tiny_dataset, [], str(tmp_path), ResourceSettings(), lambda *stage: None)
    used = [shared.give(build_config(run, tiny_dataset)).loaded_data.value for run in runs]
    assert [sum(data.sizes) for data in used] == [whole, whole, whole, 800, 800]
    assert used[0].shards is used[1].shards is used[2].shards
    assert used[3].shards is used[4].shards


def test_a_config_is_pickled_without_what_it_was_lent(tiny_dataset: str) -> None:
    config = build_config(run_of(), tiny_dataset)
    config.offline_data(loaded_data=load_data(config.data_request))
    assert config.copy().loaded_data.value is config.loaded_data.value
    assert pickle.loads(pickle.dumps(config.loaded_data)).value is None


def test_what_a_trial_reads_are_views_of_shared_memory(tiny_dataset: str) -> None:
    data = load_data(build_config(run_of(), tiny_dataset).data_request)
    for ref in data.shards:
        columns = ray.get(ref)
        for name in ("obs", "action", "next_obs"):
            values = tensor(columns[name])
            address = values.__array_interface__["data"][0]
            (buffer,) = [b for b in columns[name].chunk(0).buffers() if b is not None]
            assert buffer.address <= address < buffer.address + buffer.size
