"""The offline data of an algorithm: shards of transitions, preferences, states to probe the policy with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
from ray.rllib.offline.offline_data import OfflineData

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.batches import PreferencePlan, TransitionPlan, batches_per_pass, pretrain_batches
from prefrec_ray.algorithms.feed.preferences import held_out_teachers, load_buffer
from prefrec_ray.algorithms.feed.schedule import Position, Schedule
from prefrec_ray.algorithms.feed.shards import LANES, Shard, find_shards
from prefrec_ray.algorithms.requests import DataRequest
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.completeness import check_complete
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Stream

#: Validation states on which the policy is looked at after every iteration.
PROBE_STATES = 2048


@dataclass(frozen=True)
class LearnerPlan:
    """What one learner is told in one iteration."""

    transitions: TransitionPlan
    preferences: PreferencePlan | None
    refresh_reward_scale: bool


@dataclass(frozen=True)
class LoadedData:
    """References to a data set's contents in the object store, of which many runs need one copy.

    shards: transitions (Arrow tables, or the files to stream them from), `sizes` rows each. preferences, held_out:
    `PreferenceBuffer`s of training users (`pairs` long) and of validation users, or None (the latter too where people
    judged none of these). probe: states to look at the policy with. The process that loaded them must outlive their
    use.
    """

    shards: list[Shard]
    sizes: list[int]
    probe: ray.ObjectRef
    preferences: ray.ObjectRef | None = None
    held_out: ray.ObjectRef | None = None
    pairs: int = 0


def load_data(request: DataRequest, same: LoadedData | None = None) -> LoadedData:
    """Reads what is asked for, by tasks; all that is not streamed is read when this returns.

    `same`: the same transitions, already loaded with other preferences. Raises `UserError` for a data set that is
    damaged, or has no preferences of a teacher.
    """
    dataset = PreparedDataset.open(request.dataset)
    if same is None:
        check_complete(dataset)
        shards, sizes = find_shards(dataset, request.transitions, request.limit)
        same = LoadedData(shards, sizes, _probe_states.remote(dataset.uri))
        # All is read before the learners exist: they may take the last processors, and reading would never begin.
        ray.get(same.probe)
    if request.numbered:
        check_numbers(dataset)
    wanted = request.preferences
    if wanted is None:
        return LoadedData(same.shards, same.sizes, same.probe)
    preferences = load_buffer(dataset.uri, wanted.task, "train", wanted.teachers, wanted.columns, wanted.precision)
    pairs = len(ray.get(preferences))  # before anything else is begun: what fails here is told once
    measure = held_out_teachers(dataset, wanted.teachers)
    held_out = load_buffer(dataset.uri, wanted.task, "validation", measure, wanted.columns) if measure else None
    if held_out is not None:
        ray.get(held_out)
    return LoadedData(same.shards, same.sizes, same.probe, preferences, held_out, pairs)


def check_numbers(dataset: PreparedDataset) -> None:
    """Raises `UserError` where transitions do not carry their numbers."""
    file = dataset.files("transitions")[0]
    system, path = storage.filesystem(file)
    if "number" not in pq.read_schema(path, filesystem=system).names:
        raise UserError(
            f"{file}: no column 'number': the data set was made by an earlier version; make it again by "
            "`prefrec prepare`, or set reward_horizon: 1"
        )


class PreparedData(OfflineData):
    """RLlib's `OfflineData` over a prepared data set: learners get plans of what to read.

    The base class is not initialised: it would read the folder in RLlib's own schema.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        # Set by RLlib's Algorithm.setup.
        self.locality_hints = self.learner_handles = self.module_spec = self.spaces = None
        self.dataset: PreparedDataset = config.dataset
        settings: TrainingSettings = config.settings
        self.settings = settings
        loaded = config.loaded_data.value or load_data(config.data_request)
        self._shards, self._sizes = loaded.shards, loaded.sizes
        self.learners = max(1, config.num_learners)
        self.batch_size = settings.train_batch_size_per_learner * self.learners
        if self.batch_size % LANES:
            raise UserError(
                f"train_batch_size_per_learner: {settings.train_batch_size_per_learner} with {self.learners} learner(s)"
                f" is a batch of {self.batch_size}; expected a multiple of {LANES}"
            )
        self.batches_per_epoch = self._lane_rows() // (self.batch_size // LANES)
        if self.batches_per_epoch == 0:
            raise UserError(
                f"train_batch_size_per_learner: a batch of {self.batch_size} is larger than the {sum(self._sizes)} "
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

    def _lane_rows(self) -> int:
        return min(sum(self._sizes[lane::LANES]) for lane in range(LANES))

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
        """The preferences of one iteration for each learner; None where the reward is not updated."""
        settings = self.settings
        pretraining = position.phase == "pretrain"
        if self.preferences is None or not (pretraining or settings.finetune_reward):
            return [None] * self.learners
        # Fine-tuning goes on where pre-training stopped, one mini-batch a step.
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

    def sample(self, position: Position, labels: ray.ObjectRef | None = None) -> list[LearnerPlan]:
        """The plan of every learner for one iteration of the phase "train"; `labels` as in `TransitionPlan`."""
        settings = self.settings
        first_of_phase = position.first == 0
        refresh = settings.standardise_reward and (first_of_phase or settings.finetune_reward)
        plans = []
        for part, preferences in enumerate(self.preference_plans(position)):
            lanes = [(n, self._shards[n::LANES], self._sizes[n::LANES]) for n in range(part, LANES, self.learners)]
            transitions = TransitionPlan(
                lanes=lanes,
                rows_per_lane=self.batch_size // LANES,
                batches_per_epoch=self.batches_per_epoch,
                seed=settings.seed,
                first=position.first,
                count=position.count,
                labels=labels,
            )
            plans.append(LearnerPlan(transitions, preferences, refresh))
        return plans


@ray.remote(num_cpus=1)
def _probe_states(uri: str) -> np.ndarray:
    """A sample of validation states [n, S] (all of them where there are few), file by file."""
    dataset = PreparedDataset.open(uri)
    files = dataset.files("requests", "validation")
    generator = np.random.default_rng(Stream.PROBE_STATES)
    found = []
    for file in files:
        states = tensor(dataset.read(file, columns=["state"])["state"])
        take = min(len(states), -(-PROBE_STATES // len(files)))
        found.append(states[np.sort(generator.choice(len(states), take, replace=False))])
    return np.concatenate(found) if found else np.empty((0, dataset.metadata.state_dim), dtype=np.float32)
