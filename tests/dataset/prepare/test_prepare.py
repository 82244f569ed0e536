"""A small log through the whole of `prepare`, against plain pandas: every file of the data set."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data
import torch
from plain_prepare import requests_of, score, sessions_of

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.prepare import shuffle, states
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy.networks.expected_feedback import fit_answers
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

SPLITS = ("train", "validation", "test")
LENGTH, MIN_REQUESTS, GAP_MS = 4, 9, 30 * 60 * 1000
NAMES = {
    "kind": "files",
    "user": "wer",
    "item": "was",
    "time": "wann",
    "time_unit": "s",
    "feedback": {"click": "geklickt", "like": "gemocht"},
}


def make_log(seed: int = 0, users: int = 60) -> pd.DataFrame:
    """Unsorted, with equal timestamps, one-request users and ids beyond ASCII; times in seconds."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(users):
        count = 1 if number % 20 == 0 else int(rng.integers(5, 45))
        gaps = rng.choice([0, 30, 600, 1800, 1801, 40_000, 90_000], count)
        parts.append(
            pd.DataFrame(
                {
                    "wer": f"usér {number}",
                    "was": [f"видео {k}" for k in rng.integers(0, 30, count)],
                    "wann": 1_700_000_000 + gaps.cumsum(),
                    "geklickt": rng.integers(0, 2, count).astype(bool),
                    "gemocht": rng.random(count).round(3),
                }
            )
        )
    return pd.concat(parts).sample(frac=1.0, random_state=seed).reset_index(drop=True)


def settings_for(path: Path, **changes: object) -> PrepareSettings:
    value = {
        "source": {**NAMES, "path": str(path)},
        "action_dim": 3,
        "train_fraction": 0.5,
        "validation_fraction": 0.25,
        "preferences": {"pairs": 60, "validation_pairs": 30, "length": LENGTH, "min_requests": MIN_REQUESTS},
        **changes,
    }
    return parse(PrepareSettings, value, "test")


def plain(log: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"user": log.wer, "item": log.was, "ms": log.wann * 1000})


def table(dataset: PreparedDataset, *folder: str) -> pd.DataFrame:
    parts = [dataset.read(file) for file in dataset.files(*folder)]
    frames = []
    for part in parts:
        vectors = {name: list(tensor(part[name])) for name in ("state", "action") if name in part.column_names}
        frames.append(part.drop_columns(list(vectors)).to_pandas().assign(**vectors))
    return pd.concat(frames, ignore_index=True)


def digests(uri: str) -> dict[str, str]:
    root = Path(uri)
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in root.rglob("*.*")}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return make_log()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, log: pd.DataFrame) -> Path:
    """The log as CSV (two files) and as Parquet."""
    folder = tmp_path_factory.mktemp("prepare")
    (folder / "csv").mkdir()
    log[:500].to_csv(folder / "csv" / "a.csv", index=False)
    log[500:].to_csv(folder / "csv" / "b.csv", index=False)
    log.to_parquet(folder / "log.parquet", row_group_size=100)
    return folder


@pytest.fixture(scope="module")
def dataset(ray_session: None, folder: Path) -> PreparedDataset:
    return prepare(settings_for(folder / "csv", partitions=3), str(folder / "dataset"))


@pytest.fixture(scope="module")
def requests(dataset: PreparedDataset) -> pd.DataFrame:
    return pd.concat([table(dataset, "requests", split).assign(split=split) for split in SPLITS])


def test_sessions(dataset: PreparedDataset, log: pd.DataFrame) -> None:
    sessions = table(dataset, "sessions").sort_values(["user_id", "session_index"]).reset_index(drop=True)
    expected = sessions_of(plain(log), GAP_MS)
    pd.testing.assert_frame_equal(sessions.drop(columns="split"), expected, check_dtype=False)


def test_requests(dataset: PreparedDataset, requests: pd.DataFrame, log: pd.DataFrame) -> None:
    expected = requests_of(plain(log), GAP_MS)
    rows = requests.sort_values(["user_id", "step"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[expected.columns], expected, check_dtype=False)
    items = dataset.items()
    np.testing.assert_array_equal(np.stack(rows.action), items.embeddings[items.rows(rows.item_id.to_numpy(object))])


def test_what_training_users_answer_to_items(dataset: PreparedDataset) -> None:
    table = pa.concat_tables([dataset.read(file) for file in dataset.files("requests", "train")])
    states, actions, feedback = (tensor(table[name]) for name in ("state", "action", "feedback"))
    parts, threads = dataset.state.embedding_parts(), torch.get_num_threads()
    torch.set_num_threads(1)  # as a task: sums in another order are other sums
    expected = fit_answers(states, actions, feedback, parts, dataset.metadata.seed)
    torch.set_num_threads(threads)
    answers = dataset.answers()
    assert answers is not None
    for ours, theirs in zip(answers.net.layers, expected.net.layers, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)


def test_a_file_holds_whole_users_in_order_and_its_sessions(dataset: PreparedDataset) -> None:
    seen: set[str] = set()
    for split in SPLITS:
        for file in dataset.files("requests", split):
            rows = dataset.read(file, ["user_id", "step"]).to_pandas()
            assert rows.equals(rows.sort_values(["user_id", "step"]))
            users = set(rows.user_id)
            assert not users & seen
            seen |= users
            sessions = dataset.read(dataset.path("sessions", Path(file).name)).to_pandas()
            assert set(sessions[sessions.split == split].user_id) == users


def test_splits_are_by_user_and_of_about_the_size_asked(dataset: PreparedDataset, requests: pd.DataFrame) -> None:
    assert (requests.groupby("user_id").split.nunique() == 1).all()
    users = requests.groupby("split").user_id.nunique()
    assert users.sum() == 60
    assert 20 <= users["train"] <= 40
    counts = dataset.metadata.counts
    for split in SPLITS:
        mine = requests[requests.split == split]
        assert counts[split]["users"] == users[split]
        assert counts[split]["requests"] == len(mine)
        assert counts[split]["transitions"] == len(mine) - users[split]
        assert counts[split]["sessions"] == len(mine.drop_duplicates(["user_id", "session_index"]))


def test_transitions_are_all_pairs_of_consecutive_requests_of_training_users(
    dataset: PreparedDataset, requests: pd.DataFrame
) -> None:
    expected: Counter[bytes] = Counter()
    for _, mine in requests[requests.split == "train"].groupby("user_id"):
        states, actions = list(mine.state), list(mine.action)
        for state, action, following in zip(states, actions, states[1:], strict=False):
            expected[np.concatenate([state, action, following]).tobytes()] += 1
    shards = [dataset.read(file) for file in dataset.files("transitions")]
    names = ("obs", "action", "next_obs")
    rows = [np.concatenate([tensor(shard[name]) for name in names], axis=1) for shard in shards]
    assert Counter(row.tobytes() for row in np.concatenate(rows)) == expected
    sizes = [len(part) for part in rows]
    assert len(sizes) % 8 == 0
    assert max(sizes) - min(sizes) <= 1


def test_transitions_are_shuffled(dataset: PreparedDataset) -> None:
    """Neighbours in a shard are not neighbours in time: in half of the pairs the impression count decreases."""
    column = dataset.state.names.index("counts/requests")
    rises = [np.diff(tensor(dataset.read(file)["obs"])[:, column]) > 0 for file in dataset.files("transitions")]
    assert 0.4 < np.concatenate(rises).mean() < 0.6


def test_states_are_scaled_on_training_users(requests: pd.DataFrame) -> None:
    training = np.stack(requests[requests.split == "train"].state)
    assert np.abs(training).max() <= 5.0
    inside = np.abs(training).max(axis=0) < 4.99
    varies = training.std(axis=0) > 0
    np.testing.assert_allclose(training.mean(axis=0)[inside], 0.0, atol=1e-4)
    np.testing.assert_allclose(training.std(axis=0)[inside & varies], 1.0, atol=1e-3)


def test_states_are_those_of_the_tracker(dataset: PreparedDataset, requests: pd.DataFrame, log: pd.DataFrame) -> None:
    user = requests[requests.split == "test"].user_id.value_counts().index[0]
    history = log[log.wer == user].sort_values("wann", kind="stable")
    tracker = StateTracker(dataset.state, dataset.normaliser, dataset.items(), 1)
    states = []
    for row in history.itertuples():
        now = np.array([row.wann * 1000])
        states.append(tracker.states(now)[0])
        feedback = {"click": np.array([row.geklickt]), "like": np.array([row.gemocht])}
        tracker.observe(now, np.array([row.was], dtype=object), feedback)
    stored = np.stack(requests[requests.user_id == user].sort_values("step").state)
    np.testing.assert_allclose(np.stack(states), stored, atol=1e-4)


@pytest.mark.parametrize("task", ["depth", "frequency", "mixture"])
def test_preferences(dataset: PreparedDataset, requests: pd.DataFrame, log: pd.DataFrame, task: str) -> None:
    sessions = sessions_of(plain(log), GAP_MS)
    split_of = requests.drop_duplicates("user_id").set_index("user_id").split
    count = requests.user_id.value_counts()
    teachers = {
        "train": {"any_users_sum": 60, "within_user_mean": 60},
        "validation": {f"{p}_{s}": 15 for p in ("any_users", "within_user") for s in ("sum", "mean")},
    }
    for split, expected in teachers.items():
        pairs = dataset.read(dataset.path("preferences", task, f"{split}.parquet")).to_pandas()
        assert pairs.teacher.value_counts().to_dict() == expected
        assert pairs.pair_id.tolist() == list(range(len(pairs)))
        assert (pairs.length == LENGTH).all()
        for side in (0, 1):
            users = pairs[f"user_{side}"]
            assert (users.map(split_of) == split).all()
            assert (users.map(count) > MIN_REQUESTS).all()
            assert (pairs[f"start_{side}"] + LENGTH < users.map(count)).all()
            plainly = [
                score(sessions, user, start, LENGTH, task, teacher.rsplit("_", 1)[1])
                for user, start, teacher in zip(users, pairs[f"start_{side}"], pairs.teacher, strict=True)
            ]
            np.testing.assert_allclose(pairs[f"score_{side}"], plainly, atol=1e-9)
        same_user = pairs.user_0 == pairs.user_1
        assert (same_user == pairs.teacher.str.startswith("within_user")).all()
        labels = np.sign(pairs.score_1.round(9) - pairs.score_0.round(9)) / 2 + 0.5
        np.testing.assert_array_equal(pairs.label, labels)


def test_metadata(dataset: PreparedDataset, folder: Path) -> None:
    assert dataset.metadata.teachers == ["any_users_sum", "within_user_mean"]
    assert dataset.metadata.state_dim == dataset.state.width == 4 + 2 * 5 + 3 * 5 + 2 * 3 + 8 + 11 + 3
    assert dataset.state.feedback == ("click", "like")
    assert {path.name for path in (folder / "dataset").iterdir()} == {
        *("metadata.json", "answers.npz", "dropped.json", "items.parquet"),
        *("sessions", "requests", "transitions", "preferences"),
    }


def test_repeats_are_those_of_training_users(dataset: PreparedDataset, requests: pd.DataFrame) -> None:
    training = requests[requests.split == "train"].sort_values(["user_id", "step"])
    away = training.groupby(["user_id", "item_id"])[["step", "timestamp"]].diff().dropna()
    found = dataset.metadata.repeats
    assert found is not None
    assert found.share == pytest.approx(len(away) / len(training))
    assert found.impressions == away.step.median()
    assert found.hours == pytest.approx(away.timestamp.median() / 3.6e6)
    assert (away.timestamp < dataset.metadata.rest_ms).sum() <= 0.01 * len(training)
    assert (away.timestamp <= dataset.metadata.rest_ms).sum() > 0.01 * len(training)


@pytest.mark.parametrize("block_bytes", [1 << 12, 1 << 30])
def test_same_seed_same_bytes_with_any_blocks(
    dataset: PreparedDataset, folder: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "target_max_block_size", block_bytes)
    again = prepare(settings_for(folder / "csv", partitions=3), str(folder / f"again-{block_bytes}"))
    assert digests(again.uri) == digests(dataset.uri)


def test_same_bytes_with_any_number_of_waves_at_once(
    ray_session: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "_WAVE_BYTES", 50_000)
    made = []
    for at_once in (3, 100):
        monkeypatch.setattr(states, "waves_at_once", lambda resources, count=at_once: count)
        made.append(prepare(settings_for(folder / "csv", partitions=3), str(folder / f"waves-{at_once}")))
    assert len(made[0].files("transitions")) > 4 * 8
    assert digests(made[0].uri) == digests(made[1].uri)


def test_neither_format_nor_partitions_change_what_is_found(
    dataset: PreparedDataset, requests: pd.DataFrame, folder: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    other = prepare(
        settings_for(folder / "log.parquet", partitions=7),
        str(folder / "other"),
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert len(other.files("sessions")) == 7
    for parts in (("sessions",), ("requests", "train"), ("requests", "validation"), ("requests", "test")):
        columns = ["user_id", "session_index"] + (["step"] if parts[0] == "requests" else [])
        one, two = (table(d, *parts).sort_values(columns).reset_index(drop=True) for d in (dataset, other))
        if "state" in one:
            np.testing.assert_allclose(np.stack(one.pop("state")), np.stack(two.pop("state")), atol=2e-3)
            np.testing.assert_allclose(np.stack(one.pop("action")), np.stack(two.pop("action")), atol=1e-3)
        pd.testing.assert_frame_equal(one, two)
    for task in other.metadata.tasks:
        for split in ("train", "validation"):
            file = ("preferences", task, f"{split}.parquet")
            assert other.read(other.path(*file)).equals(dataset.read(dataset.path(*file)))
    stages = dict.fromkeys(stage for stage, _, _ in seen)
    assert list(stages) == [
        "start Ray",
        "read the log: rows",
        "group by user: files",
        "label preferences: files",
        "list items: files",
        "count items consumed together: files",
        "fit item embeddings",
        "find kinds of items",
        "scale states: files",
        "compute states: files",
        "shuffle transitions: files",
        "fit expected feedback",
    ]
    for stage in stages:
        done, total = [entry[1:] for entry in seen if entry[0] == stage][-1]
        assert done == total > 0


def test_another_seed_is_another_split(dataset: PreparedDataset, folder: Path) -> None:
    # With this many buckets some have no training user, or no user at all; the stage ends nevertheless.
    seen: dict[str, tuple[int, int]] = {}
    other = prepare(
        settings_for(folder / "csv", partitions=90, seed=1),
        str(folder / "seed"),
        progress=lambda stage, done, total: seen.update({stage: (done, total)}),
    )
    files = len(other.files("sessions"))
    assert files < 90
    assert seen["group by user: files"] == (files, files)
    users = [set(table(d, "requests", "train").user_id) for d in (dataset, other)]
    assert users[0] != users[1]


def test_all_that_a_log_can_give(ray_session: None, tmp_path: Path, log: pd.DataFrame) -> None:
    """Sessions by id, dwell, a reward, features of users, embeddings of items: used as they are given."""
    numbers = np.unique(log.was, return_inverse=True)[1]
    log = log.assign(besuch=log.wann // 50_000, dauer=log.gemocht * 60, wert=log.gemocht * 2 - 1, was=numbers)
    log["chance"] = (1 - log.gemocht / 2).where(log.gemocht < 0.8)
    log.to_parquet(tmp_path / "log.parquet")
    users = pd.DataFrame({"id": sorted(set(log.wer))[:50], "land": ["Å", "B"] * 25})
    users.to_csv(tmp_path / "users.csv", index=False)
    embeddings = np.random.default_rng(3).uniform(-1, 1, (30, 2)).astype(np.float32)
    pd.DataFrame({"nr": range(30), "x": embeddings[:, 0], "y": embeddings[:, 1]}).to_parquet(tmp_path / "items.parquet")
    source = {
        **NAMES,
        **{"path": str(tmp_path / "log.parquet"), "session": "besuch", "dwell": "dauer", "dwell_unit": "s"},
        **{"reward": "wert", "propensity": "chance"},
        "users": {"path": str(tmp_path / "users.csv"), "id": "id", "features": ["land"]},
        "items": {"path": str(tmp_path / "items.parquet"), "id": "nr", "embedding": ["x", "y"]},
    }
    dataset = prepare(settings_for(tmp_path, source=source, action_dim=2), str(tmp_path / "dataset"))

    assert dataset.metadata.has_reward
    assert dataset.metadata.has_propensity
    assert dataset.metadata.given_sessions
    np.testing.assert_array_equal(dataset.items().embeddings, embeddings)
    ordered = log.sort_values(["wer", "wann"], kind="stable")
    requests = pd.concat([table(dataset, "requests", split) for split in SPLITS]).sort_values(["user_id", "step"])
    np.testing.assert_allclose(requests.reward, ordered.wert, atol=1e-6)
    np.testing.assert_allclose(requests.propensity, ordered.chance, atol=1e-6)
    columns = dataset.read(dataset.files("requests", "train")[0]).schema
    assert columns.field("propensity").type == pa.float32()
    np.testing.assert_array_equal(np.stack(requests.action), embeddings[ordered.was])
    assert (
        requests.groupby("user_id").session_index.nunique().tolist() == ordered.groupby("wer").besuch.nunique().tolist()
    )
    last = ordered.groupby(["wer", "besuch"], sort=False).tail(1)
    sessions = table(dataset, "sessions").sort_values(["user_id", "session_index"])
    np.testing.assert_allclose(sessions.exit - last.wann.to_numpy() * 1000, last.dauer * 1000, atol=0.5)
    # Both see the same feature of a user; users without one are unknown. Zeros and ones are centred, and not scaled.
    assert dataset.state.user_features == {"land": ("B", "Å")}
    country = requests.user_id.map(users.set_index("id").land)
    expected = np.stack([country == "B", country == "Å", country.isna()], axis=1)
    trained = requests.user_id.isin(table(dataset, "requests", "train").user_id)
    np.testing.assert_allclose(np.stack(requests.state)[:, :3], expected - expected[trained].mean(axis=0), atol=1e-5)

    transitions: Counter[tuple[bytes, float]] = Counter()
    for part in (dataset.read(file) for file in dataset.files("transitions")):
        transitions.update(
            (state.tobytes(), r) for state, r in zip(tensor(part["obs"]), part["reward"].to_pylist(), strict=True)
        )
    training = table(dataset, "requests", "train").sort_values(["user_id", "step"])
    followed = training[training.user_id == training.user_id.shift(-1)]
    assert transitions == Counter(
        (state.tobytes(), r) for state, r in zip(followed.state, followed.reward, strict=True)
    )


def test_a_simulated_log(ray_session: None, tmp_path: Path) -> None:
    world = SimulateSettings(users=60, requests=30, items=40, truth=True, seed=5)
    simulate(world, str(tmp_path / "logs"))
    preferences = {"pairs": 20, "validation_pairs": 10, "length": 4, "min_requests": 10}
    source = {"kind": "simulator", "path": str(tmp_path / "logs")}
    value = {"source": source, "preferences": preferences, "train_fraction": 0.5, "validation_fraction": 0.25}
    dataset = prepare(parse(PrepareSettings, value, "test"), str(tmp_path / "dataset"))
    assert dataset.metadata.state_dim == 245
    assert dataset.metadata.has_reward
    assert dataset.metadata.has_propensity
    requests = pd.concat([table(dataset, "requests", split) for split in SPLITS]).sort_values(["user_id", "step"])
    logged = pd.read_parquet(tmp_path / "logs" / "interactions")
    np.testing.assert_array_equal(requests.propensity, logged.propensity)
    assert dataset.metadata.world == world.model_dump(mode="json")
    assert sum(split["users"] for split in dataset.metadata.counts.values()) == 60
    assert not any("satisfaction" in name for name in dataset.state.names)
