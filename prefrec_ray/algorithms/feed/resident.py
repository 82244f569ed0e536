"""Resident data: a learner's transitions and rows of preferences in the memory of a GPU, if they fit.

A learner on the processor does not need this: its plans gather batches from the object store. On another device batches
are gathered on the device by the row numbers of the same plans. Data that do not fit, and streamed data, arrive batch
by batch (transfer.py).
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import ray
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.batches import TransitionPlan
from prefrec_ray.algorithms.feed.columns import ACTIONS, NEXT_OBS, OBS, REWARDS
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.feed.shards import NUMBER, ShardCache, columns
from prefrec_ray.algorithms.feed.transfer import Batch, to_device

#: Share of a device's free memory that transitions may fill, and preferences of the remaining memory, because networks,
#: optimizers and activations need memory too.
ROOM = 0.5


def fits(size: int, device: torch.device, share: float) -> bool:
    """Return True if `size` bytes fit on a GPU of which this process has a `share` (trials can share a GPU)."""
    gc.collect()  # of an earlier trial in this process
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + kept
    return size <= ROOM * min(1.0, share) * free


@dataclass(frozen=True)
class Transitions:
    """All rows of a learner's lanes on a device, in their storage types.

    starts: first row of each shard, per lane. labels: labels of all transitions by number, or None.
    """

    columns: Batch
    starts: dict[int, np.ndarray]
    labels: Tensor | None = None

    @classmethod
    def from_shards(cls, plan: TransitionPlan, cache: ShardCache, device: torch.device) -> Transitions:
        """Return a copy of all shards of `plan`, one after another."""
        count, kept = sum(sum(part.sizes) for part in plan.lanes), _kept(plan)
        table: Batch = {}
        starts, filled = {}, 0
        for part in plan.lanes:
            starts[part.number] = filled + np.cumsum([0, *part.sizes[:-1]])
            for shard, size in zip(part.shards, part.sizes, strict=True):
                for name, values in columns(ray.get(cache.bring(shard))).items():
                    if name in kept:
                        rows = torch.tensor(values[:size])
                        if name not in table:
                            table[name] = rows.new_empty(count, *rows.shape[1:], device=device)
                        table[name][filled : filled + size] = rows
                filled += size
        return cls(table, starts)

    def rows(self, numbers: np.ndarray) -> Batch:
        """Return these rows, as float32."""
        index = to_device(torch.from_numpy(numbers), next(iter(self.columns.values())).device)
        batch = {name: values.index_select(0, index) for name, values in self.columns.items()}
        if self.labels is not None:
            batch[REWARDS] = self.labels.index_select(0, batch.pop(NUMBER))
        return {name: values.float() for name, values in batch.items()}


@dataclass(frozen=True)
class Preferences:
    """A `PreferenceBuffer` on a device: `inputs` [M, D] as float32 or bfloat16, `first` [P, 2], `label` [P]."""

    inputs: Tensor
    first: Tensor
    label: Tensor
    length: int

    @classmethod
    def from_buffer(cls, buffer: PreferenceBuffer, device: torch.device) -> Preferences:
        """Return a copy of `buffer`."""
        inputs, first, label = (torch.tensor(a, device=device) for a in (buffer.inputs, buffer.first, buffer.label))
        return cls(inputs.view(torch.bfloat16) if inputs.dtype == torch.int16 else inputs, first, label, buffer.length)

    def segments(self, pairs: np.ndarray, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Return labels and inputs as `PreferenceBuffer.segments`."""
        index = to_device(torch.from_numpy(pairs), device)
        steps = torch.arange(self.length, device=device)
        sides = [self.inputs[first[:, None] + steps] for first in self.first.index_select(0, index).T]
        return self.label.index_select(0, index), sides


Segments: TypeAlias = PreferenceBuffer | Preferences


def _kept(plan: TransitionPlan) -> set[str]:
    return {OBS, ACTIONS, NEXT_OBS, REWARDS if plan.reward_labels is None else NUMBER}


def size_of(plan: TransitionPlan, cache: ShardCache) -> int:
    """Return the number of bytes of the transitions of `plan`, and of all labels."""
    first = columns(ray.get(cache.bring(plan.lanes[0].shards[0])))
    row = sum(values[:1].nbytes for name, values in first.items() if name in _kept(plan))
    labels = 0 if plan.reward_labels is None else ray.get(plan.reward_labels).nbytes
    return row * sum(sum(part.sizes) for part in plan.lanes) + labels
