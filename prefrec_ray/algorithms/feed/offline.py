"""Offline data of an algorithm: the schedule of a run, and the plan of each learner for each iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.rllib.offline.offline_data import OfflineData

from prefrec_ray.algorithms.feed.batches import TransitionPlan, batches_in, deal
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.feed.preferences import PreferencePlan, batches_per_pass, pretrain_batches
from prefrec_ray.algorithms.feed.shards import RewardLabels, lanes_of
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError


@dataclass(frozen=True)
class Position:
    """One iteration: its phase, and its mini-batches [first, first + count)."""

    phase: str  # "pretrain" (mini-batches of preferences) or "train" (mini-batches of transitions)
    first: int
    count: int


@dataclass(frozen=True)
class Schedule:
    """Iterations of a run: passes over the preferences, then updates on transitions.

    A position is a function of the iteration number, which is all that a resumed run needs.
    """

    pretrain_batches: int  # mini-batches of preferences, in all
    preference_batches: int  # mini-batches in a pass over the preferences
    updates: int  # on transitions, in all
    updates_per_epoch: int
    updates_per_iteration: int

    @property
    def pretrain_iterations(self) -> int:
        """Return the passes over the preferences; the last one may be a part."""
        return -(-self.pretrain_batches // self.preference_batches)

    @property
    def iterations(self) -> int:
        """Return the length of the run."""
        return self.pretrain_iterations + -(-self.updates // self.updates_per_iteration)

    def at(self, iteration: int) -> Position:
        """Return the position of iteration 0, 1, ...; after the end, training continues with full iterations."""
        if iteration < self.pretrain_iterations:
            first = iteration * self.preference_batches
            return Position("pretrain", first, min(self.preference_batches, self.pretrain_batches - first))
        first = (iteration - self.pretrain_iterations) * self.updates_per_iteration
        left = self.updates - first if first < self.updates else self.updates_per_iteration
        return Position("train", first, min(self.updates_per_iteration, left))


@dataclass(frozen=True)
class LearnerPlan:
    """The input of one learner for one iteration."""

    transitions: TransitionPlan
    preferences: PreferencePlan | None
    refresh_reward_scale: bool


class PreparedData(OfflineData):
    """RLlib's `OfflineData` over a prepared data set: learners get plans, and read the data themselves."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.dataset: PreparedDataset = config.dataset
        settings: TrainingSettings = config.settings
        self.settings = settings
        loaded = config.loaded_data.value or load_data(config.data_request)
        self.learners = max(1, config.num_learners)
        self.batch_size = settings.train_batch_size_per_learner * self.learners
        self._shards, self._sizes = loaded.shards, loaded.sizes
        self._lane_count = lanes_of(len(loaded.shards), self.batch_size)
        self._lanes = deal(self._shards, self._sizes, self.batch_size, self.learners)
        self.batches_per_epoch = batches_in(lane for lanes in self._lanes for lane in lanes)
        if self.batches_per_epoch == 0:
            raise UserError(
                f"train_batch_size_per_learner: found a batch of {self.batch_size} for {sum(loaded.sizes)} "
                f"transitions in use ({self.dataset.uri}); expected a smaller batch, or a larger replay_buffer_size"
            )
        self.preferences, self.pairs, self.held_out = loaded.preferences, loaded.pairs, loaded.held_out
        self.probe: np.ndarray = ray.get(loaded.probe)
        self.pretrain_batches = 0
        if settings.uses_preferences:
            epochs, size = settings.pretrain_epochs, settings.preference_batch_size
            self.pretrain_batches = pretrain_batches(epochs, self.pairs, size, settings.pretrain_updates)
        self.schedule = Schedule(
            pretrain_batches=0 if config.pretrained_reward.value is not None else self.pretrain_batches,
            preference_batches=batches_per_pass(self.pairs, settings.preference_batch_size),
            updates=max(1, round(settings.num_epochs * self.batches_per_epoch)),
            updates_per_epoch=self.batches_per_epoch,
            updates_per_iteration=settings.updates_per_iteration or max(1, -(-self.batches_per_epoch // 4)),
        )

    def preference_plans(self, position: Position) -> list[PreferencePlan | None]:
        """Return the preferences of one iteration for each learner; None if the reward model is not updated."""
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

    def sample(self, position: Position, reward_labels: RewardLabels | None = None) -> list[LearnerPlan]:
        """Return each learner's plan for one iteration of the phase "train"; `reward_labels` as in `TransitionPlan`."""
        settings = self.settings
        refresh = settings.standardise_reward and (position.first == 0 or settings.finetune_reward)
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
