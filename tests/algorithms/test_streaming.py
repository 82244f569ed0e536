"""Transitions that do not fit in the object store: the same batches and weights, and never more than a few shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.algorithms.feed import shards
from prefrec_ray.algorithms.feed.batches import TransitionPlan, batches_in, deal
from prefrec_ray.algorithms.feed.shards import MOST_LANES, Shard, ShardCache, lanes_of, within
from prefrec_ray.dataset import tensor_array, write_table

CPU, LANES = torch.device("cpu"), MOST_LANES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[pa.Table]]:
    """32 shards of 5 to 12 rows; every row carries its own number."""
    folder = tmp_path_factory.mktemp("transitions")
    generator, names, tables = np.random.default_rng(0), [], []
    for shard in range(4 * LANES):
        rows = np.arange(generator.integers(5, 13)) + 100 * shard
        column = tensor_array(rows[:, None])
        table = pa.table({"obs": column, "action": column, "next_obs": column, "reward": pa.array(rows, pa.float32())})
        names.append(f"{folder}/part-{shard:05d}.parquet")
        tables.append(table)
        write_table(table, names[-1])
    return names, tables


class Near(ShardCache):
    """Keeps account."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[Shard] = []

    def fetch(self, shard: Shard) -> Future[dict[str, np.ndarray]]:
        self.brought.append(shard)
        return super().fetch(shard)


@pytest.fixture(scope="module")
def cache() -> Iterator[Near]:
    """One feed for all examples, because the remains of an earlier use must not matter. `ray.get` returns tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ray", SimpleNamespace(get=lambda table: table))
        yield Near()


def plans(shards: list, tables: list, shards_a_lane: int, learners: int, rows: int, seed: int, cut: tuple) -> list:
    """For each learner its plans: batches [cut[0], cut[1]), then [cut[1], cut[2])."""
    kept = shards_a_lane * LANES
    sizes = [table.num_rows for table in tables[:kept]]
    parts = deal(shards[:kept], sizes, rows * LANES, learners)
    return [
        [
            TransitionPlan(
                parts[learner],
                lane_count=LANES,
                batch_size=rows * LANES,
                batches_per_epoch=batches_in(part for one in parts for part in one),
                seed=seed,
                first=first,
                count=last - first,
            )
            for first, last in itertools.pairwise(cut)
        ]
        for learner in range(learners)
    ]


@settings(max_examples=15, deadline=None)
@given(
    shards_a_lane=st.integers(1, 4),
    learners=st.sampled_from([1, 2, 3, 8, 11]),
    rows=st.integers(2, 5),
    seed=st.integers(0, 2**31),
    cut=st.lists(st.integers(0, 30), min_size=3, max_size=3).map(sorted),
)
def test_streamed_batches_are_the_stored_ones(
    files: tuple, cache: Near, shards_a_lane: int, learners: int, rows: int, seed: int, cut: list[int]
) -> None:
    names, tables = files
    settings_ = (tables, shards_a_lane, learners, rows, seed, tuple(cut))
    for streamed, kept in zip(plans(names, *settings_), plans(tables, *settings_), strict=True):
        streamed_batches = [batch for plan in streamed for batch in plan.batches(CPU, cache)]
        expected = [batch for plan in kept for batch in plan.batches(CPU, Near())]
        assert len(streamed_batches) == len(expected) == cut[-1] - cut[0]
        for ours, theirs in zip(streamed_batches, expected, strict=True):
            assert ours.keys() == theirs.keys() == {"obs", "actions", "new_obs", "rewards"}
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
            assert torch.equal(ours["obs"][:, 0], ours["rewards"])


def test_a_learner_holds_two_shards_a_lane_and_reads_each_once_an_epoch(files: tuple, cache: Near) -> None:
    names, tables = files
    ((plan,),) = plans(names, tables, 4, 1, 1, 0, (0, 60))
    assert 20 <= plan.batches_per_epoch <= 48
    cache, held = Near(), []
    for _ in plan.batches(CPU, cache):
        held.append(len(cache))
    assert max(held) <= 2 * LANES
    epochs = -(-60 // plan.batches_per_epoch)
    assert len(cache.brought) <= epochs * len(names) + 2 * LANES
    assert max(cache.brought.count(name) for name in names) <= epochs + 1


def test_a_lane_that_moves_on_lets_go_of_its_shard(files: tuple, cache: Near) -> None:
    (stored, _), cache = files, Near()
    assert cache.take(0, stored[0], stored[1])["rewards"][0] == 0
    assert len(cache) == 2
    assert cache.take(0, stored[1], stored[1])["rewards"][0] == 100
    assert len(cache) == 1


def test_the_sample_for_the_scale_reads_first_shards(files: tuple, cache: Near) -> None:
    names, tables = files
    for all_shards in (names, tables):
        ((plan,),) = plans(all_shards, tables, 4, 1, 2, 0, (0, 1))
        held = len(cache)
        sample = plan.sample(3 * LANES, CPU, cache)
        assert len(cache) == held
        assert sample["obs"].ravel().tolist() == [100 * lane + row for lane in range(LANES) for row in range(3)]


@given(st.lists(st.integers(1, 40), min_size=LANES, max_size=6 * LANES), st.integers(1, 2000))
def test_a_limit_uses_the_first_rows_of_every_lane(rows: list[int], limit: int) -> None:
    used, lanes = within(rows, limit), lanes_of(len(rows))
    assert len(used) % lanes == 0
    assert all(mine <= all_ for mine, all_ in zip(used, rows, strict=False))
    for lane in range(lanes):
        own, given_rows = used[lane::lanes], rows[lane::lanes]
        assert sum(own) == min(sum(given_rows), limit // lanes)
        whole = [mine == all_ for mine, all_ in zip(own, given_rows, strict=False)]
        assert whole == sorted(whole, reverse=True)  # no shard is used before the one ahead of it is used up
    if limit >= lanes:
        assert any(used[-lanes:])  # no row of shards is read for nothing
