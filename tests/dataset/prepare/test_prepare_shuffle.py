"""Destinations of transitions: one shard of the wave each, shards of equal size, for any buckets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import read_table, tensor, tensor_array
from prefrec_ray.dataset.prepare.shuffle import Destinations, waves_at_once, write_shard


def shards_of(destinations: Destinations, offset: int, count: int) -> np.ndarray:
    shard = np.full(count, -1)
    reached = destinations.reached(offset, count)
    for number, positions in zip(reached, destinations.by_shard(offset, count), strict=True):
        assert (shard[positions] == -1).all()
        shard[positions] = number
    return shard


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    shards=st.integers(1, 12),
    waves=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_buckets_agree_on_shards_of_equal_size(sizes: list[int], shards: int, waves: int, seed: int) -> None:
    total = sum(sizes)
    destinations = Destinations(total, waves, shards, seed)
    offsets = np.cumsum([0, *sizes[:-1]])
    shard = np.concatenate([shards_of(destinations, int(o), n) for o, n in zip(offsets, sizes, strict=True)])
    np.testing.assert_array_equal(shard, shards_of(destinations, 0, total))
    assert (shard >= 0).all()
    counts = np.bincount(shard, minlength=destinations.shards)
    assert len(counts) == shards * waves
    assert counts.max() - counts.min() <= 1
    wave = destinations.wave(np.arange(total))
    assert (np.diff(wave) >= 0).all()
    np.testing.assert_array_equal(shard % waves, wave)
    assert sorted(s for w in range(waves) for s in destinations.of_wave(w)) == list(range(shards * waves))


def test_neighbours_are_spread_at_random() -> None:
    shard = shards_of(Destinations(80_000, 1, 8, 0), 0, 80_000)
    pairs = np.bincount(shard[:-1] * 8 + shard[1:], minlength=64).reshape(8, 8)
    # Inside a block of eight the next one has another shard; the borders of blocks repeat one in eight times.
    assert abs(np.trace(pairs) / 80_000 - 1 / 64) < 0.003
    apart = pairs[~np.eye(8, dtype=bool)]
    assert np.abs(apart / apart.mean() - 1).max() < 0.15
    assert (shards_of(Destinations(80_000, 1, 8, 1), 0, 80_000) == shard).mean() < 0.15
    halves = shards_of(Destinations(80_000, 2, 8, 0), 0, 80_000) // 2
    assert (halves[:40_000] == halves[40_000:]).mean() < 0.15


def test_a_shard_holds_some_48_mib_and_a_wave_2_gib() -> None:
    small = Destinations.for_size(10, 4000, 0)
    assert (small.waves, small.shards) == (1, 8)
    destinations = Destinations.for_size(1_000_000, 2000, 0)
    assert destinations.waves == 1
    assert destinations.shards % 8 == 0
    assert 30e6 < 1_000_000 * 2000 / destinations.shards < 51e6
    large = Destinations.for_size(16_000_000, 2000, 0)
    assert large.waves == 15
    assert large.shards % 8 == 0
    assert 30e6 < 16_000_000 * 2000 / large.shards < 51e6


def test_waves_fill_two_fifths_of_the_object_stores() -> None:
    assert waves_at_once({}) == waves_at_once({"object_store_memory": 7e9}) == 1
    assert waves_at_once({"object_store_memory": 64 * 20e9}) == 238


def test_a_shard_has_the_rows_of_all_pieces_in_a_seeded_order(ray_session: None, tmp_path: Path) -> None:
    def piece(numbers: list[int]) -> pa.Table:
        states = np.array(numbers, np.float32)[:, np.newaxis] * np.ones(3, np.float32)
        return pa.table({"obs": tensor_array(states), "number": np.array(numbers, np.int64)})

    (tmp_path / "transitions").mkdir()
    large = 2**60  # a float64 has fewer digits
    pieces = [piece([]), piece([0, 1, 2, 3]), piece([large, 5, 6, 7])]
    tables = {}
    for shard, seed in ((0, 1), (1, 1), (2, 2)):
        assert ray.get(write_shard.remote(str(tmp_path), shard, seed, *pieces)) == 8
        tables[shard] = read_table(f"{tmp_path}/transitions/part-{shard:05d}.parquet")
    orders = [table["number"].to_pylist() for table in tables.values()]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2]) == [0, 1, 2, 3, 5, 6, 7, large]
    assert len({tuple(order) for order in orders}) == 3
    for table, order in zip(tables.values(), orders, strict=True):
        np.testing.assert_array_equal(tensor(table["obs"])[:, 0], np.array(order, np.float32))


def test_a_shard_without_transitions_is_an_empty_file(ray_session: None, tmp_path: Path) -> None:
    (tmp_path / "transitions").mkdir()
    empty = pa.table({"obs": tensor_array(np.zeros((0, 3), np.float32)), "number": np.zeros(0, np.int64)})
    assert ray.get(write_shard.remote(str(tmp_path), 0, 0, empty)) == 0
    assert read_table(f"{tmp_path}/transitions/part-00000.parquet").schema.equals(empty.schema)
