"""Transitions in the object store or streamed, in real runs: which of the two, who reads, and the same weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core.columns import Columns

from prefrec_ray import storage
from prefrec_ray.algorithms import PrefRecConfig
from prefrec_ray.algorithms.feed import shards
from prefrec_ray.algorithms.feed.offline import Position, PreparedData
from prefrec_ray.algorithms.feed.shards import MOST_LANES, RewardLabels, ShardCache, columns, find_shards
from prefrec_ray.dataset import PreparedDataset, read_table
from prefrec_ray.errors import UserError


def test_a_process_reads_ahead(tiny_dataset: str) -> None:
    files = PreparedDataset.open(tiny_dataset).files("transitions")
    cache = ShardCache()
    cache.order(0, files[1])
    cache.order(1, files[2])
    assert len(cache) == 2
    for lane, file in ((0, files[1]), (1, files[2])):
        arrays, expected = cache.take(lane, file, file), columns(read_table(file))
        assert arrays.keys() == expected.keys()
        assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    with pytest.raises(UserError, match=r"part-99.parquet: no such file"):
        cache.take(0, files[0].replace("part-00000", "part-99"), files[0])


def weights(dataset: str, transitions: str, learners: int) -> dict[str, np.ndarray]:
    config = (
        PrefRecConfig()
        .offline_data(input_=dataset)
        .training(
            recipe="robust",
            task="depth",
            hidden_sizes=(16,),
            train_batch_size_per_learner=64 // max(1, learners),
            preference_batch_size=16,
            pretrain_epochs=1,
            num_epochs=2,
            finetune_reward=True,
            transitions=transitions,
        )
        .learners(num_learners=learners)
    )
    algorithm = config.build_algo()
    try:
        while not algorithm.train()["done"]:
            pass
        return algorithm.get_weights()["default_policy"]
    finally:
        algorithm.stop()


@pytest.mark.parametrize("learners", [0, 2])
def test_a_run_ends_with_the_same_weights(tiny_dataset: str, learners: int) -> None:
    ours, theirs = (weights(tiny_dataset, how, learners) for how in ("streaming", "materialised"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_replay_buffer_is_a_sample_of_the_data_set(tiny_dataset: str) -> None:
    dataset = PreparedDataset.open(tiny_dataset)
    whole = sum(find_shards(dataset, "streaming")[1])
    size = whole // 3 // MOST_LANES * MOST_LANES
    epochs = {}
    for how in ("streaming", "materialised"):
        config = PrefRecConfig().offline_data(input_=tiny_dataset)
        config.training(task="depth", train_batch_size_per_learner=8, transitions=how, replay_buffer_size=size + 3)
        data = PreparedData(config)
        (plan,) = data.sample(
            Position("train", 0, data.batches_per_epoch),
            reward_labels=RewardLabels.from_parts([ray.put(np.arange(whole))], [whole]),
        )
        batches = list(plan.transitions.batches(torch.device("cpu"), ShardCache()))
        epochs[how] = torch.cat([batch[Columns.REWARDS] for batch in batches]).numpy()  # the transition's number
    assert np.array_equal(epochs["streaming"], epochs["materialised"])
    assert len(np.unique(epochs["streaming"])) == len(epochs["streaming"]) == size
    # The sample covers all transitions, not only the first users.
    assert abs(epochs["streaming"].mean() / whole - 0.5) < 4 * (12 * size) ** -0.5


@pytest.mark.parametrize("how", ["streaming", "materialised"])
@pytest.mark.parametrize("here", [True, False])
def test_a_replay_buffer_of_less_than_a_row_a_lane_is_empty(tiny_dataset: str, how: str, here: bool) -> None:
    """A batch is larger than the buffer, and the run reports it."""
    assert find_shards(PreparedDataset.open(tiny_dataset), how, limit=MOST_LANES - 1, here=here) == ([], [])


def test_the_choice_is_by_size_and_said(
    tiny_dataset: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PreparedDataset.open(tiny_dataset)
    size = storage.size(dataset.path("transitions"))
    assert size == sum(file.stat().st_size for file in Path(tiny_dataset, "transitions").iterdir())
    for store, how, level in ((size / 0.39, "materialised", logging.INFO), (size / 0.41, "streaming", logging.WARNING)):
        monkeypatch.setattr(ray, "cluster_resources", lambda store=store: {"object_store_memory": store})
        with caplog.at_level(logging.INFO, shards.__name__):
            caplog.clear()
            all_shards, rows = find_shards(dataset, "auto")
            find_shards(dataset, "auto", limit=sum(rows) // 2)
        record, halved = caplog.records
        assert halved.getMessage().startswith("transitions are materialised: ")  # what is not used takes no room
        assert record.levelno == level
        assert record.getMessage().startswith(f"transitions are {how}: ")
        assert "in 8 shards" in record.getMessage()
        assert all(isinstance(shard, str) for shard in all_shards) == (how == "streaming")
        assert sum(rows) == sum(dataset.read(file).num_rows for file in dataset.files("transitions"))
