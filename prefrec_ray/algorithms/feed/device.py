"""Data feeds of a learner: from plans on the host, or from data that stay in the memory of a GPU if they fit.

A learner on the processor gathers batches from shards, by its plan. On another device, batches are gathered on the
device by the row numbers of the same plans. Data that do not fit, and streamed data, arrive batch by batch.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import ray
import torch
from torch import Tensor

from prefrec_ray.algorithms.feed.batches import Batch, LanePart, TransitionPlan, to_device
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer, PreferencePlan
from prefrec_ray.algorithms.feed.shards import ACTIONS, NEXT_OBS, NUMBER, OBS, REWARDS, ShardCache

#: Share of a device's free memory that transitions may fill, and preferences of the remaining memory, because networks,
#: optimizers and activations need memory too.
ROOM = 0.5


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
                for name, values in cache.fetch(shard).result().items():
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
    """A `PreferenceBuffer` on a device: `inputs` [M, D] as float32 or bfloat16, `first` [P, 2], `label` [P].

    `host` has the weights of rows, which are small.
    """

    inputs: Tensor
    first: Tensor
    label: Tensor
    length: int
    host: PreferenceBuffer

    @classmethod
    def from_buffer(cls, buffer: PreferenceBuffer, device: torch.device) -> Preferences:
        """Return a copy of `buffer`."""
        inputs, first, label = (torch.tensor(a, device=device) for a in (buffer.inputs, buffer.first, buffer.label))
        inputs = inputs.view(torch.bfloat16) if inputs.dtype == torch.int16 else inputs
        return cls(inputs, first, label, buffer.length, buffer)

    def segments(self, pairs: np.ndarray, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Return labels and inputs as `PreferenceBuffer.segments`."""
        index = to_device(torch.from_numpy(pairs), device)
        steps = torch.arange(self.length, device=device)
        last = len(self.inputs) - 1
        sides = [self.inputs[(first[:, None] + steps).clamp(max=last)] for first in self.first.index_select(0, index).T]
        return self.label.index_select(0, index), sides

    def weights(self, pairs: np.ndarray, device: torch.device) -> list[Tensor] | None:
        """Return the weights of `PreferenceBuffer.weights`."""
        return self.host.weights(pairs, device)


Segments: TypeAlias = PreferenceBuffer | Preferences


class Feed:
    """Data of one learner, from one plan to the next, in the order of the plans.

    On another device than the processor, of which this process has a `share`, data become resident at their first use
    if they fit. Streamed data stay streamed.
    """

    def __init__(self, device: torch.device, share: float = 1.0) -> None:
        self._device, self._share, self._cache = device, share, ShardCache()
        self._on_device = device.type != "cpu"
        self._lanes: tuple[list[LanePart], bool] | None = None
        self._transitions: Transitions | None = None
        self._labels: ray.ObjectRef | None = None
        self._buffer: ray.ObjectRef | None = None
        self._preferences: Segments | None = None

    def batches(self, plan: TransitionPlan) -> Iterator[Batch]:
        """Yield the batches of `plan` in order."""
        table = self._table(plan)
        if table is not None:
            return map(table.rows, plan.row_numbers(table.starts))
        batches = plan.batches(self._device, self._cache)
        return ahead(batches, self._device) if self._on_device else batches

    def sample(self, plan: TransitionPlan, rows: int) -> Batch:
        """Return the sample of `TransitionPlan.sample`."""
        table = self._table(plan)
        if table is None:
            return plan.sample(rows, self._device, self._cache)
        numbers = [table.starts[part.number][0] + np.arange(part.sizes[0])[own] for part, own in plan.first_rows(rows)]
        return table.rows(np.concatenate(numbers))

    def preferences(self, plan: PreferencePlan) -> Segments:
        """Return the preferences of `plan`."""
        if self._preferences is None or plan.buffer != self._buffer:
            buffer = plan.load()
            size = buffer.inputs.nbytes + buffer.first.nbytes + buffer.label.nbytes
            resident = self._on_device and fits(size, self._device, self._share)
            self._buffer = plan.buffer
            self._preferences = Preferences.from_buffer(buffer, self._device) if resident else buffer
        return self._preferences

    def _table(self, plan: TransitionPlan) -> Transitions | None:
        """Return the resident transitions of `plan`; None if its batches come from the host."""
        if not self._on_device:
            return None
        lanes = plan.lanes, plan.reward_labels is None
        if lanes != self._lanes:
            self._lanes, self._transitions, self._labels = lanes, None, None
            if not any(isinstance(shard, str) for part in plan.lanes for shard in part.shards) and fits(
                _size(plan, self._cache), self._device, self._share
            ):
                self._transitions = Transitions.from_shards(plan, self._cache, self._device)
        if self._transitions is not None and plan.reward_labels != self._labels:
            labels = torch.tensor(ray.get(plan.reward_labels), device=self._device)
            self._labels, self._transitions = plan.reward_labels, replace(self._transitions, labels=labels)
        return self._transitions


def fits(size: int, device: torch.device, share: float) -> bool:
    """Return True if `size` bytes fit on a GPU of which this process has a `share` (trials can share a GPU)."""
    gc.collect()  # of an earlier trial in this process
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + kept
    return size <= ROOM * min(1.0, share) * free


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches on `device`, each made and copied on its own stream while the previous one is in use.

    `batches` come to the device by copies that are queued on the current stream. A device other than a GPU has no
    streams; there only one batch is made ahead.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copied() -> tuple[Batch | None, torch.cuda.Event | None]:
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            return next(batches, None), None if stream is None else stream.record_event()

    batch, event = copied()
    while batch is not None:
        following = copied()
        if stream is not None and event is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            for values in batch.values():
                values.record_stream(current)  # its memory is not reused before that stream has finished with it
        yield batch
        batch, event = following


def _kept(plan: TransitionPlan) -> set[str]:
    return {OBS, ACTIONS, NEXT_OBS, REWARDS if plan.reward_labels is None else NUMBER}


def _size(plan: TransitionPlan, cache: ShardCache) -> int:
    """Return the number of bytes of the transitions of `plan`, and of all labels."""
    first = cache.fetch(plan.lanes[0].shards[0]).result()
    row = sum(values[:1].nbytes for name, values in first.items() if name in _kept(plan))
    labels = 0 if plan.reward_labels is None else ray.get(plan.reward_labels).nbytes
    return row * sum(sum(part.sizes) for part in plan.lanes) + labels
