"""A tiny prepared data set, written by hand: 30 users whose preferences follow one number of the state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray import storage
from prefrec_ray.dataset import SCHEMA_VERSION, Metadata
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.state import StateDefinition

REQUESTS, LENGTH, PAIRS, ACTIONS = 60, 10, 96, 2
TEACHERS = ("any_users_sum", "within_user_sum", "any_users_mean", "within_user_mean")


def matrix(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])


def write(folder: Path, name: str, columns: dict) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


@pytest.fixture(scope="session")
def tiny_dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    generator = np.random.default_rng(0)
    state = StateDefinition(feedback=("click",), user_features={}, action_dim=ACTIONS)
    users = {"train": range(0, 20), "validation": range(20, 30), "test": range(30, 34)}
    transitions = []
    for split, ids in users.items():
        for part, members in enumerate(np.array_split(np.array(ids), 2)):
            states = generator.normal(size=(len(members) * REQUESTS, state.width)).astype(np.float32)
            actions = np.tanh(generator.normal(size=(len(states), ACTIONS))).astype(np.float32)
            write(
                folder,
                f"requests/{split}/part-{part:05d}.parquet",
                {
                    "user_id": np.repeat(members, REQUESTS),
                    "step": np.tile(np.arange(REQUESTS), len(members)),
                    "state": matrix(states),
                    "action": matrix(actions),
                },
            )
            if split == "train":
                first = np.flatnonzero(np.arange(len(states)) % REQUESTS < REQUESTS - 1)
                transitions.append((states[first], actions[first], states[first + 1]))
    obs, action, next_obs = (np.concatenate(column) for column in zip(*transitions, strict=True))
    for shard, rows in enumerate(np.array_split(generator.permutation(len(obs)), 8)):
        columns = {"obs": matrix(obs[rows]), "action": matrix(action[rows]), "next_obs": matrix(next_obs[rows])}
        columns["reward"] = pa.array(obs[rows, 0] + 3.0, pa.float32())
        write(folder, f"transitions/part-{shard:05d}.parquet", columns)
    for split in ("train", "validation"):
        write(folder, f"preferences/depth/{split}.parquet", preferences(folder, split, list(users[split]), generator))
    ItemTable(np.arange(50), np.tanh(generator.normal(size=(50, ACTIONS)))).save(str(folder / "items.parquet"))
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        counts={},
        state_dim=state.width,
        action_dim=ACTIONS,
        action_low=-1.0,
        action_high=1.0,
        state=state.to_dict(),
        normaliser={"mean": [0.0] * state.width, "std": [1.0] * state.width},
        settings={},
        seed=0,
        tasks=["depth"],
        teachers=list(TEACHERS),
        mixture_weight=0.5,
        has_reward=True,
    )
    storage.write_json(str(folder / "metadata.json"), metadata.model_dump())
    return str(folder)


def preferences(folder: Path, split: str, users: list[int], generator: np.random.Generator) -> dict[str, list]:
    """Pairs of each teacher; the segment with the larger sum of the first action's coordinate is preferred."""
    value = {}
    for file in sorted((folder / "requests" / split).iterdir()):
        table = pq.read_table(file)
        first = np.array(table["action"].to_pylist())[:, 0]
        for user in users:
            rows = table["user_id"].to_numpy() == user
            if rows.any():
                value[user] = first[rows]
    pairs: dict[str, list] = {}
    for teacher in TEACHERS:
        for number in range(PAIRS):
            user = generator.choice(users, 2)
            if teacher.startswith("within"):
                user[1] = user[0]
            start = generator.integers(0, REQUESTS - LENGTH - 1, 2)
            score = [value[u][s : s + LENGTH].sum() for u, s in zip(user, start, strict=True)]
            row = {"pair_id": number, "length": LENGTH, "teacher": teacher, "label": float(score[1] > score[0])}
            row |= {f"{n}_{k}": v[k] for k in (0, 1) for n, v in (("user", user), ("start", start), ("score", score))}
            for name, entry in row.items():
                pairs.setdefault(name, []).append(entry)
    return pairs
