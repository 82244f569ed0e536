"""Preferences as the learner reads them: the rows of all segments once, and pairs as indices into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError


@dataclass(frozen=True)
class PreferenceBuffer:
    """Pairs of segments over shared rows.

    inputs [M, D] float32: what the reward model sees of a request (state and action, or columns of the next state);
    first [P, 2] int64: row of the first request of either segment; label [P] float32: P(second preferred);
    within [P] bool: both segments are of one user; length: requests in a segment.
    """

    inputs: np.ndarray
    first: np.ndarray
    label: np.ndarray
    within: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.label)


def load_buffer(uri: str, task: str, split: str, teachers: list[str], columns: list[int] | None) -> ray.ObjectRef:
    """Reads the pairs of `teachers` and the rows of their segments into the object store, by tasks over the files.

    `columns` are the columns of the next state that the reward sees, or None for state and action.
    Returns a reference to a `PreferenceBuffer`. Raises `UserError` (at `ray.get`) where a teacher has no pairs.
    """
    dataset = PreparedDataset.open(uri)
    pairs = _load_pairs.remote(uri, task, split, teachers)
    parts = [_segment_rows.remote(uri, file, pairs, columns) for file in dataset.files("requests", split)]
    return _join.remote(pairs, *parts)


@ray.remote(num_cpus=1)
def _load_pairs(uri: str, task: str, split: str, teachers: list[str]) -> dict[str, np.ndarray]:
    dataset = PreparedDataset.open(uri)
    table = dataset.read(dataset.path("preferences", task, f"{split}.parquet"))
    keep = np.isin(table["teacher"].to_numpy(zero_copy_only=False).astype(str), teachers)
    if not keep.any():
        raise UserError(
            f"{dataset.path('preferences', task)}: no {split} pairs of teacher {' or '.join(teachers)}; "
            f"the data set has {', '.join(dataset.metadata.teachers)}"
        )
    names = ("user_0", "user_1", "start_0", "start_1", "label", "length")
    found = {name: table[name].to_numpy(zero_copy_only=False)[keep] for name in names}
    if len(np.unique(found["length"])) > 1:
        raise UserError(f"{dataset.path('preferences', task)}: column length: expected one length, found several")
    return found


@ray.remote(num_cpus=1)
def _segment_rows(uri: str, file: str, pairs: dict[str, np.ndarray], columns: list[int] | None) -> dict[str, Any]:
    """The rows of one file that some segment needs, and where each segment of its users begins among them."""
    dataset = PreparedDataset.open(uri)
    table = dataset.read(file, columns=["user_id", "state", "action"])
    users = table["user_id"].to_numpy(zero_copy_only=False)
    names, user_first = np.unique(users, return_index=True)
    length = int(pairs["length"][0])
    needed = np.zeros(len(users) + 1, dtype=np.int64)
    segments = []
    for side in (0, 1):
        user = pairs[f"user_{side}"]
        at = np.minimum(np.searchsorted(names, user), max(len(names) - 1, 0))
        pair = np.flatnonzero(names[at] == user) if len(names) else np.empty(0, dtype=np.int64)
        row = user_first[at[pair]] + pairs[f"start_{side}"][pair] if len(names) else pair
        # One row more than the segment: the state that its last request leads to.
        np.add.at(needed, row, 1)
        np.subtract.at(needed, np.minimum(row + length + 1, len(users)), 1)
        segments.append((side, pair, row))
    keep = np.cumsum(needed[:-1]) > 0
    position = np.cumsum(keep) - 1
    state = tensor(table["state"])[keep]
    inputs = np.concatenate([state, tensor(table["action"])[keep]], axis=1) if columns is None else state[:, columns]
    # A reward of the next state starts one row later.
    shift = 0 if columns is None else 1
    starts = [(side, pair, position[row] + shift) for side, pair, row in segments]
    return {"inputs": np.ascontiguousarray(inputs), "starts": starts}


@ray.remote(num_cpus=1)
def _join(pairs: dict[str, np.ndarray], *parts: dict[str, Any]) -> PreferenceBuffer:
    first = np.full((len(pairs["label"]), 2), -1, dtype=np.int64)
    offset = 0
    for part in parts:
        for side, pair, row in part["starts"]:
            first[pair, side] = row + offset
        offset += len(part["inputs"])
    return PreferenceBuffer(
        inputs=np.concatenate([part["inputs"] for part in parts]),
        first=first,
        label=pairs["label"].astype(np.float32),
        within=pairs["user_0"] == pairs["user_1"],
        length=int(pairs["length"][0]),
    )
