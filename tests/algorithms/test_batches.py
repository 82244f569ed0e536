"""Mini-batches: the same rows for any number of learners, each row at most once an epoch, repeatable from any place."""

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from prefrec_ray.algorithms.feed.batches import PreferencePlan, TransitionPlan, batches_per_pass
from prefrec_ray.algorithms.feed.shards import LANES

ROWS = 40


@pytest.fixture(scope="module")
def shards(ray_session: None) -> list[ray.ObjectRef]:
    """16 shards of 40 rows; every row carries its own number."""
    refs = []
    for shard in range(2 * LANES):
        numbers = (np.arange(ROWS, dtype=np.float32) + shard * ROWS).reshape(-1, 1)
        column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 1)
        refs.append(ray.put(pa.table({"obs": column, "action": column, "next_obs": column})))
    return refs


def rows_of(shards: list, learner: int, learners: int, first: int, count: int, seed: int = 3) -> list[list[float]]:
    lanes = [(n, shards[n::LANES], [ROWS] * 2) for n in range(learner, LANES, learners)]
    plan = TransitionPlan(lanes, rows_per_lane=3, batches_per_epoch=26, seed=seed, first=first, count=count)
    batches = list(plan.batches(torch.device("cpu")))
    for batch in batches:
        assert torch.equal(batch["obs"], batch["actions"])
        assert torch.equal(batch["obs"], batch["new_obs"])
    return [batch["obs"].ravel().tolist() for batch in batches]


def test_an_epoch_has_no_row_twice_and_epochs_differ(shards: list) -> None:
    first, second = rows_of(shards, 0, 1, 0, 26), rows_of(shards, 0, 1, 26, 26)
    for epoch in (first, second):
        seen = np.concatenate(epoch)
        assert len(np.unique(seen)) == len(seen) == 26 * 3 * LANES
    assert first != second


@pytest.mark.parametrize("learners", [2, 4, 8])
def test_learners_share_the_batch_of_one(shards: list, learners: int) -> None:
    whole = rows_of(shards, 0, 1, 20, 10)
    parts = [rows_of(shards, learner, learners, 20, 10) for learner in range(learners)]
    for index, batch in enumerate(whole):
        assert sorted(batch) == sorted(row for part in parts for row in part[index])
        assert len({len(part[index]) for part in parts}) == 1


def test_any_place_can_be_gone_to_directly(shards: list) -> None:
    assert rows_of(shards, 0, 1, 0, 60)[33:37] == rows_of(shards, 0, 1, 33, 4)


def test_the_order_comes_from_the_seed(shards: list) -> None:
    assert rows_of(shards, 0, 1, 0, 5, seed=1) == rows_of(shards, 0, 1, 0, 5, seed=1)
    assert rows_of(shards, 0, 1, 0, 5, seed=1) != rows_of(shards, 0, 1, 0, 5, seed=2)


def test_preferences_pass_over_all_pairs_in_parts() -> None:
    assert batches_per_pass(100, 32) == 3
    assert batches_per_pass(5, 32) == 1

    def rows(first: int, index: int, part: int = 0, parts: int = 1) -> list[int]:
        return PreferencePlan(None, 100, 32, 0, first, part, parts).rows(index).tolist()

    a_pass = [row for index in range(3) for row in rows(0, index)]
    assert len(set(a_pass)) == 96
    assert rows(0, 4) == rows(4, 0) == rows(1, 3)
    assert rows(0, 0) != rows(3, 0)
    assert sorted(rows(2, 0)) == sorted(rows(2, 0, 0, 2) + rows(2, 0, 1, 2))
