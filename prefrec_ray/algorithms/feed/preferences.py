"""Preferences for the learner: the rows of all segments, each once, pairs as indices into them, and their order.

The pairs of a mini-batch are a function of (seed, index).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from torch import Tensor

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.batches import to_device
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream
from prefrec_ray.preferences import scoring_of
from prefrec_ray.settings import PAIRINGS

#: Files of impressions that are read at a time.
_THREADS = 8


@dataclass(frozen=True)
class PreferenceBuffer:
    """Pairs of segments over shared rows.

    inputs [M, D]: the reward model's input for an impression (state and action, or columns of the next state), float32,
    or int16 with the bits of bfloat16, which NumPy lacks; `rows` returns them as tensors. first [P, 2] int64: row of
    the first impression of each segment. label [P] float32: preference label, P(second preferred). within [P] bool:
    both segments belong to one user. teacher [P]: its name. length: impressions in a segment.
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
        """Return the inputs at `index` [...]: [..., D], float32 or bfloat16."""
        rows = torch.from_numpy(self.inputs[index])
        return rows.view(torch.bfloat16) if rows.dtype == torch.int16 else rows

    def segments(self, pairs: np.ndarray, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Return on `device` the labels [n] of pairs, and the inputs [n, length, D] of first and second segments."""
        steps = np.arange(self.length)
        sides = [to_device(self.rows(first[:, None] + steps), device) for first in self.first[pairs].T]
        return to_device(torch.from_numpy(self.label[pairs]), device), sides


@dataclass(frozen=True)
class PreferencePlan:
    """Mini-batches of preferences, of which a learner takes part number `part` of `parts`."""

    buffer: ray.ObjectRef
    pairs: int
    batch_size: int
    seed: int
    first: int
    part: int
    parts: int

    @property
    def size(self) -> int:
        """Return the number of pairs of a whole mini-batch; the parts of learners may differ by one pair."""
        return min(self.batch_size, self.pairs)

    def rows(self, index: int) -> np.ndarray:
        """Return this learner's pair numbers in batch `first + index`; each pass over the pairs has its own order."""
        epoch, within = divmod(self.first + index, batches_per_pass(self.pairs, self.batch_size))
        order = _pass_order(self.seed, epoch, self.pairs)
        return order[within * self.size : (within + 1) * self.size][self.part :: self.parts]

    def load(self) -> PreferenceBuffer:
        """Return the buffer, from the shared memory of the node."""
        return ray.get(self.buffer)


@lru_cache(maxsize=1)
def _pass_order(seed: int, epoch: int, pairs: int) -> np.ndarray:
    return np.random.default_rng((seed, Stream.PASS, epoch)).permutation(pairs)


def batches_per_pass(pairs: int, batch_size: int) -> int:
    """Return the number of whole mini-batches in a pass over `pairs` preferences, at least one."""
    return max(1, pairs // batch_size)


def pretrain_batches(epochs: float, pairs: int, batch_size: int, most: int | None) -> int:
    """Return the number of mini-batches of pre-training, at most `most`: at least one, or 0 for 0 epochs."""
    batches = max(1, round(epochs * batches_per_pass(pairs, batch_size))) if epochs > 0 else 0
    return batches if most is None else min(batches, most)


def as_bfloat16(inputs: np.ndarray) -> np.ndarray:
    """Return the bits, as int16, of float32 numbers rounded to bfloat16 as autocast rounds them."""
    return torch.from_numpy(inputs).bfloat16().view(torch.int16).numpy()


def held_out_teachers(dataset: PreparedDataset, teachers: Sequence[str]) -> list[str]:
    """Return the teachers whose labels of validation users measure a reward that was learned from `teachers`.

    For a scripted teacher these are the teachers with its scoring and each pairing. Annotators measure themselves, if
    they voted on pairs of validation users.
    """
    names: list[str] = []
    for name in teachers:
        if name in dataset.people():
            names += [name] if storage.exists(dataset.people_path(name, "validation")) else []
        else:
            names += [f"{pairing}_{scoring_of(name)}" for pairing in PAIRINGS]
    return list(dict.fromkeys(names))


def load_buffer(
    uri: str,
    task: str,
    split: str,
    teachers: Sequence[str],
    columns: Sequence[int] | None,
    precision: str = "float32",
) -> PreferenceBuffer:
    """Read the pooled pairs of `teachers` and the rows of their segments.

    `columns`: columns of the next state in the inputs of the reward model; None: state and action. `precision` other
    than float32: inputs are stored as bfloat16, in half the memory, because matrix products would round them anyway.
    Raises `UserError` if the task is not prepared, a teacher has no pairs or segments differ in length.
    """
    dataset = PreparedDataset.open(uri)
    pairs = _load_pairs(dataset, task, split, teachers)

    def rows(file: str) -> dict[str, Any]:
        part = segment_rows(uri, file, pairs, columns)
        return part if precision == "float32" else {**part, "inputs": as_bfloat16(part["inputs"])}

    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(rows, dataset.files("requests", split)))
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


def _load_pairs(dataset: PreparedDataset, task: str, split: str, teachers: Sequence[str]) -> dict[str, np.ndarray]:
    people = dataset.people()
    scripted = [name for name in teachers if name not in people]
    names = ["user_0", "user_1", "start_0", "start_1", "label", "length", "teacher"]
    tables: list[pa.Table] = []
    if scripted:
        prepared = dataset.metadata.tasks
        if task not in prepared:
            raise UserError(
                f"{dataset.uri}: task '{task}': its preferences are prepared for {', '.join(prepared) or 'no task'}; "
                "see prepare.preferences.tasks"
            )
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
    pairs = {name: np.concatenate([t[name].to_numpy(zero_copy_only=False) for t in tables]) for name in names}
    lengths = np.unique(pairs["length"])
    if len(lengths) > 1:
        raise UserError(
            f"{dataset.uri}: found pairs of {' and '.join(map(str, lengths))} impressions ({' and '.join(teachers)}); "
            "expected one length of segments for all"
        )
    return pairs


def segment_rows(uri: str, file: str, pairs: dict[str, np.ndarray], columns: Sequence[int] | None) -> dict[str, Any]:
    """Return the rows of one file that are in a segment, and the first row of each segment among them.

    `pairs` has user_0, start_0, user_1, start_1 and length. Returns inputs [M, D], and `starts`: for each side (side,
    numbers of the pairs [n] whose user is in the file, first rows of their segments [n]).
    """
    table = PreparedDataset.open(uri).read(file, columns=["user_id", "state", "action"])
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
        # One row more than the segment, for the next state of its last impression.
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
