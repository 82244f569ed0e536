"""Labels of transitions from files of requests, against plain loops; in this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import STATE, write_dataset

from prefrec_ray.algorithms.feed import shards
from prefrec_ray.algorithms.feed.shards import RewardLabels
from prefrec_ray.algorithms.requests import PreferenceRequest, RewardRequest
from prefrec_ray.algorithms.reward import labels as module
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions, label_users
from prefrec_ray.algorithms.reward.model import RewardState
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.policy.networks.layers import Scalar

USERS, REQUESTS = 6, 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("labels") / "dataset"
    write_dataset(folder, users=USERS, requests=REQUESTS, pairs=4, length=2)
    return PreparedDataset.open(str(folder))


def network(inputs: int) -> tuple[Scalar, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    net = Scalar(inputs, (4,))
    return net, {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("rows_at_once", [2, 65_536])
def test_a_reward_sees_the_next_state_or_state_and_action(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows_at_once)
    rng = np.random.default_rng(0)
    state, action = rng.normal(size=(9, 5)).astype(np.float32), rng.normal(size=(9, 2)).astype(np.float32)
    rows = np.array([0, 1, 3, 4, 7])
    net, weights = network(2)
    rewards = RewardFunction(weights, (4,), (3, 1))(state, action, rows, rows + 1)
    expected = [net(torch.from_numpy(state[row + 1][[3, 1]])[None]).item() for row in rows]
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-6)
    net, weights = network(7)
    rewards = RewardFunction(weights, (4,), None)(state, action, rows, rows + 1)
    expected = [net(torch.from_numpy(np.concatenate([state[row], action[row]]))[None]).item() for row in rows]
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-6)
    assert rewards.dtype == np.float32


def test_the_reward_of_a_request_sees_what_the_request_says() -> None:
    preferences = PreferenceRequest("depth", ("a",), (3, 1), "float32")
    request = RewardRequest("DATASET", preferences, seed=0, hidden_sizes=(4,), lr=1e-3, batch_size=8, epochs=1)
    _, weights = network(2)
    assert RewardFunction.from_state(request, RewardState(weights, {})) == RewardFunction(weights, (4,), (3, 1))


def test_labels_are_float32_and_a_long_sum_loses_nothing() -> None:
    reward = np.full(300_000, 0.1, np.float32)
    labels = label_users(reward, Pages.from_steps(np.array([0, 299_999]), None, 300_002), 3)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, 0.1, rtol=1e-6)


@pytest.mark.parametrize("horizon", [1, 2, 9])
def test_users_of_one_request_have_no_label(horizon: int) -> None:
    sizes = [1, 3, 1, 1, 4, 2, 1]  # requests: a transition less each
    starts = np.cumsum([0, *sizes[:-1]])
    rewards = [np.arange(size - 1, dtype=np.float32) ** 2 + 10 * user for user, size in enumerate(sizes)]
    labels = label_users(np.concatenate(rewards), Pages.from_steps(starts, None, sum(sizes)), horizon)
    expected = [reward[i : i + horizon].mean() for reward in rewards for i in range(len(reward))]
    np.testing.assert_allclose(labels, expected, rtol=1e-6)


@given(
    st.lists(
        st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=4), min_size=1, max_size=5), min_size=1
    ),
    st.integers(1, 12),
)
def test_a_label_is_the_own_reward_and_the_means_of_later_pages(users: list[list[list[float]]], horizon: int) -> None:
    """The horizon counts items: pages that begin within it count."""
    step = np.array([number for pages in users for number, page in enumerate(pages) for _ in page])
    sizes = [sum(map(len, pages)) for pages in users]
    pages = Pages.from_steps(np.cumsum(sizes) - sizes, step, sum(sizes))
    reward = np.array([value for history in users for page in history[:-1] for value in page], np.float32)
    expected = []
    for history in users:
        for number, own in enumerate(history[:-1]):
            later = [
                np.mean(history[other])
                for other in range(number + 1, len(history) - 1)
                if sum(map(len, history[number:other])) < horizon
            ]
            expected += [np.mean([value, *later]) for value in own]
    np.testing.assert_allclose(label_users(reward, pages, horizon), expected, rtol=1e-4, atol=1e-4)


class FakeRay:
    """Puts nothing anywhere, runs tasks at once, and counts them."""

    def __init__(self, cpus: int | None, free: int = 0) -> None:
        self.resources = {} if cpus is None else {"CPU": float(cpus)}
        self.free = {"CPU": float(free)}
        self.cpus_of_task: int | None = None
        self.tasks: list[list[str]] = []

    def put(self, value: Any) -> Any:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def available_resources(self) -> dict[str, float]:
        return self.free

    def get(self, value: Any) -> Any:
        return value

    def options(self, num_cpus: int) -> SimpleNamespace:
        self.cpus_of_task = num_cpus
        return SimpleNamespace(remote=self.label)

    def label(self, uri: str, files: list[str], *rest: Any) -> tuple[np.ndarray, int]:
        self.tasks.append([Path(file).name for file in files])
        labels = module._label_files(uri, files, *rest)
        return labels, len(labels)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use_(fake: FakeRay) -> FakeRay:
        monkeypatch.setattr(module, "ray", fake)
        monkeypatch.setattr(module, "_task", fake)
        monkeypatch.setattr(module, "get_current_placement_group", lambda: None)
        monkeypatch.setattr(shards, "ray", fake)
        return fake

    return use_


def in_order(labels: RewardLabels) -> np.ndarray:
    """Return all labels, looked up in a shuffled order."""
    numbers = np.random.default_rng(0).permutation(len(labels))
    return labels.find(numbers)[np.argsort(numbers)]


@pytest.mark.parametrize(("free", "expected"), [(0, 0), (1, 0), (2, 1)])
def test_tasks_ask_for_cpus_that_learners_do_not_hold(
    dataset: PreparedDataset, free: int, expected: int, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_TASK", 1)
    fake = use(FakeRay(2, free))
    label_transitions(dataset, None, 3)
    assert fake.cpus_of_task == expected


@pytest.mark.parametrize("numbers", [[4, 0, 9, 3, 3], [5], []])
def test_a_look_up_fetches_the_parts_of_its_numbers(numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = np.arange(10, dtype=np.float32) / 8
    parts = [everything[:3], everything[3:3], everything[3:5], everything[5:]]
    fetched: list[int] = []
    get = lambda part: fetched.append(part) or parts[part]  # noqa: E731
    monkeypatch.setattr(shards, "ray", SimpleNamespace(get=get))
    labels = RewardLabels.from_parts(range(4), [len(part) for part in parts])
    found = labels.find(np.array(numbers, np.int64))
    assert found.dtype == np.float32
    assert found.tolist() == [everything[number] for number in numbers]
    assert fetched == sorted({0 if number < 3 else 2 if number < 5 else 3 for number in numbers})


def expected_labels(dataset: PreparedDataset, reward: RewardFunction | None, horizon: int) -> np.ndarray:
    """Compute labels by a plain walk through the impressions, user by user, in the order of the files."""
    labels: list[float] = []
    for file in dataset.files("requests", "train"):
        table = dataset.read(file).to_pydict()
        for user in dict.fromkeys(table["user_id"]):
            rows = [row for row, one in enumerate(table["user_id"]) if one == user]
            if reward is None:
                values = [table["reward"][row] for row in rows[:-1]]
            else:
                states, actions = np.float32(table["state"]), np.float32(table["action"])
                values = [float(reward(states, actions, np.array([row]), np.array([row + 1]))[0]) for row in rows[:-1]]
            labels += [float(np.mean(values[i : i + horizon])) for i in range(len(values))]
    return np.float32(labels)


@pytest.mark.parametrize(
    ("cpus", "requests_a_task", "tasks"),
    [
        (2, 15, [["part-00000.parquet"], ["part-00001.parquet"]]),  # 30 requests in two files
        (2, 16, []),
        (1, 1, []),
        (None, 1, []),
        (9, 10, [["part-00000.parquet"], ["part-00001.parquet"]]),
    ],
)
@pytest.mark.parametrize("learned", [True, False])
def test_every_transition_has_its_label_by_tasks_or_here(
    dataset: PreparedDataset,
    cpus: int | None,
    requests_a_task: int,
    tasks: list[list[str]],
    learned: bool,
    use: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_TASK", requests_a_task)
    fake = use(FakeRay(cpus))
    reward = RewardFunction(network(STATE.width + 2)[1], (4,), None) if learned else None
    labels = in_order(label_transitions(dataset, reward, 3))
    assert len(labels) == USERS * (REQUESTS - 1)
    np.testing.assert_allclose(labels, expected_labels(dataset, reward, 3), rtol=1e-5, atol=1e-6)
    assert fake.tasks == tasks


@pytest.mark.parametrize("counts", [{}, {"train": {}}])
def test_where_no_requests_were_counted_labels_are_made_here(
    counts: dict[str, dict[str, int]], dataset: PreparedDataset, use: Any
) -> None:
    fake = use(FakeRay(9))
    uncounted = PreparedDataset(dataset.uri, dataset.metadata.model_copy(update={"counts": counts}))
    assert len(label_transitions(uncounted, None, 3)) == USERS * (REQUESTS - 1)
    assert fake.tasks == []


def test_labels_read_the_columns_that_they_need(
    dataset: PreparedDataset, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(FakeRay(1))
    columns: list[list[str]] = []
    read = PreparedDataset.read
    monkeypatch.setattr(PreparedDataset, "read", lambda *arguments: columns.append(arguments[2]) or read(*arguments))
    for reward in (None, RewardFunction(network(STATE.width + 2)[1], (4,), None)):
        label_transitions(dataset, reward, 3)
    files = len(dataset.files("requests", "train"))
    assert columns == [["user_id", "step", "reward"]] * files + [["user_id", "step", "state", "action"]] * files


def test_a_data_set_without_requests_is_one_line(dataset: PreparedDataset, tmp_path: Path, use: Any) -> None:
    use(FakeRay(1))
    empty = PreparedDataset(str(tmp_path), dataset.metadata)
    with pytest.raises(UserError, match=r"requests/train: found no impressions to label; expected part-\*\.parquet$"):
        label_transitions(empty, None, 3)
