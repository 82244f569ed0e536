"""Data that live on a device, or come to it one batch ahead: the batches and samples of the processor's path; no Ray.

The same code runs here on the device "cpu", which has no use for it; `fits` is asked with made-up memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.algorithms.feed import batches, device, shards
from prefrec_ray.algorithms.feed.batches import TransitionPlan, batches_in, deal
from prefrec_ray.algorithms.feed.device import Feed, Preferences, fits
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer, PreferencePlan, as_bfloat16
from prefrec_ray.algorithms.feed.shards import MOST_LANES, ShardCache
from prefrec_ray.algorithms.reward.model import RewardModel, seeded
from prefrec_ray.algorithms.reward.update import preference_gradient
from prefrec_ray.dataset import tensor_array

CPU = torch.device("cpu")
SHARDS = 2 * MOST_LANES
LABELS = {"first": np.random.default_rng(1).random(400), "second": np.random.default_rng(2).random(400)}


def shard(number: int) -> pa.Table:
    """5 to 12 rows; the states are float16, as `state_type: float16` stores them."""
    generator = np.random.default_rng(number)
    rows = int(generator.integers(5, 13))
    state = tensor_array(generator.normal(size=(rows, 3)).astype(np.float16))
    action = tensor_array(generator.normal(size=(rows, 2)).astype(np.float32))
    reward = pa.array(generator.normal(size=rows), pa.float32())
    number_ = pa.array(20 * number + np.arange(rows))
    return pa.table({"obs": state, "action": action, "next_obs": state, "reward": reward, "number": number_})


TABLES = {f"shard {number}": shard(number) for number in range(SHARDS)}


class Name:
    """Stands for a reference to a shard or to labels."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]


class Near(ShardCache):
    """Counts."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[str] = []

    def fetch(self, shard: Any) -> Future[dict[str, np.ndarray]]:
        self.brought.append(shard.name)
        return super().fetch(shard)


@pytest.fixture(scope="module", autouse=True)
def without_ray() -> Iterator[None]:
    """`ray.get` takes names."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (shards, batches, device):
            patch.setattr(module, "ray", SimpleNamespace(get=lambda name: {**TABLES, **LABELS}[name.name]))
        yield


def feed_on_device(share: float = 1.0) -> Feed:
    """A feed that uses the processor like another device."""
    device_feed = Feed(CPU, share)
    device_feed._on_device, device_feed._cache = True, Near()
    return device_feed


def feed(monkeypatch: pytest.MonkeyPatch, room: bool) -> Feed:
    """A feed on the device "cpu" with or without room."""
    monkeypatch.setattr(device, "fits", lambda size, device, share: room)
    return feed_on_device()


def plans(learners: int, first: int, count: int, labels: str | None = None, cut: int = 0) -> list[TransitionPlan]:
    """One for each learner; of each shard the last `cut` rows are not used."""
    names: list[Any] = [Name(name) for name in TABLES]
    sizes = [len(table) - cut for table in TABLES.values()]
    parts = deal(names, sizes, 2 * MOST_LANES, learners)
    return [
        TransitionPlan(
            lanes=lanes,
            lane_count=MOST_LANES,
            batch_size=2 * MOST_LANES,
            batches_per_epoch=batches_in(part for one in parts for part in one),
            seed=3,
            first=first,
            count=count,
            reward_labels=None if labels is None else Name(labels),  # type: ignore[arg-type]
        )
        for lanes in parts
    ]


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, in type, too."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


@settings(max_examples=25)
@given(
    learners=st.sampled_from([1, 2, 3, 11]),
    first=st.integers(0, 20),
    count=st.integers(0, 12),
    labels=st.sampled_from([None, "first"]),
    cut=st.integers(0, 3),
    room=st.booleans(),
)
def test_batches_and_samples_are_the_processors(
    learners: int, first: int, count: int, labels: str | None, cut: int, room: bool
) -> None:
    for plan in plans(learners, first, count, labels, cut):
        with pytest.MonkeyPatch.context() as patch:
            ours, theirs = feed(patch, room), Near()
            minibatches, expected = list(ours.batches(plan)), list(plan.batches(CPU, theirs))
            assert len(minibatches) == len(expected) == count
            assert all(map(equal, minibatches, expected))
            for rows in (1, 30, 1000):
                assert equal(ours.sample(plan, rows), plan.sample(rows, CPU, theirs))


def test_what_is_resident_is_brought_once_and_only_labels_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = feed(monkeypatch, room=True)
    for labels, first in (("first", 0), ("first", 5), ("second", 5)):
        (plan,) = plans(1, first, 5, labels)
        assert all(map(equal, ours.batches(plan), plan.batches(CPU, Near())))
    assert sorted(ours._cache.brought) == sorted([*TABLES, "shard 0"])  # the first one more, to measure it
    ours._cache.brought.clear()
    (plan,) = plans(1, 5, 5, cut=1)
    assert all(map(equal, ours.batches(plan), plan.batches(CPU, Near())))
    assert set(ours._cache.brought) == set(TABLES)


@pytest.mark.parametrize("labels", [None, "first"])
def test_the_size_is_that_of_the_rows_in_use(labels: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    monkeypatch.setattr(device, "fits", lambda size, device, share: requests.append((size, share)) or True)
    device_feed = feed_on_device(0.25)
    (plan,) = plans(1, 0, 1, labels, cut=2)
    list(device_feed.batches(plan))
    list(device_feed.batches(plan))
    ((size, share),) = requests
    own = LABELS["first"].nbytes if labels else 0
    assert size == own + sum(values.nbytes for values in device_feed._table(plan).columns.values())
    assert share == 0.25


def test_what_is_streamed_stays_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = feed(monkeypatch, room=True)
    (plan,) = plans(1, 0, 3)
    (streamed,) = plans(1, 0, 3)
    for part in streamed.lanes:
        part.shards[:] = [shard.name for shard in part.shards]  # a file is a path
    monkeypatch.setattr(ours._cache, "fetch", lambda name: ShardCache.fetch(ours._cache, Name(name)))
    assert all(map(equal, ours.batches(streamed), plan.batches(CPU, Near())))
    assert ours._table(streamed) is None


def test_a_batch_is_made_before_the_one_ahead_of_it_is_given_out() -> None:
    device_feed: list[int] = []

    def counted() -> Iterator[dict[str, torch.Tensor]]:
        for number in range(3):
            device_feed.append(number)
            yield {"obs": torch.tensor([number])}

    seen = []
    for batch in device.ahead(counted(), CPU):
        seen.append((int(batch["obs"]), len(device_feed)))
    assert seen == [(0, 2), (1, 3), (2, 3)]
    assert list(device.ahead(iter(()), CPU)) == []


@pytest.mark.parametrize(
    ("size", "share", "good"),
    [(60, 1.0, True), (61, 1.0, False), (61, 4.0, False), (15, 0.25, True), (16, 0.25, False)],
)
def test_half_of_what_is_free_may_be_filled(
    size: int, share: float, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 bytes are free, and 20 more are PyTorch's own, freed by an earlier trial."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert fits(size, torch.device("cuda"), share) is good


def buffer(precision: str = "float32", pairs: int = 150, rows: int = 80, length: int = 4) -> PreferenceBuffer:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, 5)).astype(np.float32)
    inputs = as_bfloat16(inputs) if precision == "bf16" else inputs
    first, label = rng.integers(0, rows - length, (pairs, 2)), rng.choice(np.float32([0, 0.5, 1]), pairs)
    return PreferenceBuffer(inputs, first, label, np.ones(pairs, bool), np.full(pairs, "one"), length)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resident_preferences_give_the_same_segments_and_gradients(precision: str) -> None:
    host = buffer(precision)
    ours, pairs = Preferences.from_buffer(host, CPU), np.arange(150)[1::2]
    (label, sides), (expected, segments) = ours.segments(pairs, CPU), host.segments(pairs, CPU)
    assert torch.equal(label, expected)
    assert [side.dtype for side in sides] == [segment.dtype for segment in segments]
    assert all(map(torch.equal, sides, segments))
    with seeded(3):
        reward = RewardModel(5, 2, (6, 6), [0, 1, 2, 3, 4])
    with torch.no_grad():
        for parameter in reward.parameters():
            parameter += 0.1
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        resident_result, host_result = (preference_gradient(reward, one, pairs, 75, CPU) for one in (ours, host))
    assert all(map(torch.equal, resident_result[0], host_result[0]))
    assert torch.equal(resident_result[1], host_result[1])


def test_preferences_are_asked_for_room_once_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"a": buffer(), "b": buffer("bf16")}
    monkeypatch.setattr(PreferencePlan, "load", lambda self: held[self.buffer])
    sizes: list[int] = []
    monkeypatch.setattr(device, "fits", lambda size, device, share: sizes.append(size) or len(sizes) == 1)
    device_feed = feed_on_device()
    plan_a, plan_b = (PreferencePlan(name, 150, 10, 0, 0, 0, 1) for name in "ab")  # type: ignore[arg-type]
    kept = device_feed.preferences(plan_a)
    assert isinstance(kept, Preferences)
    assert device_feed.preferences(plan_a) is kept
    assert device_feed.preferences(plan_b) is device_feed.preferences(plan_b) is held["b"]
    assert sizes == [80 * 5 * 4 + 150 * (16 + 4), 80 * 5 * 2 + 150 * (16 + 4)]


def test_the_processor_takes_what_plans_give(monkeypatch: pytest.MonkeyPatch) -> None:
    held = buffer()
    monkeypatch.setattr(PreferencePlan, "load", lambda self: held)
    ours = Feed(CPU)
    ours._cache = Near()
    (plan,) = plans(1, 0, 3)
    assert all(map(equal, ours.batches(plan), plan.batches(CPU, Near())))
    assert equal(ours.sample(plan, 30), plan.sample(30, CPU, Near()))
    assert ours._table(plan) is None
    assert ours.preferences(PreferencePlan("a", 150, 10, 0, 0, 0, 1)) is held  # type: ignore[arg-type]
    assert Feed(torch.device("cuda"), 0.5)._on_device
