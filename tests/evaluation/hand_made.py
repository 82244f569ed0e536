"""A prepared data set made by hand, in the layout of docs/formats.md."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement import depth_levels, frequency_levels
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.users.histories import Histories

ACTION_DIM = 2
STATE = StateDefinition(feedback=("like",), user_features={}, action_dim=ACTION_DIM)


def vectors(rows: np.ndarray) -> pa.Array:
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def linear_policy(dataset: PreparedDataset, weight: np.ndarray, bias: np.ndarray, **changes: object) -> Policy:
    """tanh(weight s + bias)."""
    bounds = np.ones(ACTION_DIM, np.float32)
    actor = DeterministicActor(Mlp.from_layers([(np.float32(weight), np.float32(bias))]), -bounds, bounds)
    policy = Policy(actor, dataset.state, dataset.normaliser, dataset.items())
    return replace(policy, **changes)


def direction(dataset: PreparedDataset, first: float, **changes: object) -> Policy:
    """The logging policy's mean action, pushed by `first` in its first coordinate."""
    return linear_policy(dataset, logging_weight(dataset.state.width), np.array([first, 0.0]), **changes)


def logging_weight(width: int) -> np.ndarray:
    return 0.5 * np.random.default_rng(99).normal(size=(ACTION_DIM, width)) / np.sqrt(width)


def made_histories(
    state: np.ndarray,
    action: np.ndarray,
    first: np.ndarray,
    user: np.ndarray,
    level: np.ndarray,
    row: np.ndarray | None = None,
    propensity: np.ndarray | None = None,
    step: np.ndarray | None = None,
) -> Histories:
    """Histories of sessions [M] that begin at the impressions `first`, with one level for all tasks."""
    n, users = len(state), user[-1] + 1
    nothing, time = np.zeros((n, 0), np.float32), np.arange(n)
    return Histories(
        starts=first[np.searchsorted(user, np.arange(users))],
        timestamp=time,
        session=np.repeat(np.arange(len(first)), np.diff(first, append=n)),
        row=np.zeros(n, int) if row is None else row,
        state=state,
        action=action,
        feedback=nothing,
        exposure=nothing,
        mean_depth=np.ones(users),
        mean_revisit_ms=np.ones(users),
        propensity=np.full(n, np.nan) if propensity is None else propensity,
        depth_level=level,
        frequency_level=level,
        step=np.arange(n) if step is None else step,
    )


def write_dataset(
    folder: Path, users: int, files: int = 4, seed: int = 0, effect: float = 6.0, size: int = 1
) -> PreparedDataset:
    """`users` in each split, pages of `size` items; actions are a noisy function of the state.

    A session whose actions are larger in the first coordinate by 1 is followed by a return sooner by exp(`effect`).
    """
    rng = np.random.default_rng(seed)
    embeddings = rng.uniform(-1, 1, (300, ACTION_DIM))
    items = ItemTable(np.arange(300) + 1000, embeddings)
    weight = logging_weight(STATE.width)
    for name in ("sessions", "transitions", "requests/test", "requests/validation", "requests/train"):
        (folder / name).mkdir(parents=True)
    items.save(str(folder / "items.parquet"))
    counts = {split: dict.fromkeys(("users", "sessions", "requests", "transitions"), 0) for split in SPLITS}
    for number in range(files):
        sessions = []
        for place, split in enumerate(SPLITS):
            rows, times = [], []
            for user in range(number, users, files):
                depth = rng.geometric(0.25, rng.integers(1, 12))
                index = np.repeat(np.arange(len(depth)), depth)
                states = rng.normal(size=(len(index), STATE.width)).astype(np.float32).repeat(size, axis=0)
                of_row, step = index.repeat(size), np.arange(len(index)).repeat(size)
                wish = np.tanh(states @ weight.T) + 0.3 * rng.normal(size=(len(states), ACTION_DIM))
                shown = items.nearest(wish, 1)[:, 0]
                actions = items.embeddings[shown]
                mean_first = np.bincount(of_row, actions[:, 0]) / (depth * size)
                revisit = np.exp(13 - effect * mean_first + 0.3 * rng.normal(size=len(depth)))
                revisit[-1] = np.nan
                user_id = 3 * user + place
                rows.append((np.full(len(step), user_id), of_row, step, items.ids[shown], states, actions))
                # A second a page; the next session begins after the time away.
                away = np.where(np.append(index[1:] != index[:-1], False), np.nan_to_num(revisit)[index], 1000.0)
                times.append(np.int64(1.7e12 + np.cumsum(away) - away).repeat(size))
                counts[split]["users"] += 1
                counts[split]["sessions"] += len(depth)
                one = np.zeros(len(depth), np.int64)
                levels = depth_levels(one, depth), frequency_levels(one, revisit)
                sessions.append((one + user_id, np.arange(len(depth)), depth, revisit, *levels, [split] * len(depth)))
            columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
            table = pa.table(
                {
                    **dict(zip(("user_id", "session_index", "step", "item_id"), columns, strict=False)),
                    "timestamp": np.concatenate(times),
                    "state": vectors(columns[4]),
                    "action": vectors(columns[5]),
                    "feedback": vectors(np.float32(columns[5][:, :1] > 0)),
                }
            )
            pq.write_table(table, folder / "requests" / split / f"part-{number:05d}.parquet")
            counts[split]["requests"] += table.num_rows
            if split == "train":
                transitions = table.select(["state", "action"]).rename_columns(["obs", "action"])
                pq.write_table(transitions, folder / "transitions" / f"part-{number:05d}.parquet")
        columns = [np.concatenate(parts) for parts in zip(*sessions, strict=True)]
        names = ("user_id", "session_index", "depth", "revisit_ms", "level_depth", "level_frequency", "split")
        arrays = {n: pa.array(c, from_pandas=c.dtype == np.float64) for n, c in zip(names, columns, strict=True)}
        pq.write_table(pa.table(arrays), folder / "sessions" / f"part-{number:05d}.parquet")
    metadata = {
        "schema_version": 1,
        "counts": counts,
        "state_dim": STATE.width,
        "action_dim": ACTION_DIM,
        "action_low": -1.0,
        "action_high": 1.0,
        "state": STATE.model_dump(mode="json"),
        "normaliser": Normaliser(np.zeros(STATE.width), np.ones(STATE.width)).to_dict(),
        "settings": {},
        "seed": seed,
        "tasks": ["depth", "frequency", "mixture"],
        "teachers": [],
        "mixture_weight": 0.5,
        "repeats": {"share": 0.5, "impressions": 5.0, "hours": 1.0, "rest_days": 0.0},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return PreparedDataset.open(str(folder))


SPLITS = ("train", "validation", "test")
