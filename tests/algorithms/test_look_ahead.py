"""Labels that look ahead: against plain loops, and with the transitions in their shuffled order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import learner_of

from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed.shards import ShardCache
from prefrec_ray.algorithms.reward import labels as module
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.dataset import PreparedDataset, tensor


@pytest.fixture(scope="module")
def prepared(small_platform: Path) -> str:
    return str(small_platform / "dataset")


def all_labels(labels):
    return labels.find(np.arange(len(labels)))


@pytest.mark.parametrize("input_", ["next_state", "state_action"])
@pytest.mark.parametrize("requests_a_task", [1, module.REQUESTS_A_TASK])
def test_every_shuffled_transition_finds_its_label(prepared, input_, requests_a_task, monkeypatch):
    monkeypatch.setattr(module, "REQUESTS_A_TASK", requests_a_task)  # by tasks, and in this process
    dataset = PreparedDataset.open(prepared)
    columns = [0, 5, 7] if input_ == "next_state" else None
    width = 3 if columns else dataset.state.width + dataset.metadata.action_dim
    weight = np.random.default_rng(1).normal(size=(1, width)).astype(np.float32)
    reward = RewardFunction({"net.0.weight": weight, "net.0.bias": np.zeros(1, np.float32)}, (), columns)
    labels = all_labels(label_transitions(dataset, reward, 7))

    history = {}  # what each user saw, by a plain walk through the requests
    for file in dataset.files("requests", "train"):
        table = dataset.read(file)
        rows = zip(table["user_id"].to_pylist(), tensor(table["state"]), tensor(table["action"]), strict=True)
        for user, state, action in rows:
            history.setdefault(user, []).append((state, action))
    expected = {}
    for steps in history.values():
        seen = [steps[i + 1][0][columns] if columns else np.concatenate(steps[i]) for i in range(len(steps) - 1)]
        values = [float(x @ weight[0]) for x in seen]
        for i in range(len(values)):
            expected[steps[i][0].tobytes() + steps[i + 1][0].tobytes()] = np.mean(values[i : i + 7])
    checked = 0
    for file in dataset.files("transitions"):
        table = dataset.read(file)
        keys = zip(tensor(table["obs"]), tensor(table["next_obs"]), table["number"].to_numpy(), strict=True)
        for state, following, number in keys:
            assert labels[number] == pytest.approx(expected[state.tobytes() + following.tobytes()], abs=1e-4)
            checked += 1
    assert checked == len(labels) == dataset.metadata.counts["train"]["transitions"]


def test_batches_carry_the_labels(tiny_dataset):
    config = (
        PrefRecConfig()
        .offline_data(input_=tiny_dataset)
        .training(
            task="depth", hidden_sizes=(8,), train_batch_size_per_learner=64, preference_batch_size=8, num_epochs=0.2
        )
    )
    config = config.training(reward_horizon=4, pretrain_epochs=0.1)
    algorithm = config.build_algo()
    try:
        while algorithm.offline_data.schedule.at(algorithm.iteration).phase == "pretrain":
            algorithm.train()
        algorithm.train()
        labels = all_labels(algorithm._labels)
        (plan,) = algorithm.offline_data.sample(algorithm.offline_data.schedule.at(1), algorithm._labels)
        seen = torch.cat([batch["rewards"] for batch in plan.transitions.batches(torch.device("cpu"), ShardCache())])
        net = learner_of(algorithm).net
        # Standardised by the mean and deviation of the labels, not of the reward itself.
        assert float(net.reward.mean) == pytest.approx(labels.mean(), abs=1e-5)
        assert float(net.reward.std) == pytest.approx(labels.std(), rel=1e-3)
        assert np.isin(seen.numpy(), labels).all()
        assert len(np.unique(seen)) > 32
    finally:
        algorithm.stop()
