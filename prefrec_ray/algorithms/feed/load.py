"""The offline data of an algorithm: shards of transitions, preferences, states to probe the policy with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import ray
from ray.rllib.offline.offline_data import OfflineData

from prefrec_ray.algorithms.feed.batches import PreferencePlan, TransitionPlan, batches_per_pass
from prefrec_ray.algorithms.feed.preferences import held_out_teachers, load_buffer
from prefrec_ray.algorithms.feed.schedule import Position, Schedule
from prefrec_ray.algorithms.feed.shards import LANES, Shard, find_shards
from prefrec_ray.algorithms.reward.labels import check_numbers
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.completeness import check_complete
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.algorithms.base.config import OfflineConfig

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


def buffer_limit(config: OfflineConfig, dataset: PreparedDataset) -> int | None:
    """How many transitions are used; None where that is all of them."""
    limit, known = config.replay_buffer_size, dataset.metadata.counts.get("train")
    return None if limit is None or (known and limit >= known["transitions"]) else int(limit)


def load_data(config: OfflineConfig, same: LoadedData | None = None) -> LoadedData:
    """Reads what `config` asks for, by tasks; all that is not streamed is read when this returns.

    `same`: the same transitions, already loaded with other preferences. Raises `UserError` for a data set that is
    damaged, or has no preferences of a teacher.
    """
    dataset = PreparedDataset.open(str(config.input_))
    if same is None:
        check_complete(dataset)
        shards, sizes = find_shards(dataset, config.transitions, buffer_limit(config, dataset))
        same = LoadedData(shards, sizes, _probe_states.remote(dataset.uri))
        # All is read before the learners exist: they may take the last processors, and reading would never begin.
        ray.get(same.probe)
    if config.looks_ahead:
        check_numbers(dataset)
    if not config.uses_preferences:
        return LoadedData(same.shards, same.sizes, same.probe)
    columns = config.reward_columns(dataset.state)
    preferences = load_buffer(dataset.uri, config.task, "train", config.teacher_names, columns, config.precision)
    pairs = len(ray.get(preferences))  # before anything else is begun: what fails here is told once
    measure = held_out_teachers(dataset, config.teacher_names)
    held_out = load_buffer(dataset.uri, config.task, "validation", measure, columns) if measure else None
    if held_out is not None:
        ray.get(held_out)
    return LoadedData(same.shards, same.sizes, same.probe, preferences, held_out, pairs)


class PreparedData(OfflineData):
    """RLlib's `OfflineData` over a prepared data set: learners get plans of what to read.

    The base class is not initialised: it would read the folder in RLlib's own schema.
    """

    def __init__(self, config: OfflineConfig) -> None:
        self.config = config
        # Set by RLlib's Algorithm.setup.
        self.locality_hints = self.learner_handles = self.module_spec = self.spaces = None
        self.dataset = PreparedDataset.open(str(config.input_))
        loaded = config.loaded_data.value or load_data(config)
        self._shards, self._sizes = loaded.shards, loaded.sizes
        self.learners = max(1, config.num_learners)
        self.batch_size = config.train_batch_size_per_learner * self.learners
        if self.batch_size % LANES:
            raise UserError(
                f"train_batch_size_per_learner: {config.train_batch_size_per_learner} with {self.learners} learner(s) "
                f"is a batch of {self.batch_size}; expected a multiple of {LANES}"
            )
        self.batches_per_epoch = self._lane_rows() // (self.batch_size // LANES)
        if self.batches_per_epoch == 0:
            raise UserError(
                f"train_batch_size_per_learner: a batch of {self.batch_size} is larger than the {sum(self._sizes)} "
                f"transitions in use ({self.dataset.uri}); expected a smaller batch, or a larger replay_buffer_size"
            )
        self.preferences, self.pairs, self.held_out = loaded.preferences, loaded.pairs, loaded.held_out
        self.probe: np.ndarray = ray.get(loaded.probe)
        self.preference_batches = batches_per_pass(self.pairs, config.preference_batch_size)
        self.pretrain_batches = 0
        if config.uses_preferences and config.pretrain_epochs > 0:
            self.pretrain_batches = max(1, round(config.pretrain_epochs * self.preference_batches))
        self.schedule = self._schedule()

    def _lane_rows(self) -> int:
        return min(sum(self._sizes[lane::LANES]) for lane in range(LANES))

    def _schedule(self) -> Schedule:
        config = self.config
        updates = max(1, round(config.num_epochs * self.batches_per_epoch))
        return Schedule(
            pretrain_batches=0 if config.pretrained_reward.value is not None else self.pretrain_batches,
            preference_batches=self.preference_batches,
            updates=updates,
            updates_per_epoch=self.batches_per_epoch,
            updates_per_iteration=config.updates_per_iteration or max(1, -(-self.batches_per_epoch // 4)),
        )

    def preference_plans(self, position: Position) -> list[PreferencePlan | None]:
        """The preferences of one iteration for each learner; None where the reward is not updated."""
        config = self.config
        pretraining = position.phase == "pretrain"
        if self.preferences is None or not (pretraining or config.finetune_reward):
            return [None] * self.learners
        # Fine-tuning goes on where pre-training stopped, one mini-batch a step.
        first = position.first + (0 if pretraining else self.pretrain_batches)
        return [
            PreferencePlan(
                self.preferences, self.pairs, config.preference_batch_size, config.data_seed, first, part, self.learners
            )
            for part in range(self.learners)
        ]

    def sample(self, position: Position, labels: ray.ObjectRef | None = None) -> list[LearnerPlan]:
        """The plan of every learner for one iteration of the phase "train"; `labels` as in `TransitionPlan`."""
        config = self.config
        first_of_phase = position.first == 0
        refresh = config.standardise_reward and (first_of_phase or config.finetune_reward)
        plans = []
        for part, preferences in enumerate(self.preference_plans(position)):
            lanes = [(n, self._shards[n::LANES], self._sizes[n::LANES]) for n in range(part, LANES, self.learners)]
            transitions = TransitionPlan(
                lanes=lanes,
                rows_per_lane=self.batch_size // LANES,
                batches_per_epoch=self.batches_per_epoch,
                seed=config.data_seed,
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
    generator = np.random.default_rng(0x57A7)
    found = []
    for file in files:
        states = tensor(dataset.read(file, columns=["state"])["state"])
        take = min(len(states), -(-PROBE_STATES // len(files)))
        found.append(states[np.sort(generator.choice(len(states), take, replace=False))])
    return np.concatenate(found) if found else np.empty((0, dataset.metadata.state_dim), dtype=np.float32)
