"""Load the data of a run: shards of transitions, preferences, and states for diagnostics of the policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import ray

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.preferences import held_out_teachers, load_buffer
from prefrec_ray.algorithms.feed.shards import Shard, find_shards
from prefrec_ray.algorithms.feed.tasks import reads_here, start
from prefrec_ray.algorithms.requests import DataRequest
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.completeness import check_complete
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream

#: Validation states for the diagnostics of the policy after every iteration.
PROBE_STATES = 512


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
    """Load the data of `request`, large data by tasks (feed/tasks.py). Only streamed data are not in memory on return.

    `same`: the same transitions, loaded before with other preferences. Raises `UserError` for a damaged data set, or
    one without preferences of a teacher.
    """
    dataset = PreparedDataset.open(request.dataset)
    here = reads_here(dataset)
    if same is None:
        check_complete(dataset)
        shards, sizes = find_shards(dataset, request.transitions, request.limit, here)
        same = LoadedData(shards, sizes, start(_probe_states, dataset.uri, here=here))
        # Read before the learners start, since they may take the last CPUs, and reading would never begin.
        ray.get(same.probe)
    if request.numbered:
        check_numbers(dataset)
    preferences = request.preferences
    if preferences is None:
        return LoadedData(same.shards, same.sizes, same.probe)
    task, columns = preferences.task, preferences.columns
    buffer = load_buffer(dataset.uri, task, "train", preferences.teachers, columns, preferences.precision, here)
    pairs = len(ray.get(buffer))  # before more tasks start, so that an error is raised once
    measured_by = held_out_teachers(dataset, preferences.teachers)
    held_out = load_buffer(dataset.uri, task, "validation", measured_by, columns, here=here) if measured_by else None
    if held_out is not None:
        ray.get(held_out)
    return LoadedData(same.shards, same.sizes, same.probe, buffer, held_out, pairs)


def check_numbers(dataset: PreparedDataset) -> None:
    """Raise `UserError` if transitions have no column `number`."""
    file = dataset.files("transitions")[0]
    system, path = storage.filesystem(file)
    if "number" not in pq.read_schema(path, filesystem=system).names:
        raise UserError(
            f"{file}: found no column 'number', as in data sets of earlier versions; make the data set again by "
            "`prefrec prepare`, or set reward_horizon: 1"
        )


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
