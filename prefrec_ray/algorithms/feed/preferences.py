"""Preferences as the learner reads them: the rows of all segments once, and pairs as indices into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from torch import Tensor

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.terms import PAIRINGS


@dataclass(frozen=True)
class PreferenceBuffer:
    """Pairs of segments over shared rows.

    inputs [M, D]: what the reward model sees of a request (state and action, or columns of the next state), float32, or
    the bits of bfloat16 as int16 (NumPy has no such type), as `rows` makes tensors of them;
    first [P, 2] int64: row of the first request of either segment; label [P] float32: P(second preferred);
    within [P] bool: both segments are of one user; teacher [P]: who says so; length: requests in a segment.
    """

    inputs: np.ndarray
    first: np.ndarray
    label: np.ndarray
    within: np.ndarray
    teacher: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, index: np.ndarray) -> Tensor:
        """The inputs at `index` [...]: [..., D], float32 or bfloat16."""
        found = torch.from_numpy(self.inputs[index])
        return found.view(torch.bfloat16) if found.dtype == torch.int16 else found


def as_bfloat16(inputs: np.ndarray) -> np.ndarray:
    """The bits, int16, of float32 numbers rounded as autocast rounds them."""
    return torch.from_numpy(inputs).bfloat16().view(torch.int16).numpy()


def held_out_teachers(dataset: PreparedDataset, teachers: Sequence[str]) -> list[str]:
    """By whose labels of validation users one measures a reward that was learned from `teachers`.

    Of scripted ones those that do not err, with the same scoring and either pairing; of people their own labels, if
    they judged pairs of validation users.
    """
    scorings = {
        teacher["name"]: teacher["scoring"]
        for teacher in dataset.metadata.settings.get("preferences", {}).get("teachers", ())
        if "name" in teacher  # a data set of an earlier version does not say it, and has plain names only
    }
    found = []
    for name in teachers:
        if name in dataset.people():
            found += [name] if storage.exists(dataset.people_path(name, "validation")) else []
        else:
            scoring = scorings.get(name, name.rpartition("_")[2])
            found += [f"{pairing}_{scoring}" for pairing in PAIRINGS]
    return list(dict.fromkeys(found))


def load_buffer(
    uri: str, task: str, split: str, teachers: Sequence[str], columns: Sequence[int] | None, precision: str = "float32"
) -> ray.ObjectRef:
    """Reads the pairs of `teachers` and the rows of their segments into the object store, by tasks over the files.

    The pairs of several teachers are pooled. `columns` are the columns of the next state that the reward sees, or None
    for state and action. `precision`: inputs that a bf16 product would round are held rounded, in half the memory.
    Returns a reference to a `PreferenceBuffer`. Raises `UserError` (at `ray.get`) where a teacher
    has no pairs, and where segments are of several lengths.
    """
    dataset = PreparedDataset.open(uri)
    pairs = _load_pairs.remote(uri, task, split, list(teachers))
    parts = [_segment_rows.remote(uri, file, pairs, columns, precision) for file in dataset.files("requests", split)]
    return _join.remote(pairs, *parts)


@ray.remote(num_cpus=1)
def _load_pairs(uri: str, task: str, split: str, teachers: list[str]) -> dict[str, np.ndarray]:
    dataset = PreparedDataset.open(uri)
    people = dataset.people()
    scripted = [name for name in teachers if name not in people]
    names = ["user_0", "user_1", "start_0", "start_1", "label", "length", "teacher"]
    tables: list[pa.Table] = []
    if scripted:
        table = dataset.read(dataset.path("preferences", task, f"{split}.parquet"), columns=names)
        tables.append(table.filter(pc.is_in(table["teacher"], pa.array(scripted))))
        if len(tables[0]) == 0:
            raise UserError(
                f"{dataset.path('preferences', task)}: no {split} pairs of teacher {' or '.join(scripted)}; "
                f"the data set has {', '.join(dataset.metadata.teachers)}"
            )
    for name in teachers:
        if name in people:
            tables.append(dataset.read(dataset.people_path(name, split), columns=names))
    found = {name: np.concatenate([t[name].to_numpy(zero_copy_only=False) for t in tables]) for name in names}
    lengths = np.unique(found["length"])
    if len(lengths) > 1:
        raise UserError(
            f"{uri}: the pairs of {' and '.join(teachers)} are of {' and '.join(map(str, lengths))} requests; "
            "expected one length of segments for all"
        )
    return found


def segment_rows(uri: str, file: str, pairs: dict[str, np.ndarray], columns: Sequence[int] | None) -> dict[str, Any]:
    """The rows of one file that some segment needs, and where each segment of its users begins among them.

    `pairs` holds user_0, start_0, user_1, start_1 and length. Returns inputs [M, D], and as `starts` for either side
    (side, numbers of the pairs [n] whose user is in the file, rows of their first requests [n]).
    """
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
    inputs = (
        np.concatenate([state, tensor(table["action"])[keep]], axis=1) if columns is None else state[:, list(columns)]
    )
    # A reward of the next state starts one row later.
    shift = 0 if columns is None else 1
    starts = [(side, pair, position[row] + shift) for side, pair, row in segments]
    return {"inputs": np.ascontiguousarray(inputs), "starts": starts}


@ray.remote(num_cpus=1)
def _segment_rows(
    uri: str, file: str, pairs: dict[str, np.ndarray], columns: Sequence[int] | None, precision: str
) -> dict[str, Any]:
    found = segment_rows(uri, file, pairs, columns)
    return {**found, "inputs": as_bfloat16(found["inputs"])} if precision == "bf16" else found


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
        teacher=pairs["teacher"].astype(str),
        length=int(pairs["length"][0]),
    )
