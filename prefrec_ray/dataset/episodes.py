"""Export of a data set to libraries of offline reinforcement learning, one episode per training user.

An episode has the user's state vectors and the embeddings of the shown items. The reward is 0 within a session, and the
level of the session after its last impression (0 if it is undefined), as in the environment of the simulator. Episodes
are truncated and never end, since users come back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray import storage
from prefrec_ray.dataset.columns import floats, tensor, tensor_array
from prefrec_ray.dataset.prepared import PreparedDataset
from prefrec_ray.engagement import task_levels
from prefrec_ray.errors import UserError, nearest
from prefrec_ray.ids import changes, codes, first_rows, last_rows, run_lengths
from prefrec_ray.mdp.normaliser import CLIP
from prefrec_ray.settings import TASKS
from prefrec_ray.storage.parquet import write_parquet

#: Version of Minari's format that is written.
_MINARI_VERSION = "0.5.0"


def export_episodes(dataset: PreparedDataset, kind: str, output: str, task: str = "frequency") -> None:
    """Write the new folder `output` for the library `kind`, with levels of `task` as rewards.

    `d3rlpy`: episodes.npz, arrays with the names of the arguments of `d3rlpy.dataset.MDPDataset`. `minari`: the folder
    data, for `minari.MinariDataset`, in Minari's Parquet format. Raises `UserError` for another kind or task, a
    data set with pages of several items, and if `output` exists.
    """
    if kind not in KINDS:
        raise UserError(f"--format: found '{kind}'; {nearest(kind, list(KINDS))}")
    if task not in TASKS:
        raise UserError(f"--task: found '{task}'; {nearest(task, list(TASKS))}")
    last, write = KINDS[kind]
    with storage.staged(output, last) as folder:
        write(dataset, _parts(dataset, task), storage.join(folder, last))


def _parts(dataset: PreparedDataset, task: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the episodes of one file of training users at a time: states, actions, rewards, starts of the users."""
    weight = dataset.metadata.mixture_weight
    for file in dataset.files("requests", "train"):
        rows = dataset.read(file, ["user_id", "session_index", "step", "state", "action"])
        if not len(rows):
            continue
        sessions = dataset.read(dataset.path("sessions", file.rsplit("/", 1)[-1]))
        sessions = sessions.filter(pc.equal(sessions["split"], "train"))
        depth, frequency = (floats(sessions[f"level_{name}"]) for name in ("depth", "frequency"))
        user = codes(rows["user_id"])
        if not (changes(user) | changes(rows["step"].to_numpy())).all():
            raise UserError(f"{dataset.uri}: found pages of several items; expected one item per step")
        first = np.flatnonzero(changes(user) | changes(rows["session_index"].to_numpy()))
        rewards = np.zeros(len(rows), np.float32)
        rewards[last_rows(first, len(rows))] = np.nan_to_num(task_levels(task, depth, frequency, weight))
        yield {
            "states": tensor(rows["state"]),
            "actions": tensor(rows["action"]),
            "rewards": rewards,
            "starts": first_rows(user),
        }


def _write_d3rlpy(dataset: PreparedDataset, parts: Iterator[dict[str, np.ndarray]], file: str) -> None:
    columns: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "rewards": [], "timeouts": []}
    for part in parts:
        timeouts = np.zeros(len(part["rewards"]), np.float32)
        timeouts[last_rows(part["starts"], len(timeouts))] = 1.0
        values = (part["states"], part["actions"], part["rewards"], timeouts)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    storage.write_arrays(file, {**arrays, "terminals": np.zeros_like(arrays["timeouts"])})


def _write_minari(dataset: PreparedDataset, parts: Iterator[dict[str, np.ndarray]], file: str) -> None:
    folder, about = file.rpartition("/")[0], dataset.metadata
    episodes = steps = 0
    for part in parts:
        for start, count in zip(part["starts"], run_lengths(part["starts"], len(part["rewards"])), strict=True):
            if count < 2:  # no transition
                continue
            # The last row has the last state; its action, reward and flags are padding.
            rows, last = slice(start, start + count), np.arange(count) == count - 2
            table = pa.table(
                {
                    "observations": tensor_array(part["states"][rows]),
                    "actions": tensor_array(part["actions"][rows]),
                    "rewards": part["rewards"][rows],
                    "terminations": np.zeros(count, dtype=bool),
                    "truncations": last,
                }
            )
            place = storage.join(folder, str(episodes))
            storage.make_folder(place)
            write_parquet(table, storage.join(place, "part-0.parquet"))
            storage.write_json(storage.join(place, "metadata.json"), {"id": episodes, "total_steps": int(count - 1)})
            episodes, steps = episodes + 1, steps + int(count - 1)
    metadata = {
        "dataset_id": "prefrec/dataset-v0",
        "minari_version": _MINARI_VERSION,
        "data_format": "parquet",
        "total_episodes": episodes,
        "total_steps": steps,
        "observation_space": _box(-CLIP, CLIP, about.state_dim),
        "action_space": _box(about.action_low, about.action_high, about.action_dim),
        "description": "Episodes of the training users of a data set of prefrec_ray.",
    }
    storage.write_json(file, metadata)


def _box(low: float, high: float, width: int) -> str:
    """Return a space of Gymnasium as Minari stores it."""
    bounds = {"low": [low] * width, "high": [high] * width}
    return json.dumps({"type": "Box", "dtype": "float32", "shape": [width], **bounds})


_Write = Callable[[PreparedDataset, Iterator[dict[str, np.ndarray]], str], None]
#: File that is written last, and function, by library.
KINDS: Mapping[str, tuple[str, _Write]] = {
    "d3rlpy": ("episodes.npz", _write_d3rlpy),
    "minari": ("data/metadata.json", _write_minari),
}
