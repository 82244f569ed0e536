"""Mini-batches: the same rows for any number of learners, each row at most once an epoch, repeatable from any place."""

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray.rllib.core.columns import Columns

from prefrec_ray.algorithms.feed.batches import TransitionPlan, batches_in, deal
from prefrec_ray.algorithms.feed.preferences import PreferencePlan, batches_per_pass
from prefrec_ray.algorithms.feed.shards import ACTIONS, MOST_LANES, NEXT_OBS, OBS, REWARDS, ShardCache, lanes_of

ROWS = 40


@pytest.fixture(scope="module")
def shards(ray_session: None) -> list[ray.ObjectRef]:
    """16 shards of 40 rows; every row carries its own number."""
    refs = []
    for shard in range(2 * MOST_LANES):
        numbers = (np.arange(ROWS, dtype=np.float32) + shard * ROWS).reshape(-1, 1)
        column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 1)
        refs.append(ray.put(pa.table({"obs": column, "action": column, "next_obs": column})))
    return refs


def rows_of(
    shards: list, learner: int, learners: int, first: int, count: int, seed: int = 3, batch: int = 24
) -> list[list[float]]:
    parts = deal(shards, [ROWS] * len(shards), batch, learners)
    lanes, per_epoch = lanes_of(len(shards), batch), batches_in(part for one in parts for part in one)
    plan = TransitionPlan(parts[learner], lanes, batch, per_epoch, seed=seed, first=first, count=count)
    batches = list(plan.batches(torch.device("cpu"), ShardCache()))
    for batch in batches:
        assert torch.equal(batch["obs"], batch["actions"])
        assert torch.equal(batch["obs"], batch["new_obs"])
    return [batch["obs"].ravel().tolist() for batch in batches]


def test_an_epoch_has_no_row_twice_and_epochs_differ(shards: list) -> None:
    first, second = rows_of(shards, 0, 1, 0, 26), rows_of(shards, 0, 1, 26, 26)
    for epoch in (first, second):
        seen = np.concatenate(epoch)
        assert len(np.unique(seen)) == len(seen) == 26 * 24
    assert first != second


@pytest.mark.parametrize(
    ("learners", "size", "count"),
    [(2, 24, 16), (3, 24, 16), (8, 24, 16), (5, 23, 16), (11, 29, 16), (20, 24, 16), (3, 7, 9), (4, 6, 13)],
)
def test_learners_share_the_batch_of_one(shards: list, learners: int, size: int, count: int) -> None:
    shards = shards[:count]
    whole = rows_of(shards, 0, 1, 20, 8, batch=size)
    parts = [rows_of(shards, learner, learners, 20, 8, batch=size) for learner in range(learners)]
    for index, batch in enumerate(whole):
        assert len(set(batch)) == size
        assert sorted(batch) == sorted(row for part in parts for row in part[index])
        assert all(part[index] for part in parts)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 80))
def test_rows_and_lanes_are_dealt_out_whole(shards: int, learners: int, more: int) -> None:
    batch, names = learners + more, [str(number) for number in range(shards)]
    parts = deal(names, [5] * shards, batch, learners)
    lanes = lanes_of(shards, batch)
    assert lanes <= MOST_LANES
    assert all(sum(part.own_rows for part in one) > 0 for one in parts)
    assert sum(part.own_rows for one in parts for part in one) == batch
    held = {part.number: part.shards for one in parts for part in one}
    assert sorted(held) == list(range(lanes))
    assert sorted(name for shard in held.values() for name in shard) == sorted(names)
    for lane in range(lanes):
        takers = [part for one in parts for part in one if part.number == lane]
        rows = np.concatenate([np.arange(part.rows)[part.own] for part in takers])
        assert sorted(rows) == list(range(takers[0].rows))


def test_any_place_can_be_gone_to_directly(shards: list) -> None:
    assert rows_of(shards, 0, 1, 0, 60)[33:37] == rows_of(shards, 0, 1, 33, 4)


def test_the_order_comes_from_the_seed(shards: list) -> None:
    assert rows_of(shards, 0, 1, 0, 5, seed=1) == rows_of(shards, 0, 1, 0, 5, seed=1)
    assert rows_of(shards, 0, 1, 0, 5, seed=1) != rows_of(shards, 0, 1, 0, 5, seed=2)


def test_columns_have_rllibs_names() -> None:
    theirs = Columns.OBS, Columns.ACTIONS, Columns.NEXT_OBS, Columns.REWARDS
    assert theirs == (OBS, ACTIONS, NEXT_OBS, REWARDS)


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
