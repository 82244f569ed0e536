"""The configuration that all methods share, in RLlib's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from prefrec_ray.algorithms.feed.load import LoadedData, PreparedData
from prefrec_ray.algorithms.feed.shards import TRANSITIONS
from prefrec_ray.algorithms.recipes import RECIPES
from prefrec_ray.algorithms.reward.state import RewardState
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.settings import nearest
from prefrec_ray.terms import TASKS

REWARD_INPUTS = ("state_action", "next_state")
REWARD_SOURCES = ("preferences", "column")
PRECISIONS = ("float32", "bf16")
ACTION_CONSTRAINTS = ("none", "behaviour_anchor", "nearest_items")


class Unsaved:
    """Holds what belongs to this process: copies of a config share it, its pickles and checkpoints leave it out."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Unsaved:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Unsaved, ()


class OfflineConfig(AlgorithmConfig):
    """Settings of training on a prepared data set.

    `PrefRecConfig().offline_data(input_=DATASET).training(task="frequency", gamma=0.95).learners(num_learners=2)`

    recipe: "paper" or "robust"; sets every default below, and comes before single settings. task: "depth", "frequency"
    or "mixture". gamma, tau (Polyak rate of the target network), actor_lr, critic_lr, reward_lr: as in the field.
    train_batch_size_per_learner: transitions. preference_batch_size: pairs, in all learners together. pretrain_epochs:
    passes over the preferences before the policy learns (0: no pre-training). replay_buffer_size: of the data set's
    transitions so many are used, a sample (None: all). num_epochs: passes over them. Both numbers of passes may be
    fractions. updates_per_iteration: of one RLlib iteration (None: a quarter of an epoch). finetune_reward:
    one reward update a step. pairing, scoring: the teacher's. teachers: names of whom to learn from, scripted ones and
    people, whose pairs are pooled; none: `<pairing>_<scoring>`. reward_input: "state_action" (paper) or "next_state",
    without the state's groups reward_leave_out. standardise_reward: to mean 0 and deviation 1 on training requests.
    reward_horizon: an action is worth the mean reward of so many requests after it (1: of the next one alone, as in the
    paper). reward_source: "preferences", or "column" for a data set's own hand-made reward. serving: how an action
    becomes an item ("nearest" or "dot"). action_constraint: what keeps an actor where the data are: "none";
    "behaviour_anchor", a pull to the logged action against which Q counts bc_alpha (for actors that climb Q; the others
    imitate anyway); "nearest_items": of the item_candidates items nearest to the actor's action, the one of the largest
    Q is served (all methods with a Q). precision: of the matrix products, "float32" or "bf16"; weights, sums and last
    layers are float32 in both. transitions: "materialised" in the object store, "streaming" from the data set, or
    "auto" (the second where they do not fit); the batches are the same.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self._is_online = False
        self.num_env_runners = 0
        self.create_local_env_runner = False
        self.offline_data_class = PreparedData
        self.seed = 0
        self.log_level = "ERROR"
        self.task = "frequency"
        self.updates_per_iteration: int | None = None
        self.reward_source = "preferences"
        self.serving = "nearest"
        self.bc_alpha = 2.5
        self.item_candidates = 64
        self.precision = "float32"
        self.transitions = "auto"
        self.recipe = "robust"
        self.loaded_data = Unsaved()
        self.pretrained_reward = Unsaved()
        self.labels = Unsaved()
        self._set(RECIPES["robust"])

    def _set(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def training(
        self,
        *,
        recipe: str = NotProvided,
        task: str = NotProvided,
        tau: float = NotProvided,
        actor_lr: float = NotProvided,
        critic_lr: float = NotProvided,
        reward_lr: float = NotProvided,
        preference_batch_size: int = NotProvided,
        pretrain_epochs: float = NotProvided,
        replay_buffer_size: int | None = NotProvided,
        num_epochs: float = NotProvided,
        updates_per_iteration: int | None = NotProvided,
        finetune_reward: bool = NotProvided,
        hidden_sizes: Sequence[int] = NotProvided,
        pairing: str = NotProvided,
        scoring: str = NotProvided,
        teachers: Sequence[str] = NotProvided,
        reward_input: str = NotProvided,
        reward_leave_out: Sequence[str] = NotProvided,
        standardise_reward: bool = NotProvided,
        reward_horizon: int = NotProvided,
        reward_source: str = NotProvided,
        serving: str = NotProvided,
        action_constraint: str = NotProvided,
        bc_alpha: float = NotProvided,
        item_candidates: int = NotProvided,
        precision: str = NotProvided,
        transitions: str = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets what the class docstring lists, and RLlib's own training settings (gamma, batch size)."""
        own = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        if recipe is not NotProvided:
            if recipe not in RECIPES:
                raise UserError(f"recipe: unknown recipe '{recipe}'; {nearest(recipe, list(RECIPES))}")
            self._set(RECIPES[recipe])
        self._set({name: value for name, value in own.items() if value is not NotProvided})
        super().training(**kwargs)
        return self

    def offline_data(
        self,
        *,
        loaded_data: LoadedData = NotProvided,
        pretrained_reward: RewardState = NotProvided,
        labels: ray.ObjectRef = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """RLlib's settings (`input_`), and what runs on the same data set may share.

        loaded_data: from `data.load_data`, instead of reading the data set again. pretrained_reward: from
        `pretraining.pretrain` of a run that differs in nothing that `pretraining.reward_key` names; this run skips its
        pre-training then, and ends as if it had done it. labels: from `look_ahead.label_transitions` with that reward.
        """
        if loaded_data is not NotProvided:
            self.loaded_data = Unsaved(loaded_data)
        if pretrained_reward is not NotProvided:
            self.pretrained_reward = Unsaved(pretrained_reward)
        if labels is not NotProvided:
            self.labels = Unsaved(labels)
        super().offline_data(**kwargs)
        return self

    def update_from_dict(self, config_dict: dict[str, Any]) -> Self:
        """As RLlib's, with the recipe first: single settings override it wherever they stand in the mapping."""
        rest = dict(config_dict)
        if "recipe" in rest:
            self.training(recipe=rest.pop("recipe"))
        return super().update_from_dict(rest)

    @property
    def uses_preferences(self) -> bool:
        """Whether a reward model is learned."""
        return self.reward_source == "preferences"

    @property
    def looks_ahead(self) -> bool:
        """Whether rewards are labels that look ahead (look_ahead.py)."""
        return bool(self.reward_horizon > 1)

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The teachers to learn from."""
        return tuple(self.teachers) or (f"{self.pairing}_{self.scoring}",)

    @property
    def data_seed(self) -> int:
        """The seed of weights and of every order."""
        return int(self.seed or 0)

    def reward_columns(self, state: StateDefinition) -> list[int] | None:
        """Columns of the next state that the reward sees; None where it sees state and action."""
        if self.reward_input == "state_action":
            return None
        left_out = {i for group in self.reward_leave_out for i in range(*state.groups[group].indices(state.width))}
        return [i for i in range(state.width) if i not in left_out]

    def module_settings(self, dataset: PreparedDataset) -> dict[str, Any]:
        """What the RLModule needs to know, and what a policy made from its checkpoint should say of its origin."""
        return {
            "hidden_sizes": list(self.hidden_sizes),
            "seed": self.data_seed,
            "reward_source": self.reward_source,
            "looks_ahead": self.looks_ahead,
            "reward_input": self.reward_input,
            "reward_columns": self.reward_columns(dataset.state) or [],
            "item_candidates": int(self.item_candidates) if self.action_constraint == "nearest_items" else None,
            "provenance": {
                "method": self.algo_class.__name__ if self.algo_class else type(self).__name__,
                "recipe": self.recipe,
                "task": self.task,
                "dataset": dataset.uri,
                "seed": self.data_seed,
                "serving": self.serving,
                "action_constraint": self.action_constraint,
            },
        }

    def module_class(self) -> type:
        """The RLModule of the method."""
        raise NotImplementedError

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The method's module over the data set's spaces."""
        settings = self.module_settings(PreparedDataset.open(str(self.input_)))
        return RLModuleSpec(module_class=self.module_class(), model_config=settings)

    def validate(self) -> None:
        """Checks every setting against the others and against the data set. Raises `UserError`."""
        if not self.input_ or self.input_ == "sampler":
            raise UserError("offline_data: key 'input_' is missing; expected the folder or URI of a prepared data set")
        dataset = PreparedDataset.open(str(self.input_))
        self._check_choice("task", self.task, TASKS)
        self._check_choice("reward_input", self.reward_input, REWARD_INPUTS)
        self._check_choice("reward_source", self.reward_source, REWARD_SOURCES)
        self._check_choice("serving", self.serving, ("nearest", "dot"))
        self._check_choice("action_constraint", self.action_constraint, ACTION_CONSTRAINTS)
        if self.action_constraint == "nearest_items" and self.serving != "nearest":
            raise UserError(f"serving: expected 'nearest' under nearest_items, found '{self.serving}'")
        self._check_choice("precision", self.precision, PRECISIONS)
        self._check_choice("transitions", self.transitions, TRANSITIONS)
        for group in self.reward_leave_out:
            self._check_choice("reward_leave_out", group, tuple(dataset.state.groups))
        if self.reward_source == "column" and not dataset.metadata.has_reward:
            raise UserError(f"reward_source: 'column', but {dataset.uri} was prepared without a reward column")
        if self.uses_preferences:
            key = "teachers" if self.teachers else "pairing_scoring"
            for teacher in self.teacher_names:
                self._check_choice(key, teacher, (*dataset.metadata.teachers, *dataset.people()))
        self._check_count("item_candidates")
        if self.replay_buffer_size is not None:
            self._check_count("replay_buffer_size")
        self._check_count("reward_horizon")
        for name in ("num_epochs", "train_batch_size_per_learner", "preference_batch_size", "tau", "bc_alpha"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: expected more than 0, found {getattr(self, name)}")
        if not 0 <= self.gamma < 1:
            raise UserError(f"gamma: expected at least 0 and less than 1, found {self.gamma}")
        if self.num_learners not in (0, 1, 2, 4, 8):
            raise UserError(f"num_learners: expected 0, 1, 2, 4 or 8, found {self.num_learners}")
        if self.grad_clip is not None:
            raise UserError(
                f"grad_clip: gradients are not clipped (paper, Table 1); expected null, found {self.grad_clip}"
            )
        bounds = (np.float32(dataset.metadata.action_low), np.float32(dataset.metadata.action_high))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (dataset.metadata.state_dim,), np.float32)
        self.action_space = gym.spaces.Box(*bounds, (dataset.metadata.action_dim,), np.float32)
        super().validate()

    def _check_count(self, key: str) -> None:
        value = getattr(self, key)
        if not (value >= 1 and value == int(value)):
            raise UserError(f"{key}: expected a whole number of at least 1, found {value}")

    @staticmethod
    def _check_choice(key: str, value: str, valid: tuple[str, ...]) -> None:
        if value not in valid:
            raise UserError(f"{key}: unknown value '{value}'; {nearest(str(value), list(valid))}")
