"""The offline data of an algorithm: shards of transitions, preferences, and states to probe the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
from ray.rllib.offline.offline_data import OfflineData

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.batches import (
    PreferencePlan,
    TransitionPlan,
    batches_in,
    batches_per_pass,
    deal,
    pretrain_batches,
)
from prefrec_ray.algorithms.feed.preferences import held_out_teachers, load_buffer
from prefrec_ray.algorithms.feed.schedule import Position, Schedule
from prefrec_ray.algorithms.feed.shards import Shard, find_shards, lanes_of
from prefrec_ray.algorithms.feed.tasks import start
from prefrec_ray.algorithms.requests import DataRequest
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.completeness import check_complete
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream

#: Validation states for the diagnostics of the policy after every iteration.
PROBE_STATES = 2048


@dataclass(frozen=True)
class LearnerPlan:
    """The input of one learner for one iteration."""

    transitions: TransitionPlan
    preferences: PreferencePlan | None
    refresh_reward_scale: bool


@dataclass(frozen=True)
class LoadedData:
    """References to a data set in the object store, one copy for many runs.

    shards: transitions (Arrow tables, or files to stream), of `sizes` rows. preferences, held_out: `PreferenceBuffer`s
    of training users (`pairs` long) and of validation users; None without preferences, `held_out` also where people
    judged no validation users. probe: states for diagnostics. The process that loads them owns them, and must live as
    long as they are used.
    """

    shards: list[Shard]
    sizes: list[int]
    probe: ray.ObjectRef
    preferences: ray.ObjectRef | None = None
    held_out: ray.ObjectRef | None = None
    pairs: int = 0


def load_data(request: DataRequest, same: LoadedData | None = None) -> LoadedData:
    """Reads the data of `request` by tasks (feed/tasks.py); all that is not streamed is read when this returns.

    `same`: the same transitions, loaded before with other preferences. Raises `UserError` for a damaged data set, or
    one without preferences of a teacher.
    """
    dataset = PreparedDataset.open(request.dataset)
    if same is None:
        check_complete(dataset)
        shards, sizes = find_shards(dataset, request.transitions, request.limit)
        same = LoadedData(shards, sizes, start(_probe_states, dataset.uri))
        # Read before the learners start: they may take the last CPUs, and reading would never begin.
        ray.get(same.probe)
    if request.numbered:
        check_numbers(dataset)
    preferences = request.preferences
    if preferences is None:
        return LoadedData(same.shards, same.sizes, same.probe)
    task, columns = preferences.task, preferences.columns
    buffer = load_buffer(dataset.uri, task, "train", preferences.teachers, columns, preferences.precision)
    pairs = len(ray.get(buffer))  # before more tasks start, so that an error is raised once
    measured_by = held_out_teachers(dataset, preferences.teachers)
    held_out = load_buffer(dataset.uri, task, "validation", measured_by, columns) if measured_by else None
    if held_out is not None:
        ray.get(held_out)
    return LoadedData(same.shards, same.sizes, same.probe, buffer, held_out, pairs)


def check_numbers(dataset: PreparedDataset) -> None:
    """Raises `UserError` if transitions have no column `number`."""
    file = dataset.files("transitions")[0]
    system, path = storage.filesystem(file)
    if "number" not in pq.read_schema(path, filesystem=system).names:
        raise UserError(
            f"{file}: no column 'number': the data set was made by an earlier version; make it again by "
            "`prefrec prepare`, or set reward_horizon: 1"
        )


class PreparedData(OfflineData):
    """RLlib's `OfflineData` over a prepared data set: learners get plans, and read the data themselves.

    The base class is not initialised, as it would read the folder in RLlib's own schema.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        # Set by RLlib's Algorithm.setup.
        self.locality_hints = self.learner_handles = self.module_spec = self.spaces = None
        self.dataset: PreparedDataset = config.dataset
        settings: TrainingSettings = config.settings
        self.settings = settings
        loaded = config.loaded_data.value or load_data(DataRequest.of(settings, self.dataset))
        self.learners = max(1, config.num_learners)
        self.batch_size = settings.train_batch_size_per_learner * self.learners
        self._lane_count = lanes_of(len(loaded.shards), self.batch_size)
        self._lanes = deal(loaded.shards, loaded.sizes, self.batch_size, self.learners)
        self.batches_per_epoch = batches_in(lane for lanes in self._lanes for lane in lanes)
        if self.batches_per_epoch == 0:
            raise UserError(
                f"train_batch_size_per_learner: a batch of {self.batch_size} is larger than the {sum(loaded.sizes)} "
                f"transitions in use ({self.dataset.uri}); expected a smaller batch, or a larger replay_buffer_size"
            )
        self.preferences, self.pairs, self.held_out = loaded.preferences, loaded.pairs, loaded.held_out
        self.probe: np.ndarray = ray.get(loaded.probe)
        self.preference_batches = batches_per_pass(self.pairs, settings.preference_batch_size)
        self.pretrain_batches = 0
        if settings.uses_preferences:
            epochs, size = settings.pretrain_epochs, settings.preference_batch_size
            self.pretrain_batches = pretrain_batches(epochs, self.pairs, size)
        self.schedule = self._schedule()

    def _schedule(self) -> Schedule:
        settings = self.settings
        updates = max(1, round(settings.num_epochs * self.batches_per_epoch))
        return Schedule(
            pretrain_batches=0 if self.config.pretrained_reward.value is not None else self.pretrain_batches,
            preference_batches=self.preference_batches,
            updates=updates,
            updates_per_epoch=self.batches_per_epoch,
            updates_per_iteration=settings.updates_per_iteration or max(1, -(-self.batches_per_epoch // 4)),
        )

    def preference_plans(self, position: Position) -> list[PreferencePlan | None]:
        """The preferences of one iteration for each learner; None if the reward model is not updated."""
        settings = self.settings
        pretraining = position.phase == "pretrain"
        if self.preferences is None or not (pretraining or settings.finetune_reward):
            return [None] * self.learners
        # Fine-tuning continues after the last mini-batch of pre-training, one mini-batch per step.
        first = position.first + (0 if pretraining else self.pretrain_batches)
        return [
            PreferencePlan(
                self.preferences,
                self.pairs,
                settings.preference_batch_size,
                settings.seed,
                first,
                part,
                self.learners,
            )
            for part in range(self.learners)
        ]

    def sample(self, position: Position, reward_labels: ray.ObjectRef | None = None) -> list[LearnerPlan]:
        """The plan of each learner for one iteration of the phase "train"; `reward_labels` as in `TransitionPlan`."""
        settings = self.settings
        first_of_phase = position.first == 0
        refresh = settings.standardise_reward and (first_of_phase or settings.finetune_reward)
        plans = []
        for part, preferences in enumerate(self.preference_plans(position)):
            transitions = TransitionPlan(
                lanes=self._lanes[part],
                lane_count=self._lane_count,
                batch_size=self.batch_size,
                batches_per_epoch=self.batches_per_epoch,
                seed=settings.seed,
                first=position.first,
                count=position.count,
                reward_labels=reward_labels,
            )
            plans.append(LearnerPlan(transitions, preferences, refresh))
        return plans


def _probe_states(uri: str) -> np.ndarray:
    """A sample of at most PROBE_STATES validation states [n, S], about equally many from each file."""
    dataset = PreparedDataset.open(uri)
    files = dataset.files("requests", "validation")
    generator = np.random.default_rng(Stream.PROBE_STATES)
    sample = []
    for file in files:
        states = tensor(dataset.read(file, columns=["state"])["state"])
        take = min(len(states), -(-PROBE_STATES // len(files)))
        sample.append(states[np.sort(generator.choice(len(states), take, replace=False))])
    return np.concatenate(sample) if sample else np.empty((0, dataset.metadata.state_dim), dtype=np.float32)
