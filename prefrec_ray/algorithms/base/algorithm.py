"""RLlib algorithm that every method extends: it pre-trains the reward model, then trains on transitions."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import ray
from ray.exceptions import RayError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import LEARNER_RESULTS

from prefrec_ray import storage
from prefrec_ray.acceleration import seeded_without_compile
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.diagnostics import policy_diagnostics, reported, reward_accuracy, stop_if_diverged
from prefrec_ray.algorithms.base.learner import REPORT, OfflineLearner
from prefrec_ray.algorithms.base.module import NetworkWeights, OfflineModule
from prefrec_ray.algorithms.base.policy import policy_of, reward_of
from prefrec_ray.algorithms.feed.offline import Position, PreparedData
from prefrec_ray.algorithms.feed.shards import RewardLabels
from prefrec_ray.algorithms.reward.labels import label_transitions
from prefrec_ray.algorithms.reward.model import ACCURACY
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.policy.networks.bundled import check_finite
from prefrec_ray.storage.checksums import seal

_LOG = logging.getLogger(__name__)


class OfflineAlgorithm(Algorithm):
    """A method is a subclass with three attributes: `Settings` (fields), `Module` (networks), `Learner` (losses).

    `Config` is optional: its `training` documents the arguments of the method.

    The subclass gets a `method_name`: the name of the class, or `module:Class` outside this package.
    `algorithms.find_method` imports the class, then registers it with Tune under this name. (Tune pickles a copy of a
    class that is registered during its import.) No attribute of a class may lead back to the class: Ray walks through
    the attributes of a trial's class that are classes.

    One iteration is one pass over the preferences (phase "pretrain") or several updates on transitions ("train").

    Results contain, in addition to RLlib's: phase, epoch, progress (0 to 1), updates, transitions (pairs in the phase
    "pretrain") and their rate per second, the groups losses, reward, values and policy (docs/training.md), and all
    other metrics that the learner's `update_policy` returns. `report` has the same metrics by column. `done` is true at
    the end of the run.
    """

    Settings: ClassVar[type[TrainingSettings]] = TrainingSettings
    Module: ClassVar[type[OfflineModule]]
    Learner: ClassVar[type[OfflineLearner]]
    Config: ClassVar[type[OfflineConfig]] = OfflineConfig
    method_name: ClassVar[str]

    offline_data: PreparedData
    learner_group: LearnerGroup

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("ray."):  # Ray's wrapper of a method that runs as an actor: a trial of Tune
            return
        own = cls.__module__.startswith("prefrec_ray.")
        cls.method_name = cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def get_default_config(cls) -> OfflineConfig:
        """Return the config with the recipe `robust`."""
        # Not Ray's wrapper, which pickle cannot find by its name.
        return cls.Config(next(base for base in cls.__mro__ if "method_name" in vars(base)))

    def setup(self, config: Any) -> None:
        """Build RLlib's parts, then load a shared pre-trained reward into the learners."""
        with seeded_without_compile():
            super().setup(config)
        self._items = self.offline_data.dataset.items()
        #: Metrics of the last iteration by their column in progress.csv, such as "losses/qf_loss".
        self.report: dict[str, Any] = {}
        self._labels: RewardLabels | None = self.config.labels.value
        reward = self.config.pretrained_reward.value
        if reward is not None and self.config.settings.uses_preferences:
            on_each_learner(self.learner_group, lambda learner: learner.set_reward_state(reward))

    def training_step(self) -> None:
        """Run one iteration; its number determines the position in the schedule."""
        position = self.offline_data.schedule.at(self.iteration)
        if position.phase == "train":
            self._renew_labels()
        start = time.perf_counter()
        if position.phase == "pretrain":
            losses = self._pretrain(position)
            per_update, unit = self.offline_data.settings.preference_batch_size, "pairs"
        else:
            losses = self._train(position)
            per_update, unit = self.offline_data.batch_size, "transitions"
        seconds = time.perf_counter() - start
        stop_if_diverged(losses, self.iteration + 1)
        if math.isnan(losses.get(ACCURACY, 0.0)):  # all pairs were ties
            del losses[ACCURACY]
        busy = losses.pop("time/learner_seconds", None)
        if busy is not None:
            losses["time/learner_idle_share"] = max(0.0, 1 - busy / seconds)
        count = position.count * per_update
        self.report = {**losses, unit: count, f"{unit}_per_second": count / seconds, **self._place(position)}
        self.report |= self._diagnose()

    def step(self) -> dict[str, Any]:
        """Run RLlib's iteration, and add this iteration's report to its results."""
        results = super().step()
        for name, value in self.report.items():
            place = results
            *groups, leaf = name.split("/")
            for group in groups:
                place = place.setdefault(group, {})
            place[leaf] = value
        results["done"] = self.iteration + 1 >= self.offline_data.schedule.iterations
        return results

    @override(Algorithm)
    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> OfflineModule | None:
        """Return the module of the first learner (of a learner process, a copy).

        Args:
            module_id: the id of RLlib's only module; any other id has no module.

        Returns:
            The module with its current weights, or None.
        """
        if module_id != DEFAULT_MODULE_ID:
            return None
        return on_first_learner(self.learner_group, lambda learner: learner.net)

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Write RLlib's checkpoint. In a local folder, also write the weights as plain arrays, and a manifest.

        A relative `path` is relative to the working folder (RLlib refuses such paths). Raises `UserError` if a weight
        is not finite, and `RayError` if a learner fails.
        """
        weights = on_first_learner(self.learner_group, lambda learner: NetworkWeights.from_module(learner.net))
        check_finite(weights.arrays, f"iteration {self.iteration}")
        local = path is not None and kwargs.get("filesystem") is None
        folder = str(super().save_to_path(storage.absolute(path) if local else path, **kwargs))
        on_each_learner(self.learner_group, lambda learner: None)
        if kwargs.get("filesystem") is None and "://" not in str(path):
            weights.save(folder)
            seal(folder)
        return folder

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Load a checkpoint, but keep the learning rates of this config.

        RLlib's method also syncs env runners, which an offline algorithm does not have. Raises `RayError` if a learner
        fails.
        """
        self._labels = None
        Checkpointable.restore_from_path(self, path, *args, **kwargs)
        on_each_learner(self.learner_group, lambda learner: learner.reset_learning_rates())

    def cleanup(self) -> None:
        """Stop RLlib's parts, and remove the log folder that Tune makes in the home folder. It is empty."""
        super().cleanup()
        if self.logdir.startswith(os.path.expanduser("~/ray_results")):
            with suppress(OSError):
                os.rmdir(self.logdir)

    def _renew_labels(self) -> None:
        """Compute look-ahead reward labels: once, or in every iteration if the reward model is fine-tuned."""
        settings = self.offline_data.settings
        finetuned = settings.uses_preferences and settings.finetune_reward
        if not settings.looks_ahead or (self._labels is not None and not finetuned):
            return
        reward = on_first_learner(self.learner_group, lambda learner: reward_of(learner.net))
        self._labels = label_transitions(self.offline_data.dataset, reward, settings.reward_horizon)

    def _pretrain(self, position: Position) -> dict[str, float]:
        plans = self.offline_data.preference_plans(position)
        results = on_each_learner(self.learner_group, lambda learner: learner.pretrain_reward(plans, position.count))
        return {name: sum(r[name] for r in results) / len(results) for name in results[0]}

    def _train(self, position: Position) -> dict[str, float]:
        results = self.learner_group.update(
            training_data=TrainingData(data_iterators=self.offline_data.sample(position, self._labels)), timesteps={}
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        return reported(_named(self.metrics.peek((LEARNER_RESULTS, *REPORT))))

    def _place(self, position: Position) -> dict[str, Any]:
        schedule = self.offline_data.schedule
        trained = position.first + position.count if position.phase == "train" else 0
        per_epoch = schedule.preference_batches if position.phase == "pretrain" else schedule.updates_per_epoch
        return {
            "phase": position.phase,
            "epoch": (position.first + position.count) / per_epoch,
            "updates": trained,
            "progress": min(1.0, (self.iteration + 1) / schedule.iterations),
        }

    def _diagnose(self) -> dict[str, float]:
        """Return the held-out accuracy of the reward model and diagnostics of the policy, from the first learner."""
        data, items = self.offline_data, self._items
        dataset, probe, held_out, by_teacher = data.dataset, data.probe, data.held_out, bool(data.settings.teachers)

        def diagnose(learner: Any) -> dict[str, float]:
            accuracy: dict[str, float] = {}
            if held_out is not None:
                with learner.precision():
                    accuracy = reward_accuracy(learner.net, ray.get(held_out), by_teacher)
            return accuracy | policy_diagnostics(policy_of(learner.net, dataset, items), probe)

        return on_first_learner(self.learner_group, diagnose)


def _named(metrics: Mapping[str, Any], group: str = "") -> dict[str, float]:
    """Return nested metrics by their paths, as in "losses/qf_loss"."""
    values: dict[str, float] = {}
    for name, value in metrics.items():
        values |= _named(value, f"{group}{name}/") if isinstance(value, Mapping) else {f"{group}{name}": float(value)}
    return values


def on_each_learner(group: LearnerGroup, call: Callable[[Any], Any]) -> list[Any]:
    """Run `call` on all learners and return the results.

    Raises the error of a learner that fails, and `RayError` if a learner failed before. RLlib silently drops such a
    learner: a checkpoint without its state would look complete, and a resumed run would start from other weights.
    """
    return _values(group.foreach_learner(call), max(1, len(group)))


def on_first_learner(group: LearnerGroup, call: Callable[[Any], Any]) -> Any:
    """Run `call` on the first learner and return the result. Raises like `on_each_learner`."""
    return _values(group.foreach_learner(call, remote_actor_ids=[0]), 1)[0]


def _values(results: Any, expected: int) -> list[Any]:
    values = [result.get() for result in results]
    for result, value in zip(results, values, strict=True):
        if not result.ok:
            raise value
    if len(values) < expected:
        raise RayError("a learner failed before; its error is in the log")
    return values
