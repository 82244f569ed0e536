"""The order of mini-batches against plain loops, and the use of shards by a plan, without Ray."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prefrec_ray.algorithms.feed import preferences, shards
from prefrec_ray.algorithms.feed.batches import LanePart, TransitionPlan, _Lane
from prefrec_ray.algorithms.feed.preferences import PreferencePlan, pretrain_batches
from prefrec_ray.algorithms.feed.shards import NUMBER, RewardLabels

SEED, LANE, SIZES = 5, 3, [6, 1, 4, 5]
#: Two of the sixteen rows sit out each epoch.
USED = 14


def plain_order(epoch: int) -> list[tuple[int, int]]:
    """(shard, row) in the order of one epoch."""
    shards = np.random.default_rng((SEED, epoch, LANE)).permutation(len(SIZES))
    return [
        (int(shard), int(row))
        for shard in shards
        for row in np.random.default_rng((SEED, epoch, LANE, shard)).permutation(SIZES[shard])
    ]


def taken(lane: _Lane, epoch: int, start: int, stop: int) -> list[tuple[int, int]]:
    parts = list(lane.rows(epoch, np.arange(start, stop)))
    assert all(len(rows) for _, _, rows in parts)  # no shard is taken for nothing
    return [(shard, int(row)) for shard, _, rows in parts for row in rows]


def test_a_lane_goes_through_shuffled_shards_and_through_shuffled_rows_of_each() -> None:
    lane = _Lane(SEED, LANE, SIZES, USED)
    for epoch in (0, 1, 2, 1):
        expected = plain_order(epoch)
        for start, stop in ((0, 16), (0, 3), (3, 9), (9, 14), (5, 6), (4, 4)):
            assert taken(lane, epoch, start, stop) == expected[start:stop]


def test_rows_of_a_shard_have_another_order_in_each_epoch_lane_shard_and_seed() -> None:
    def rows(seed: int = 0, number: int = 0, epoch: int = 0, place: int = 0) -> list[int]:
        return [row for shard, row in taken(_Lane(seed, number, [30, 30], 60), epoch, 0, 60) if shard == place]

    orders = [rows(), rows(seed=1), rows(number=1), rows(epoch=1), rows(place=1)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


@pytest.mark.parametrize("used", [14, 16])
def test_a_lane_knows_what_comes_next(used: int) -> None:
    lane = _Lane(SEED, LANE, SIZES, used)
    for epoch in (0, 1):
        order = [shard for shard, _ in plain_order(epoch)]
        for position in range(used):
            shard = order[position]
            later = order[order.index(shard) + SIZES[shard] : used] or [plain_order(epoch + 1)[0][0]]
            ((current, following, _),) = lane.rows(epoch, np.array([position]))
            assert (current, following) == (shard, later[0])


def table(shard: int, rows: int) -> dict[str, np.ndarray]:
    """Columns as `Cache.take` returns them. Each value identifies its shard and row."""
    value = (100 * shard + np.arange(rows)).astype(np.float16)
    return {"obs": np.stack([value, -value], axis=1), "rewards": value / 4, NUMBER: np.arange(rows) + 10 * shard}


class Cache:
    """Record of ordered shards, which are represented by their names."""

    def __init__(self) -> None:
        self.ordered: list[tuple[int, str]] = []

    def order(self, lane: int, shard: str) -> None:
        self.ordered.append((lane, shard))

    def take(self, lane: int, shard: str, following: str) -> dict[str, np.ndarray]:
        assert {shard, following} <= set(next(part.shards for part in LANES if part.number == lane))
        return self.fetch(shard).result()

    def fetch(self, shard: str) -> SimpleNamespace:
        return SimpleNamespace(result=lambda: table(int(shard), SIZES[int(shard) % 4]))


LANES = [LanePart(3, ["0", "1", "2", "3"], SIZES, 2), LanePart(4, ["4", "5", "6", "7"], SIZES, 2)]


def plan(first: int = 0, count: int = 7, labels: object = None) -> TransitionPlan:
    return TransitionPlan(
        lanes=LANES,
        lane_count=2,
        batch_size=4,
        batches_per_epoch=7,
        seed=SEED,
        first=first,
        count=count,
        reward_labels=labels,
    )  # type: ignore[arg-type]


def test_a_batch_takes_its_rows_from_every_lane_in_turn() -> None:
    minibatches = list(plan(first=5, count=6).batches(torch.device("cpu"), Cache()))
    lanes = {part.number: _Lane(SEED, part.number, SIZES, USED) for part in LANES}
    assert len(minibatches) == 6
    for index, batch in enumerate(minibatches, start=5):
        epoch, within = divmod(index, 7)
        expected = [
            100 * (shard + 4 * turn) + row
            for turn, number in enumerate((3, 4))
            for shard, row in taken(lanes[number], epoch, 2 * within, 2 * within + 2)
        ]
        assert set(batch) == {"obs", "rewards"}
        assert batch["obs"].dtype == batch["rewards"].dtype == torch.float32
        assert batch["obs"].tolist() == [[value, -value] for value in expected]
        assert batch["rewards"].tolist() == [value / 4 for value in expected]
        assert batch["obs"].device.type == "cpu"


def test_labels_stand_in_for_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ray", SimpleNamespace(get=lambda reference: reference))
    labels = np.arange(100, dtype=np.float32) / 8
    parts = RewardLabels.from_parts([labels[:33], labels[33:]], [33, 67])
    for batch in plan(labels=parts).batches(torch.device("cpu"), Cache()):
        value = batch["obs"][:, 0]
        assert batch["rewards"].tolist() == [float(labels[int(10 * (v // 100) + v % 100)]) for v in value]


def test_a_plan_that_begins_amid_an_epoch_orders_what_lies_there() -> None:
    cache = Cache()
    next(plan(first=12).batches(torch.device("cpu"), cache))  # type: ignore[arg-type]
    lanes = [(_Lane(SEED, part.number, SIZES, USED), part.shards) for part in LANES]
    first = [(lane.number, shards[shard]) for lane, shards in lanes for shard, _, _ in lane.rows(1, np.array([10, 11]))]
    assert cache.ordered == first


@pytest.mark.parametrize(("rows", "each"), [(4, 2), (5, 2), (1, 1), (100, 6)])
def test_a_sample_is_the_first_rows_of_each_lanes_first_shard(
    rows: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "ray", SimpleNamespace(get=lambda reference: reference))
    sample = plan().sample(rows, torch.device("cpu"), Cache())  # type: ignore[arg-type]
    expected = [*range(each), *range(400, 400 + each)]
    assert sample["obs"].tolist() == [[value, -value] for value in expected]
    assert sample["rewards"].dtype == torch.float32
    labels = RewardLabels.from_parts([np.arange(100) + 0.5], [100])
    labelled = plan(labels=labels).sample(rows, torch.device("cpu"), Cache())  # type: ignore[arg-type]
    assert labelled["rewards"].tolist() == [10 * (value // 100) + value % 100 + 0.5 for value in expected]


def test_batches_and_samples_come_to_the_device() -> None:
    device = torch.device("meta")
    (batch,) = plan(count=1).batches(device, Cache())  # type: ignore[arg-type]
    for tensors in (batch, plan().sample(4, device, Cache())):  # type: ignore[arg-type]
        assert {values.device for values in tensors.values()} == {device}


def test_a_learner_takes_every_nth_pair_of_a_mini_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferences, "ray", SimpleNamespace(get=lambda reference: f"what {reference} holds"))

    def part(index: int, part: int = 0, parts: int = 1, seed: int = 1, pairs: int = 11) -> list[int]:
        return PreferencePlan("a buffer", pairs, 4, seed, 0, part, parts).rows(index).tolist()  # type: ignore[arg-type]

    for index in range(6):
        whole = part(index)
        assert len(whole) == len(set(whole)) == 4
        assert [part(index, k, 3) for k in range(3)] == [whole[0::3], whole[1::3], whole[2::3]]
    assert sorted(part(0, pairs=3)) == [0, 1, 2]  # fewer pairs than a mini-batch takes
    assert len({tuple(part(index, seed=seed)) for index in (0, 2) for seed in (1, 2)}) == 4
    plan = PreferencePlan("a buffer", 3, 4, 0, 0, 0, 1)  # type: ignore[arg-type]
    assert plan.size == 3
    assert plan.load() == "what a buffer holds"


def test_pretraining_takes_whole_mini_batches_at_least_one_where_there_is_any() -> None:
    assert [pretrain_batches(epochs, 100, 32, None) for epochs in (0, 0.1, 0.5, 1, 2.5)] == [0, 1, 2, 3, 8]
    assert [pretrain_batches(epochs, 100, 32, 2) for epochs in (0, 0.1, 0.5, 1, 2.5)] == [0, 1, 2, 2, 2]
