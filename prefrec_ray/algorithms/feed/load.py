"""Load the data of a run: shards of transitions, preferences, and states for diagnostics of the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.util import get_current_placement_group

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.preferences import held_out_teachers, load_buffer
from prefrec_ray.algorithms.feed.shards import Shard, find_shards
from prefrec_ray.algorithms.requests import DataRequest
from prefrec_ray.dataset import PreparedDataset, check_complete, tensor
from prefrec_ray.ids import Stream

#: Validation states for the diagnostics of the policy after every iteration.
PROBE_STATES = 512
#: Size up to which one process reads a data set faster than the processes of tasks can start.
SMALL_BYTES = 256 << 20


@dataclass(frozen=True)
class LoadedData:
    """References to a data set in the object store, one copy for many runs.

    shards: transitions (Arrow tables, or files to stream), of `sizes` rows. preferences, held_out: `PreferenceBuffer`s
    of training users (`pairs` long) and of validation users; None without preferences. `held_out` is also None if
    annotators labelled no validation users. probe: states for diagnostics. The loading process owns the data and must
    live as long as they are used.
    """

    shards: list[Shard]
    sizes: list[int]
    probe: ray.ObjectRef
    preferences: ray.ObjectRef | None = None
    held_out: ray.ObjectRef | None = None
    pairs: int = 0


def load_data(request: DataRequest, same: LoadedData | None = None) -> LoadedData:
    """Load the data of `request`, large data by tasks. Only streamed data are not in memory on return.

    `same`: the same transitions, loaded before with other preferences. Raises `UserError` for a damaged data set, or
    one without preferences of a teacher.
    """
    dataset = PreparedDataset.open(request.dataset)
    here = _reads_here(dataset)

    def start(function: Callable[..., Any], *inputs: Any) -> ray.ObjectRef:
        return ray.put(function(*inputs)) if here else ray.remote(num_cpus=1)(function).remote(*inputs)

    if same is None:
        check_complete(dataset)
        shards, sizes = find_shards(dataset, request.transitions, request.limit, here)
        same = LoadedData(shards, sizes, start(_probe_states, dataset.uri))
    data = LoadedData(same.shards, same.sizes, same.probe)
    wanted = request.preferences
    if wanted is not None:
        preferences = start(
            load_buffer, dataset.uri, wanted.task, "train", wanted.teachers, wanted.columns, wanted.precision
        )
        pairs = len(ray.get(preferences))  # before another task starts, so that an error is raised once
        data = replace(data, preferences=preferences, pairs=pairs)
        held_out = held_out_teachers(dataset, wanted.teachers)
        if held_out:
            reference = start(load_buffer, dataset.uri, wanted.task, "validation", held_out, wanted.columns)
            data = replace(data, held_out=reference)
    # Read before the learners start, since they may take the last CPUs, and reading would never begin.
    ray.get([reference for reference in (data.probe, data.held_out) if reference is not None])
    return data


def _reads_here(dataset: PreparedDataset) -> bool:
    """Return True if this process should read the data set itself: if it is small, or in a trial of Tune.

    Tasks of a trial may never start, as its placement group reserves the CPUs of the trial and its learners.
    """
    folders = dataset.path("transitions"), dataset.path("requests", "train"), dataset.path("requests", "validation")
    size = sum(storage.size(folder) for folder in folders if storage.exists(folder))
    return size <= SMALL_BYTES or get_current_placement_group() is not None


def _probe_states(uri: str) -> np.ndarray:
    """Return a sample of at most PROBE_STATES validation states [n, S], about equally many from each file."""
    dataset = PreparedDataset.open(uri)
    files = dataset.files("requests", "validation")
    generator = np.random.default_rng(Stream.PROBE_STATES)
    sample = []
    for file in files:
        states = tensor(dataset.read(file, columns=["state"])["state"])
        take = min(len(states), -(-PROBE_STATES // len(files)))
        sample.append(states[np.sort(generator.choice(len(states), take, replace=False))])
    return np.concatenate(sample) if sample else np.empty((0, dataset.metadata.state_dim), dtype=np.float32)
