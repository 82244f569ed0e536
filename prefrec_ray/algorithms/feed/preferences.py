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
from prefrec_ray.mdp.pages import Pages
from prefrec_ray.preferences import scoring_of
from prefrec_ray.settings import PAIRINGS

#: Files of impressions that are read at a time.
_THREADS = 8


@dataclass(frozen=True)
class PreferenceBuffer:
    """Pairs of segments over shared rows.

    inputs [M, D]: the reward model's input for an impression (state and action), or for a page (columns of the next
    state), float32, or int16 with the bits of bfloat16, which NumPy lacks; `rows` returns them as tensors. first [P, 2]
    int64: first row of each segment. label [P] float32: preference label, P(second preferred). within [P] bool: both
    segments belong to one user. teacher [P]: its name. length: rows of the longest segment.

    Only for pages of several items (mdp/pages.py): count [P, 2] int64, the rows of each segment, and weight [M]
    float32, the share of each row in its page. The return of a segment is the weighted sum of rewards.
    """

    inputs: np.ndarray
    first: np.ndarray
    label: np.ndarray
    within: np.ndarray
    teacher: np.ndarray
    length: int
    count: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, index: np.ndarray) -> Tensor:
        """Return the inputs at `index` [...]: [..., D], float32 or bfloat16."""
        rows = torch.from_numpy(self.inputs[index])
        return rows.view(torch.bfloat16) if rows.dtype == torch.int16 else rows

    def segments(self, pairs: np.ndarray, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Return on `device` the labels [n] of pairs, and the inputs [n, length, D] of first and second segments."""
        sides = [to_device(self.rows(index), device) for index in self._index(pairs)]
        return to_device(torch.from_numpy(self.label[pairs]), device), sides

    def weights(self, pairs: np.ndarray, device: torch.device) -> list[Tensor] | None:
        """Return on `device` the weights [n, length] of the rows of `segments`; None: each row counts once."""
        if self.weight is None or self.count is None:
            return None
        inside = np.arange(self.length) < self.count[pairs].T[:, :, None]
        rows = np.where(inside, self.weight[self._index(pairs)], np.float32(0))
        return [to_device(torch.from_numpy(side), device) for side in rows]

    def _index(self, pairs: np.ndarray) -> np.ndarray:
        """Return the rows of segments, int64 [2, n, length]; rows after the end of a segment are any."""
        return np.minimum(self.first[pairs].T[:, :, None] + np.arange(self.length), len(self.inputs) - 1)


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
    first, count = np.full((2, len(pairs["label"]), 2), -1, dtype=np.int64)
    offset = 0
    for part in parts:
        for side, pair, row, rows_of_segment in part["starts"]:
            first[pair, side], count[pair, side] = row + offset, rows_of_segment
        offset += len(part["inputs"])
    weight = np.concatenate([part["weight"] for part in parts])
    paged = bool((weight < 1).any())
    return PreferenceBuffer(
        inputs=np.concatenate([part["inputs"] for part in parts]),
        first=first,
        label=pairs["label"].astype(np.float32),
        within=pairs["user_0"] == pairs["user_1"],
        teacher=pairs["teacher"].astype(str),
        length=int(count.max()),
        count=count if paged else None,
        weight=weight if paged else None,
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

    `pairs` has user_0, start_0, user_1, start_1 and length. Returns inputs [M, D], weight [M], and `starts`: for each
    side (side, numbers of the pairs [n] whose user is in the file, first rows and numbers of rows of their segments
    [n]). Without `columns` there is one row per impression, else one per page, since a page has one next state.
    """
    table = PreparedDataset.open(uri).read(file, columns=["user_id", "step", "state", "action"])
    users = table["user_id"].to_numpy(zero_copy_only=False)
    names, user_first = np.unique(users, return_index=True)
    pages = Pages.from_table(table)
    length, count = int(pairs["length"][0]), len(pages.first)
    needed = np.zeros(count + 1, dtype=np.int64)
    segments = []
    for side in (0, 1):
        user = pairs[f"user_{side}"]
        at = np.minimum(np.searchsorted(names, user), max(len(names) - 1, 0))
        pair = np.flatnonzero(names[at] == user) if len(names) else np.empty(0, dtype=np.int64)
        page = pages.of_row[user_first[at[pair]]] + pairs[f"start_{side}"][pair] if len(names) else pair
        # One page more than the segment, for the next state of its last page.
        np.add.at(needed, page, 1)
        np.subtract.at(needed, np.minimum(page + length + 1, count), 1)
        segments.append((side, pair, page))
    keep = np.cumsum(needed[:-1]) > 0
    if columns is None:
        sizes, kept = pages.sizes, np.flatnonzero(keep[pages.of_row])
        inputs = np.concatenate([tensor(table["state"])[kept], tensor(table["action"])[kept]], axis=1)
    else:
        sizes, kept = np.ones(count, np.int64), pages.first[keep]
        inputs = tensor(table["state"])[kept][:, list(columns)]
    position = np.append(0, np.cumsum(sizes * keep))
    # A reward of the next state starts one page later.
    shift = 0 if columns is None else 1
    return {
        "inputs": np.ascontiguousarray(inputs),
        "weight": np.repeat(1 / sizes[keep], sizes[keep]).astype(np.float32),
        "starts": [
            (side, pair, position[page] + shift, position[page + length] - position[page])
            for side, pair, page in segments
        ],
    }
