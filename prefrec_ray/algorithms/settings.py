"""The settings of the methods: one field each, with type, range, defaults and meaning.

A field is the only source of its setting: `training()` of RLlib's config, the checks of a YAML, their errors and
docs/settings.md are made from it. A field `by_recipe` has two defaults. `paper` is Table 1 of the paper, which does not
print the learning rates of V and of the reward: the critic's is used for both. docs/recipe.md has the reasons of
`robust`.

This module imports neither Ray nor PyTorch, so that a YAML is checked without them.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, StrictBool, ValidationInfo, field_validator, model_validator

from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.memory import check_need
from prefrec_ray.settings import Count, CustomResources, Pairing, Recipe, Seed, Settings, Task, parse

_SAME = object()
#: Bytes in training: a weight, its gradient and two moments of Adam, float32.
_OF_WEIGHT = 16
_OF_REWARD: dict[str, Any] = {"shapes_reward": True}


def by_recipe(paper: Any, robust: Any = _SAME, *, of_reward: bool = False, **about: Any) -> Any:
    """Return a field with one default per recipe. `of_reward`: the weights of a pre-trained reward depend on it."""
    extra = {"paper": paper, **(_OF_REWARD if of_reward else {})}
    return Field(default=paper if robust is _SAME else robust, json_schema_extra=extra, **about)


#: A field on which the weights of a pre-trained reward depend, with one default per recipe.
of_reward = partial(by_recipe, of_reward=True)


class TrainingSettings(Settings):
    """Settings of every method."""

    #: False: settings of the reward have no effect.
    uses_reward: ClassVar[bool] = True

    recipe: Recipe = Field(default="robust", description="defaults of all other settings")
    task: Task = Field(default="frequency", description="level that preferences compare", json_schema_extra=_OF_REWARD)
    seed: Seed = Field(default=0, description="seed of weights, batches and noise", json_schema_extra=_OF_REWARD)

    gamma: float = by_recipe(0.9, 0.97, ge=0, lt=1, description="discount γ per impression")
    tau: float = by_recipe(0.001, 0.02, gt=0, le=1, description="Polyak rate of target networks (Table 1: 1 - tau)")
    actor_lr: PositiveFloat = by_recipe(5e-6, 1e-3, description="learning rate of the actor")
    critic_lr: PositiveFloat = by_recipe(5e-5, 2e-3, description="learning rate of Q")
    reward_lr: PositiveFloat = of_reward(5e-5, description="learning rate of the reward model")
    train_batch_size_per_learner: PositiveInt = by_recipe(4096, 1024, description="transitions in a mini-batch")
    preference_batch_size: PositiveInt = of_reward(256, 32, description="pairs in a mini-batch, over all learners")
    pretrain_epochs: float = of_reward(
        3, ge=0, le=10**9, description="passes over the preferences before the policy learns"
    )
    pretrain_updates: PositiveInt | None = of_reward(
        None, 150, description="maximum number of mini-batches of pre-training; null: all passes"
    )
    replay_buffer_size: PositiveInt | None = by_recipe(
        3_000_000, None, description="transitions to train on, a sample; null: all"
    )
    num_epochs: float = by_recipe(5, gt=0, le=10**9, description="passes over the transitions")
    updates_per_iteration: PositiveInt | None = Field(
        default=None, description="updates in an RLlib iteration; null: a quarter of an epoch"
    )
    hidden_sizes: tuple[PositiveInt, ...] = of_reward(
        (256, 256, 256), min_length=1, description="widths of every network's hidden layers"
    )

    pairing: Pairing = of_reward(
        "any_users", "within_user", description="segments that the scripted teacher compares: of any two users, or one"
    )
    scoring: Literal["sum", "mean"] = of_reward(
        "sum", "mean", description="a segment's score, from the levels of the sessions that end in it"
    )
    teachers: tuple[str, ...] = of_reward(
        (), description="teachers whose pairs are pooled; empty: the teacher with `pairing` and `scoring`"
    )
    reward_source: Literal["preferences", "column"] = Field(
        default="preferences", description="the reward: learned from preferences, or the data set's column"
    )
    reward_input: Literal["state_action", "next_state"] = of_reward(
        "state_action", "next_state", description="input of the reward model (paper: r(s, a))"
    )
    reward_leave_out: tuple[str, ...] = of_reward(
        (), ("items", "tastes"), description="groups of the next state that are not in this input"
    )
    reward_members: PositiveInt = of_reward(1, 3, description="networks whose mean is the reward")
    reward_horizon: Count = by_recipe(
        1, 100, description="impressions whose mean reward is the value of an action, starting with its own"
    )
    standardise_reward: StrictBool = by_recipe(
        False, True, description="rewards of mean 0 and standard deviation 1 on training impressions"
    )
    finetune_reward: StrictBool = by_recipe(
        True, False, description="update the reward model after every policy update (Algorithm 1, line 14)"
    )

    q_products: tuple[Literal["items", "tastes"], ...] = by_recipe(
        (), ("items", "tastes"), description="state groups whose inner products with the action are inputs of Q"
    )
    q_kinds: StrictBool = by_recipe(
        False, True, description="add to Q of an item the effects of its kinds: cluster, categories and maker"
    )
    rotations: float = by_recipe(
        0.0, 0.5, ge=0, le=1, description="share of a mini-batch whose embeddings are rotated at random"
    )
    serving: ServingSettings = by_recipe(
        ServingSettings(rule="best", candidates="nearest", count=1, variety=0.0),
        ServingSettings(),
        description="how items are chosen",
    )

    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="precision of matrix products", json_schema_extra=_OF_REWARD
    )
    transitions: Literal["auto", "materialised", "streaming"] = Field(
        default="auto", description="storage: Ray's object store, or files; `auto`: files if the store is too small"
    )
    num_learners: int = Field(default=0, ge=0, description="learner processes; 0: the run's own")
    num_cpus_per_learner: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        default="auto", description="CPUs of each learner; `auto`: RLlib's choice"
    )
    num_gpus_per_learner: float = Field(default=0, ge=0, description="GPUs of each learner")
    custom_resources_per_learner: CustomResources = Field(
        default_factory=dict, description="Ray's custom resources of each learner, by name"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("expected a value other than true or false")
        return value

    @field_validator("hidden_sizes", "reward_members")
    @classmethod
    def _fits_into_memory(cls, value: Any, info: ValidationInfo) -> Any:
        of_reward = info.field_name == "reward_members"
        widths, networks = (info.data.get("hidden_sizes", ()), value) if of_reward else (value, 1)
        size = networks * (sum(widths) + sum(inputs * outputs for inputs, outputs in pairwise(widths)))
        layers = " x ".join(map(str, widths))
        check_need(_OF_WEIGHT * size, f"{networks} networks of {layers}" if of_reward else f"layers of {layers}")
        for key in ("train_batch_size_per_learner", "preference_batch_size"):
            check_need(4 * info.data.get(key, 0) * sum(widths), f"the mini-batches of {key} in layers of {layers}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _recipe_first(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        defaults = recipe_defaults(cls, data.get("recipe", "robust"))
        if isinstance(data.get("serving"), dict) and "serving" in defaults:  # single keys of it override the recipe
            data = {**data, "serving": {**defaults["serving"].model_dump(), **data["serving"]}}
        return {**defaults, **data}

    @property
    def uses_preferences(self) -> bool:
        """Return True if a reward model is learned."""
        return self.uses_reward and self.reward_source == "preferences"

    @property
    def looks_ahead(self) -> bool:
        """Return True if reward labels look ahead (reward/labels.py)."""
        return self.uses_reward and self.reward_horizon > 1

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """Return the teachers to learn from."""
        return self.teachers or (f"{self.pairing}_{self.scoring}",)

    @property
    def learner_resources(self) -> dict[str, float]:
        """Return Ray's resources of each learner process or, without such processes, of the run's own process."""
        cpus, gpus = self.num_cpus_per_learner, float(self.num_gpus_per_learner)
        if not self.num_learners:
            return {"GPU": gpus}
        own = {"CPU": float(cpus) if isinstance(cpus, int | float) else float(not gpus), "GPU": gpus}
        return {**own, **self.custom_resources_per_learner}


class CloningSettings(TrainingSettings):
    """Settings of behavior cloning (IL); settings of the reward have no effect."""

    uses_reward: ClassVar[bool] = False


class ExpectileSettings(TrainingSettings):
    """Settings of the methods that learn an expectile V: PrefRec and IQL."""

    expectile: float = by_recipe(0.7, ge=0.5, lt=1, description="expectile τ of V (Eq. 9); 0.5: the mean")
    value_lr: PositiveFloat = by_recipe(5e-5, 2e-3, description="learning rate of V")


class IQLSettings(ExpectileSettings):
    """Settings of IQL (Kostrikov et al. 2022)."""

    temperature: float = Field(default=3.0, ge=0, le=10, description="inverse temperature β of weights; 0: cloning")


class TD3Settings(TrainingSettings):
    """Settings of TD3 (Fujimoto et al. 2018)."""

    target_noise: float = Field(
        default=0.2, ge=0, description="deviation of the target action's noise, in half-widths of the bounds"
    )
    noise_clip: float = Field(default=0.5, ge=0, le=1e6, description="maximum of this noise")
    policy_delay: PositiveInt = Field(default=2, description="updates of Q per update of actor and target networks")


class TD3BCSettings(TD3Settings):
    """Settings of TD3_BC (Fujimoto and Gu 2021)."""

    bc_alpha: PositiveFloat = Field(default=2.5, description="weight α of Q against behavior cloning")


class BCQSettings(TrainingSettings):
    """Settings of BCQ (Fujimoto et al. 2019)."""

    perturbation: float = Field(
        default=0.05, ge=0, le=1, description="largest move Φ of an action, in half-widths of the bounds"
    )
    soft_clip: float = Field(default=0.75, ge=0.5, le=1, description="weight λ of the smaller of the twin Q (Eq. 13)")
    candidates: PositiveInt = Field(default=10, description="actions n proposed for a state")

    @field_validator("candidates")
    @classmethod
    def _fit_into_memory(cls, value: int, info: ValidationInfo) -> int:
        rows = value * info.data.get("train_batch_size_per_learner", 1)
        check_need(4 * rows * sum(info.data.get("hidden_sizes", ())), f"{value:,} candidates for each transition")
        return value


def recipe_defaults(settings: type[TrainingSettings], recipe: str) -> dict[str, Any]:
    """Return the defaults of all fields that depend on the recipe; empty for an unknown recipe."""
    fields = {name: field for name, field in settings.model_fields.items() if "paper" in _extra(field)}
    if recipe == "paper":
        return {name: _extra(field)["paper"] for name, field in fields.items()}
    return {name: field.default for name, field in fields.items()} if recipe == "robust" else {}


def reward_settings(settings: type[TrainingSettings]) -> list[str]:
    """Return the settings that the weights of a pre-trained reward depend on."""
    return [name for name, field in settings.model_fields.items() if _extra(field).get("shapes_reward")]


def checked_values(settings: type[TrainingSettings], values: dict[str, Any], where: str, prefix: str) -> dict[str, Any]:
    """Return `values` as their fields convert them (the text `3e-4` becomes a number), each checked by itself.

    Raises `UserError` for an unknown key or a value that its field refuses.
    """
    parsed = parse(settings, values, where, prefix)
    return {name: value if isinstance(value, dict) else getattr(parsed, name) for name, value in values.items()}


def _extra(field: Any) -> dict[str, Any]:
    return field.json_schema_extra or {}
