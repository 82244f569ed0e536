"""RLlib config of all methods: settings of the method, RLlib's own settings, and objects that runs share."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any, Self

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from prefrec_ray import storage
from prefrec_ray.algorithms.feed.load import LoadedData
from prefrec_ray.algorithms.feed.offline import PreparedData
from prefrec_ray.algorithms.feed.shards import RewardLabels
from prefrec_ray.algorithms.requests import DataRequest, RewardRequest, embedding_columns, reward_columns
from prefrec_ray.algorithms.reward.model import RewardState
from prefrec_ray.algorithms.settings import TrainingSettings, checked_values, recipe_defaults
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError, nearest
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.settings import Pairing, Recipe, Task, parse

_OF_RLLIB = inspect.signature(AlgorithmConfig.training).parameters


class Unsaved:
    """A value of this process: copies of a config share it; pickles and checkpoints omit it."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Unsaved:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Unsaved, ()


class UnusedConnector(ConnectorV2):
    """Connector with equal input and output spaces. Learners read plans and not episodes, so that it is not called."""

    def __call__(self, **kwargs: Any) -> Any:
        raise NotImplementedError


class OfflineConfig(AlgorithmConfig):
    """Settings of training `algo_class`, a method, on a prepared data set; `METHOD.get_default_config` returns it.

    `PrefRecConfig().offline_data(input_=DATASET).training(task="frequency", gamma=0.95).learners(num_learners=2)`
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_env_runners = 0
        self.create_local_env_runner = False
        self.offline_data_class = PreparedData
        self.log_level = "ERROR"
        # RLlib's thread measures the whole machine, and the end of an algorithm waits for up to .7 s of its sleep.
        self.log_sys_usage = False
        self.loaded_data = Unsaved()
        self.pretrained_reward = Unsaved()
        self.labels = Unsaved()
        self._set({name: field.get_default(call_default_factory=True) for name, field in self._fields().items()})

    @property
    def method_settings(self) -> type[TrainingSettings]:
        return getattr(self.algo_class, "Settings", TrainingSettings)

    def _fields(self) -> dict[str, Any]:
        return self.method_settings.model_fields

    def _set(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        recipe: Recipe = NotProvided,
        task: Task = NotProvided,
        seed: int = NotProvided,
        gamma: float = NotProvided,
        tau: float = NotProvided,
        actor_lr: float = NotProvided,
        critic_lr: float = NotProvided,
        reward_lr: float = NotProvided,
        train_batch_size_per_learner: int = NotProvided,
        preference_batch_size: int = NotProvided,
        pretrain_epochs: float = NotProvided,
        pretrain_updates: int | None = NotProvided,
        replay_buffer_size: int | None = NotProvided,
        num_epochs: float = NotProvided,
        updates_per_iteration: int | None = NotProvided,
        hidden_sizes: Sequence[int] = NotProvided,
        pairing: Pairing = NotProvided,
        scoring: str = NotProvided,
        teachers: Sequence[str] = NotProvided,
        reward_source: str = NotProvided,
        reward_input: str = NotProvided,
        reward_leave_out: Sequence[str] = NotProvided,
        reward_members: int = NotProvided,
        reward_horizon: int = NotProvided,
        standardise_reward: bool = NotProvided,
        finetune_reward: bool = NotProvided,
        q_products: Sequence[str] = NotProvided,
        q_kinds: bool = NotProvided,
        rotations: float = NotProvided,
        serving: ServingSettings | dict[str, Any] = NotProvided,
        precision: str = NotProvided,
        transitions: str = NotProvided,
        num_learners: int = NotProvided,
        num_cpus_per_learner: float | str = NotProvided,
        num_gpus_per_learner: float = NotProvided,
        custom_resources_per_learner: dict[str, float] = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the recipe first, then single settings. Docs/settings.md has ranges and the defaults of both recipes.

        Args:
            recipe: Defaults of all other settings: `robust`, or `paper` (Table 1).
            task: Level that preferences compare: `depth`, `frequency` or `mixture`.
            seed: Seed of weights, mini-batches and noise.
            gamma: Discount per impression (paper .9; typically between .9 and .99).
            tau: Polyak rate of target networks (paper .001; typically between .001 and .05).
            actor_lr: Learning rate of the actor (typically between 1e-5 and 1e-3).
            critic_lr: Learning rate of Q (typically between 5e-5 and 3e-3).
            reward_lr: Learning rate of the reward model.
            train_batch_size_per_learner: Transitions in a mini-batch of a learner (typically 256 to 4,096).
            preference_batch_size: Pairs in a mini-batch, over all learners.
            pretrain_epochs: Passes over the preferences before the policy learns.
            pretrain_updates: Maximum number of mini-batches of pre-training; None: all passes.
            replay_buffer_size: Transitions to train on, a random sample; None: all.
            num_epochs: Passes over the transitions (typically 1 to 10).
            updates_per_iteration: Updates in an iteration; None: a quarter of an epoch.
            hidden_sizes: Widths of every network's hidden layers.
            pairing: Segments that the scripted teacher compares: of any two users, or of one.
            scoring: A segment's score, `sum` or `mean` of the levels of its sessions.
            teachers: Teachers whose pairs are pooled; empty: the one with `pairing` and `scoring`.
            reward_source: `preferences` (learned), or `column` (of the data set).
            reward_input: Input of the reward model: `state_action` (paper), or `next_state`.
            reward_leave_out: Groups of the next state that are not in this input.
            reward_members: Networks whose mean is the reward (typically 1 to 5).
            reward_horizon: Impressions whose mean reward is the label of an action, from its own on; 1: paper.
            standardise_reward: Rewards of mean 0 and standard deviation 1 on training impressions.
            finetune_reward: Update the reward model after every policy update (Algorithm 1, line 14).
            q_products: State groups whose inner products with the action are inputs of Q.
            q_kinds: Add to Q of an item the effects of its kinds.
            rotations: Share of a mini-batch whose embeddings are rotated at random, 0 to 1.
            serving: How items are chosen.
            precision: Precision of matrix products: `float32` or `bf16`.
            transitions: Storage: `materialised` (Ray's object store), `streaming` (files), or `auto`.
            num_learners: Learner processes; 0: the process of the algorithm.
            num_cpus_per_learner: CPUs of each learner; `auto`: RLlib's choice.
            num_gpus_per_learner: GPUs of each learner.
            custom_resources_per_learner: Ray's custom resources of each learner.
            kwargs: settings of the method, and RLlib's own training settings.

        Returns:
            This config.

        Raises:
            UserError: a name is unknown. Values are checked by `validate`.
        """
        settings = {name: value for name, value in (locals() | kwargs).items() if value is not NotProvided}
        own = {name: value for name, value in settings.items() if name in self._fields()}
        rest = {name: value for name, value in kwargs.items() if name in settings and name not in own}
        for name in rest:
            if name not in _OF_RLLIB:
                raise UserError(f"training: unknown setting '{name}'; {nearest(name, [*self._fields(), *_OF_RLLIB])}")
        if "recipe" in own:
            checked_values(self.method_settings, {"recipe": own["recipe"]}, "training", "")
            self._set(recipe_defaults(self.method_settings, own["recipe"]))
        self._set(own)
        return super().training(**rest)

    @override(AlgorithmConfig)
    def offline_data(
        self,
        *,
        loaded_data: LoadedData = NotProvided,
        pretrained_reward: RewardState = NotProvided,
        labels: RewardLabels = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set RLlib's settings (`input_`), and objects that runs on the same data set share.

        loaded_data: from `feed.load.load_data`; the data set is not read again. pretrained_reward: from
        `reward.model.pretrain` for the `RewardRequest` of this run; pre-training is skipped, with the same result.
        labels: reward labels from `reward.labels.label_transitions` with that reward.
        """
        shared = {"loaded_data": loaded_data, "pretrained_reward": pretrained_reward, "labels": labels}
        self._set({name: Unsaved(value) for name, value in shared.items() if value is not NotProvided})
        super().offline_data(**kwargs)
        return self

    @override(AlgorithmConfig)
    def get_state(self) -> dict[str, Any]:
        """Return RLlib's state with the method, since a method of a user may have the config of its base class."""
        return {**super().get_state(), "algo_class": self.algo_class}

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: dict[str, Any]) -> Self:
        """Update like RLlib, but set the recipe first, so that single settings override it in any order."""
        rest = dict(config_dict)
        if "recipe" in rest:
            self.training(recipe=rest.pop("recipe"))
        return super().update_from_dict(rest)

    @override(AlgorithmConfig)
    def build_algo(self, *args: Any, **kwargs: Any) -> Any:
        """Build the algorithm. Raises `UserError` if its log folder in `~/ray_results` cannot be made."""
        try:
            return super().build_algo(*args, **kwargs)
        except OSError as error:
            if not str(error.filename).startswith(os.path.expanduser("~")):
                raise
            raise UserError(
                f"{error.filename}: {error.strerror}; expected a home folder in which Ray can write (variable HOME)"
            ) from error

    @property
    @override(AlgorithmConfig)
    def is_online(self) -> bool:
        """Return False: training has no environment."""
        return False

    @property
    def settings(self) -> TrainingSettings:
        """Return the current settings. Raises `UserError` for a value that its field refuses."""
        values = {name: getattr(self, name) for name in self._fields()}
        return parse(self.method_settings, {**values, "seed": values["seed"] or 0}, "training")

    @property
    def dataset(self) -> PreparedDataset:
        """Open the data set. Raises `UserError` if `input_` is not set or is not a data set.

        Tune runs a trial in its own folder. A relative `input_` starts at the folder in which the run was started.
        """
        if not self.input_ or self.input_ == "sampler":
            raise UserError("offline_data: key 'input_' is missing; expected the folder or URI of a prepared data set")
        (folder,) = self.input_ if isinstance(self.input_, list) else [str(self.input_)]
        started_in = os.environ.get("TUNE_ORIG_WORKING_DIR")
        if started_in and "://" not in folder and not storage.exists(folder):
            folder = os.path.join(started_in, folder)
        return PreparedDataset.open(storage.absolute(folder))

    @property
    def data_request(self) -> DataRequest:
        """Return the specification of the data for a run of this config."""
        return DataRequest.from_settings(self.settings, self.dataset)

    @property
    def reward_request(self) -> RewardRequest | None:
        """Return the inputs of the reward that this run pre-trains, or None."""
        return RewardRequest.from_settings(self.settings, self.dataset)

    def module_settings(self) -> dict[str, Any]:
        """Return `model_config` of the RLModule: all settings, and the provenance of an exported policy."""
        settings, dataset = self.settings, self.dataset
        return {
            **settings.model_dump(),
            **({} if settings.uses_reward else {"reward_source": "preferences"}),  # not a column of the batch
            "looks_ahead": settings.looks_ahead,
            "reward_columns": reward_columns(settings, dataset),
            "product_columns": dataset.state.embedding_parts(settings.q_products),
            "embedding_columns": embedding_columns(dataset),
            "provenance": {
                "method": self.algo_class.method_name,
                "dataset": dataset.uri,
                **settings.model_dump(include={"recipe", "task", "seed"}),
            },
        }

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=self.algo_class.Module, model_config=self.module_settings())

    @override(AlgorithmConfig)
    def build_learner_connector(
        self, input_observation_space: gym.Space, input_action_space: gym.Space, device: Any = None
    ) -> ConnectorV2:
        """Return a connector that only has the spaces. RLlib's default pipeline takes tenths of a second to make."""
        return UnusedConnector(input_observation_space, input_action_space)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return self.algo_class.Learner

    @override(AlgorithmConfig)
    def validate(self) -> None:
        """Check every setting against its field, the other settings and the data set. Raises `UserError`."""
        settings, dataset = self.settings, self.dataset
        self._set({name: getattr(settings, name) for name in self._fields()})
        # RLlib's base class of `PreparedData` makes a table of this list. It would read a folder in its own schema.
        self.offline_data(input_=[dataset.uri], input_read_method="from_items")
        check_dataset(settings, dataset)
        if self.grad_clip is not None:
            raise UserError(
                f"grad_clip: found {self.grad_clip}; expected null, as gradients are not clipped (paper, Table 1)"
            )
        if self.lr != AlgorithmConfig().lr:
            raise UserError(f"lr: found {self.lr}; expected actor_lr and critic_lr, as each network has its own rate")
        bounds = (np.float32(dataset.metadata.action_low), np.float32(dataset.metadata.action_high))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (dataset.metadata.state_dim,), np.float32)
        self.action_space = gym.spaces.Box(*bounds, (dataset.metadata.action_dim,), np.float32)
        super().validate()


def check_dataset(settings: TrainingSettings, dataset: PreparedDataset) -> None:
    """Check that `dataset` has the column groups, reward column and teachers in `settings`. Raises `UserError`."""
    for group in settings.reward_leave_out:
        if group not in dataset.state.groups:
            raise UserError(f"reward_leave_out: unknown group '{group}'; {nearest(group, list(dataset.state.groups))}")
    if settings.uses_preferences and reward_columns(settings, dataset) == ():
        raise UserError(
            f"reward_leave_out: found no other column for the reward; {dataset.uri} has columns in the groups "
            f"{', '.join(name for name, columns in dataset.state.groups.items() if columns.start < columns.stop)}"
        )
    if settings.uses_reward and settings.reward_source == "column" and not dataset.metadata.has_reward:
        raise UserError(f"reward_source: found 'column'; expected a reward column in {dataset.uri}")
    known = [*dataset.metadata.teachers, *dataset.people()]
    for teacher in settings.teacher_names if settings.uses_preferences else ():
        if teacher not in known:
            key = "teachers" if settings.teachers else "pairing and scoring"
            raise UserError(f"{key}: unknown teacher '{teacher}'; {nearest(teacher, known)}")
