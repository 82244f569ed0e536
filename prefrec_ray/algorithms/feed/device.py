"""Data feeds of a learner: from plans on the host, or from data that stay on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import ray
import torch

from prefrec_ray.algorithms.feed.batches import LanePart, TransitionPlan
from prefrec_ray.algorithms.feed.passes import PreferencePlan
from prefrec_ray.algorithms.feed.resident import Preferences, Segments, Transitions, fits, size_of
from prefrec_ray.algorithms.feed.shards import ShardCache
from prefrec_ray.algorithms.feed.transfer import Batch, ahead


class Feed:
    """Data of one learner, from one plan to the next, on the processor, in the order of the plans."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cache = device, ShardCache()

    def batches(self, plan: TransitionPlan) -> Iterator[Batch]:
        """Yield the batches of `plan` in order."""
        return plan.batches(self._device, self._cache)

    def sample(self, plan: TransitionPlan, rows: int) -> Batch:
        """Return the sample of `TransitionPlan.sample`."""
        return plan.sample(rows, self._device, self._cache)

    def preferences(self, plan: PreferencePlan) -> Segments:
        """Return the preferences of `plan`."""
        return plan.load()


class DeviceFeed(Feed):
    """Feed of a learner on another device, of which this process has a `share`.

    Data become resident at their first use if they fit. Streamed data stay streamed.
    """

    def __init__(self, device: torch.device, share: float = 1.0) -> None:
        super().__init__(device)
        self._share = share
        self._lanes: tuple[list[LanePart], bool] | None = None
        self._transitions: Transitions | None = None
        self._labels: ray.ObjectRef | None = None
        self._buffer: ray.ObjectRef | None = None
        self._preferences: Segments | None = None

    def batches(self, plan: TransitionPlan) -> Iterator[Batch]:
        """Yield the batches of `plan` in order."""
        table = self._table(plan)
        if table is None:
            return ahead(super().batches(plan), self._device)
        return map(table.rows, plan.row_numbers(table.starts))

    def sample(self, plan: TransitionPlan, rows: int) -> Batch:
        """Return the sample of `TransitionPlan.sample`."""
        table = self._table(plan)
        if table is None:
            return super().sample(plan, rows)
        numbers = [table.starts[part.number][0] + np.arange(part.sizes[0])[own] for part, own in plan.first_rows(rows)]
        return table.rows(np.concatenate(numbers))

    def preferences(self, plan: PreferencePlan) -> Segments:
        """Return the preferences of `plan`."""
        if self._preferences is None or plan.buffer != self._buffer:
            buffer = plan.load()
            size = buffer.inputs.nbytes + buffer.first.nbytes + buffer.label.nbytes
            resident = fits(size, self._device, self._share)
            self._buffer = plan.buffer
            self._preferences = Preferences.from_buffer(buffer, self._device) if resident else buffer
        return self._preferences

    def _table(self, plan: TransitionPlan) -> Transitions | None:
        lanes = plan.lanes, plan.reward_labels is None
        if lanes != self._lanes:
            self._lanes, self._transitions, self._labels = lanes, None, None
            if not any(isinstance(shard, str) for part in plan.lanes for shard in part.shards) and fits(
                size_of(plan, self._cache), self._device, self._share
            ):
                self._transitions = Transitions.from_shards(plan, self._cache, self._device)
        if self._transitions is not None and plan.reward_labels != self._labels:
            labels = torch.tensor(ray.get(plan.reward_labels), device=self._device)
            self._labels, self._transitions = plan.reward_labels, replace(self._transitions, labels=labels)
        return self._transitions


def feed_of(device: torch.device, share: float = 1.0) -> Feed:
    """Return the feed of a learner on `device`, of which it has a `share`."""
    return Feed(device) if device.type == "cpu" else DeviceFeed(device, share)
