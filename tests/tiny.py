"""A small prepared data set, written by hand, whose best action is known.

States are independent standard normal numbers; the logging policy is `behaviour(s)` plus noise; the teacher prefers the
segment whose actions are closer to `best(s)`. Nothing carries over from one request to the next, so that the best
policy is the best single action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefrec_ray import storage
from prefrec_ray.dataset import SCHEMA_VERSION, Metadata
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.state import StateDefinition

ACTIONS = 2
NOISE = 0.4
STATE = StateDefinition(
    feedback=("click",),
    user_features={},
    action_dim=ACTIONS,
    feedback_half_lives=(0,),
    item_half_lives=(0,),
    taste_half_lives=(),
    session_half_lives=(0,),
)
#: The section `train: config` of a run of some seconds on it.
SHORT_RUN: dict[str, Any] = {
    "train_batch_size_per_learner": 64,
    "preference_batch_size": 16,
    "hidden_sizes": [16, 16],
    "updates_per_iteration": 5,
    "pretrain_epochs": 1,
    "num_epochs": 1,
}
TEACHERS = ("any_users_sum", "within_user_sum", "any_users_mean", "within_user_mean")


def best_action(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best action and the logging policy's mean action, [n, 2] each, for `states` [n, S]."""
    return 0.6 * np.tanh(states[:, 2:4]), 0.5 * np.tanh(states[:, :2])


def learner_of(algorithm: Any) -> Any:
    """The learner of an algorithm that trains in this process."""
    (result,) = algorithm.learner_group.foreach_learner(lambda learner: learner)
    return result.get()


def write_dataset(folder: Path, users: int, requests: int, pairs: int, length: int, shards: int = 8) -> None:
    """Writes the data set: `users` training users, half as many validation and a few test users.

    Training of several learners needs its 8 `shards` of transitions.
    """
    generator = np.random.default_rng(0)
    splits = {
        "train": range(users),
        "validation": range(users, users + users // 2),
        "test": range(2 * users, 2 * users + 4),
    }
    transitions = []
    for split, ids in splits.items():
        score = {}
        for part, members in enumerate(np.array_split(np.array(ids), 2)):
            states = generator.normal(size=(len(members) * requests, STATE.width)).astype(np.float32)
            best, logged = best_action(states)
            actions = np.clip(logged + NOISE * generator.normal(size=logged.shape), -1, 1).astype(np.float32)
            closeness = -np.square(actions - best).sum(axis=1)
            score |= dict(zip(members.tolist(), closeness.reshape(len(members), requests), strict=True))
            columns = {
                "user_id": np.repeat(members, requests),
                "step": np.tile(np.arange(requests), len(members)),
                "state": matrix(states),
                "action": matrix(actions),
                "reward": pa.array(closeness, pa.float32()),
            }
            write(folder / f"requests/{split}/part-{part:05d}.parquet", columns)
            if split == "train":
                first = np.flatnonzero(np.arange(len(states)) % requests < requests - 1)
                transitions.append((states[first], actions[first], states[first + 1], closeness[first]))
        if split != "test":
            write(folder / f"preferences/depth/{split}.parquet", preferences(score, pairs, length, generator))
    obs, action, next_obs, reward = (np.concatenate(column) for column in zip(*transitions, strict=True))
    for shard, rows in enumerate(np.array_split(generator.permutation(len(obs)), shards)):
        columns = {"obs": matrix(obs[rows]), "action": matrix(action[rows]), "next_obs": matrix(next_obs[rows])}
        columns["number"] = pa.array(rows)
        write(
            folder / f"transitions/part-{shard:05d}.parquet",
            {**columns, "reward": pa.array(reward[rows], pa.float32())},
        )
    ItemTable(np.arange(200), generator.uniform(-1, 1, size=(200, ACTIONS))).save(str(folder / "items.parquet"))
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        counts={
            split: {
                "users": len(ids),
                "sessions": 0,
                "requests": len(ids) * requests,
                "transitions": len(obs) if split == "train" else 0,
            }
            for split, ids in splits.items()
        },
        state_dim=STATE.width,
        action_dim=ACTIONS,
        action_low=-1.0,
        action_high=1.0,
        state=STATE,
        normaliser={"mean": [0.0] * STATE.width, "std": [1.0] * STATE.width},
        settings={"preferences": {"teachers": [{"name": n, "scoring": n.rpartition("_")[2]} for n in TEACHERS]}},
        seed=0,
        tasks=["depth"],
        teachers=list(TEACHERS),
        mixture_weight=0.5,
        has_reward=True,
    )
    storage.write_json(str(folder / "metadata.json"), metadata.model_dump())


def preferences(
    score: dict[int, np.ndarray], pairs: int, length: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """`pairs` of each teacher; the segment with the larger sum of scores is preferred."""
    users, scores = np.array(list(score)), np.stack(list(score.values()))
    running = np.concatenate([np.zeros((len(users), 1)), scores.cumsum(axis=1)], axis=1)
    tables: list[dict[str, np.ndarray]] = []
    for teacher in TEACHERS:
        user = generator.integers(0, len(users), (pairs, 2))
        if teacher.startswith("within"):
            user[:, 1] = user[:, 0]
        start = generator.integers(0, scores.shape[1] - length - 1, (pairs, 2))
        sums = running[user, start + length] - running[user, start]
        sides = {"user": users[user], "start": start, "score": sums}
        tables.append(
            {
                "pair_id": np.arange(pairs),
                "length": np.full(pairs, length),
                "teacher": np.full(pairs, teacher),
                "label": (sums[:, 1] > sums[:, 0]).astype(np.float32),
                **{f"{name}_{side}": values[:, side] for name, values in sides.items() for side in (0, 1)},
            }
        )
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def matrix(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])


def write(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
