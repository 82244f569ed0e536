"""Episodes of a data set for d3rlpy and Minari: equal to plain loops over its files, and read by the libraries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_made import write_dataset

from prefrec_ray import storage
from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.episodes import export_episodes
from prefrec_ray.errors import UserError

Episode = tuple[np.ndarray, np.ndarray, np.ndarray]
ARRAYS = ["observations", "actions", "rewards", "timeouts", "terminals"]


def plain_episodes(dataset: PreparedDataset, task: str) -> list[Episode]:
    """Return states, actions and rewards of each training user by loops over rows."""
    levels: dict[tuple[int, int], float | None] = {}
    for file in dataset.files("sessions"):
        for row in dataset.read(file).to_pylist():
            depth, frequency = row["level_depth"], row["level_frequency"]
            mixture = None if frequency is None else (depth + frequency) / 2
            level = {"depth": depth, "frequency": frequency, "mixture": mixture}[task]
            levels[row["user_id"], row["session_index"]] = level
    users: dict[int, list[tuple]] = {}
    for file in dataset.files("requests", "train"):
        table = dataset.read(file)
        rows = zip(table["user_id"].to_pylist(), table["session_index"].to_pylist(), strict=True)
        for (user, session), state, action in zip(rows, tensor(table["state"]), tensor(table["action"]), strict=True):
            users.setdefault(user, []).append((session, state, action))
    episodes = []
    for user, rows in users.items():
        rewards = np.zeros(len(rows), np.float32)
        for place, (session, *_) in enumerate(rows):
            if place + 1 == len(rows) or rows[place + 1][0] != session:
                rewards[place] = levels[user, session] or 0.0
        episodes.append((np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows]), rewards))
    return episodes


def read_d3rlpy(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an export for d3rlpy."""
    return storage.read_arrays(str(folder / "episodes.npz"))


@pytest.mark.parametrize("task", ["depth", "frequency", "mixture"])
def test_the_arrays_are_those_of_plain_loops(dataset: PreparedDataset, tmp_path: Path, task: str) -> None:
    output = tmp_path / "out"
    words = [dataset.uri, "--format", "d3rlpy", "--output", str(output), "--task", task]
    assert run(["export", *words]) == 0
    arrays = read_d3rlpy(output)
    assert list(arrays) == ARRAYS
    expected = plain_episodes(dataset, task)
    assert any(rewards.any() for *_, rewards in expected)
    for name, column in zip(ARRAYS, zip(*expected, strict=True), strict=False):
        np.testing.assert_array_equal(arrays[name], np.concatenate(column))
    lengths = [len(rewards) for *_, rewards in expected]
    np.testing.assert_array_equal(arrays["timeouts"].nonzero()[0], np.cumsum(lengths) - 1)
    assert not arrays["terminals"].any()


def test_minari_files_hold_the_same_episodes(dataset: PreparedDataset, tmp_path: Path) -> None:
    export_episodes(dataset, "minari", str(tmp_path / "out"))
    expected = [episode for episode in plain_episodes(dataset, "frequency") if len(episode[2]) > 1]
    metadata = json.loads((tmp_path / "out/data/metadata.json").read_text())
    assert metadata["total_episodes"] == len(expected)
    assert metadata["total_steps"] == sum(len(rewards) - 1 for *_, rewards in expected)
    for number, (states, actions, rewards) in enumerate(expected):
        table = pq.read_table(tmp_path / f"out/data/{number}/part-0.parquet")
        np.testing.assert_array_equal(tensor(table["observations"]), states)
        np.testing.assert_array_equal(tensor(table["actions"]), actions)
        np.testing.assert_array_equal(table["rewards"].to_numpy(), rewards)
        assert np.flatnonzero(table["truncations"].to_numpy()).tolist() == [len(states) - 2]
        assert not table["terminations"].to_numpy().any()


def test_the_libraries_read_the_exports(dataset: PreparedDataset, tmp_path: Path) -> None:
    minari, d3rlpy = pytest.importorskip("minari"), pytest.importorskip("d3rlpy")
    for kind in ("minari", "d3rlpy"):
        export_episodes(dataset, kind, str(tmp_path / kind))
    ours = minari.MinariDataset(str(tmp_path / "minari/data"))
    theirs = d3rlpy.dataset.MDPDataset(**read_d3rlpy(tmp_path / "d3rlpy"))
    assert ours.total_steps == theirs.transition_count
    expected = [episode for episode in plain_episodes(dataset, "frequency") if len(episode[2]) > 1]
    for (states, actions, rewards), episode in zip(expected, ours.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(episode.observations, states)
        np.testing.assert_array_equal(episode.actions, actions[:-1])
        np.testing.assert_array_equal(episode.rewards, rewards[:-1])


def test_pages_of_items_are_not_episodes(tmp_path: Path) -> None:
    pages = write_dataset(tmp_path / "pages", users=8, size=2)
    with pytest.raises(UserError, match="found pages of several items; expected one item per step"):
        export_episodes(pages, "d3rlpy", str(tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["pages"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "d3rlpy", "--task", "depht"], "--task: found 'depht'; did you mean 'depth'?"),
        (["--format", "minary"], "--format: found 'minary'; expected one of bundle, onnx, d3rlpy, minari"),
    ],
)
def test_a_mistake_is_one_line(
    dataset: PreparedDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(["export", dataset.uri, "--output", str(tmp_path / "out"), *words]) == 2
    assert capsys.readouterr().err == f"prefrec: error: {message}\n"
    assert list(tmp_path.iterdir()) == []
