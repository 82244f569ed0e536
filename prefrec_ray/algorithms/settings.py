"""The settings of the methods: one field each, with type, range, defaults and meaning.

All else about a setting comes from its field: `training()` of RLlib's config, the checks of a YAML, its errors, the
reference page. A field `by_recipe` has two defaults. `paper` is Table 1 of the paper; the rates of V and of the reward
are not printed there, and the critic's stands for both. `robust` differs where a gain must be real (docs/recipe.md):
preferences within a user on the mean level of the sessions that end in the segment; a reward of the state that an item
leads to, blind to which items those were, over the length of a segment after it; a target network and a horizon that
back values up over more than a few requests; a choice among real items near the actor's action, which alone would go
where no item is.

This module imports neither Ray nor PyTorch: a YAML is checked without them.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, StrictBool, field_validator, model_validator

from prefrec_ray.errors import UserError
from prefrec_ray.settings import Seed, Settings, parse
from prefrec_ray.terms import Pairing, Recipe, Task

_SAME = object()
_OF_REWARD: dict[str, Any] = {"shapes_reward": True}


def by_recipe(paper: Any, robust: Any = _SAME, *, shapes_reward: bool = False, **about: Any) -> Any:
    """A field with a default a recipe. `shapes_reward`: the weights of a pre-trained reward depend on it."""
    extra = {"paper": paper, "shapes_reward": shapes_reward}
    return Field(default=paper if robust is _SAME else robust, json_schema_extra=extra, **about)


class TrainingSettings(Settings):
    """What every method can be told."""

    recipe: Recipe = Field(
        default="robust", description="the defaults of all other settings: the paper's, or those that hold"
    )
    task: Task = Field(
        default="frequency", description="the level that preferences are about", json_schema_extra=_OF_REWARD
    )
    seed: Seed = Field(default=0, description="of weights and of every order", json_schema_extra=_OF_REWARD)

    gamma: float = by_recipe(0.9, 0.97, ge=0, lt=1, description="discount from one request to the next (γ)")
    tau: float = by_recipe(
        0.001, 0.01, gt=0, le=1, description="Polyak rate of target networks; the paper's soft-update rate is 1 - tau"
    )
    actor_lr: PositiveFloat = by_recipe(5e-6, 1e-4, description="learning rate of the actor")
    critic_lr: PositiveFloat = by_recipe(5e-5, 3e-4, description="learning rate of Q")
    reward_lr: PositiveFloat = by_recipe(5e-5, shapes_reward=True, description="learning rate of the reward model")
    train_batch_size_per_learner: PositiveInt = by_recipe(4096, description="transitions of an update, of one learner")
    preference_batch_size: PositiveInt = by_recipe(
        256, shapes_reward=True, description="pairs of a reward update, of all learners together"
    )
    pretrain_epochs: float = by_recipe(
        3, shapes_reward=True, ge=0, description="passes over the preferences before the policy learns; 0: none"
    )
    replay_buffer_size: PositiveInt | None = by_recipe(
        3_000_000, None, description="so many of the data set's transitions are used, a sample; null: all"
    )
    num_epochs: PositiveFloat = by_recipe(5, description="passes over the transitions; may be a fraction")
    updates_per_iteration: PositiveInt | None = Field(
        default=None, description="of one RLlib iteration; null: a quarter of an epoch"
    )
    hidden_sizes: tuple[PositiveInt, ...] = by_recipe(
        (256, 256, 256), shapes_reward=True, min_length=1, description="widths of the hidden layers of every network"
    )

    pairing: Pairing = by_recipe(
        "any_users", "within_user", shapes_reward=True, description="which segments the scripted teacher compares"
    )
    scoring: Literal["sum", "mean"] = by_recipe(
        "sum", "mean", shapes_reward=True, description="what of their levels it compares"
    )
    teachers: tuple[str, ...] = by_recipe(
        (), shapes_reward=True, description="teachers whose pairs are pooled; none: <pairing>_<scoring>"
    )
    reward_source: Literal["preferences", "column"] = Field(
        default="preferences", description="learned, or the data set's own hand-made reward"
    )
    reward_input: Literal["state_action", "next_state"] = by_recipe(
        "state_action", "next_state", shapes_reward=True, description="what the reward model sees (paper: r(s, a))"
    )
    reward_leave_out: tuple[str, ...] = by_recipe(
        (), ("items", "tastes"), shapes_reward=True, description="groups of the next state that it does not see"
    )
    reward_horizon: PositiveInt = by_recipe(
        1, 100, description="an action is worth the mean reward of so many requests after it; 1: of the next one alone"
    )
    standardise_reward: StrictBool = by_recipe(
        False, True, description="to mean 0 and deviation 1 on training requests"
    )
    finetune_reward: StrictBool = by_recipe(True, False, description="one reward update a step (Algorithm 1, line 14)")

    action_constraint: Literal["none", "behaviour_anchor", "nearest_items"] = by_recipe(
        "none",
        "nearest_items",
        description="what keeps an actor where the data are: nothing; a pull to the logged action; "
        "or the item of the largest Q among those nearest to its action",
    )
    bc_alpha: PositiveFloat = Field(
        default=2.5, description="how much Q counts against the pull of behaviour_anchor, TD3_BC"
    )
    item_candidates: PositiveInt = Field(default=64, description="items that nearest_items chooses among")
    serving: Literal["nearest", "dot"] = Field(default="nearest", description="how an action becomes an item")

    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="of matrix products", json_schema_extra=_OF_REWARD
    )
    transitions: Literal["auto", "materialised", "streaming"] = Field(
        default="auto",
        description="in the object store, or read as their turn comes; auto: the second where they do not fit",
    )
    num_learners: Literal[0, 1, 2, 4, 8] = Field(default=0, description="processes that learn; 0: the run's own")
    num_cpus_per_learner: Literal["auto"] | float = Field(default="auto", description="processors of each")
    num_gpus_per_learner: float = Field(default=0, ge=0, description="GPUs of each")
    custom_resources_per_learner: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="units of the cluster's own resources of each"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false are no values of it")
        return value

    @model_validator(mode="before")
    @classmethod
    def _recipe_first(cls, given: Any) -> Any:
        return {**recipe_defaults(cls, given.get("recipe", "robust")), **given} if isinstance(given, dict) else given

    def check_together(self, where: str = "") -> Self:
        """The settings themselves. Raises `UserError`, opened by `where`, for values that exclude each other."""
        if self.action_constraint == "nearest_items" and self.serving != "nearest":
            raise UserError(f"{where}serving: expected 'nearest' under nearest_items, found '{self.serving}'")
        return self

    @property
    def uses_preferences(self) -> bool:
        """Whether a reward model is learned."""
        return self.reward_source == "preferences"

    @property
    def looks_ahead(self) -> bool:
        """Whether rewards are labels that look ahead (reward/labels.py)."""
        return self.reward_horizon > 1

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The teachers to learn from."""
        return self.teachers or (f"{self.pairing}_{self.scoring}",)


class CloningSettings(TrainingSettings):
    """Of behavior cloning: settings of the reward have no effect."""

    @property
    def uses_preferences(self) -> bool:
        """Never."""
        return False

    @property
    def looks_ahead(self) -> bool:
        """Never."""
        return False


class ExpectileSettings(TrainingSettings):
    """Of methods that learn an expectile V: PrefRec and IQL."""

    expectile: float = by_recipe(0.7, ge=0.5, lt=1, description="of V (the paper's τ, Eq. 9)")
    value_lr: PositiveFloat = by_recipe(5e-5, 3e-4, description="learning rate of V")


class IQLSettings(ExpectileSettings):
    """IQL's own."""

    temperature: float = Field(default=3.0, ge=0, le=10, description="the paper's β: 0 imitates, 3 to 10 improve")


class TD3Settings(TrainingSettings):
    """TD3's own; both noises are in units of the bounds' half-width."""

    target_noise: float = Field(default=0.2, ge=0, description="deviation of the noise on target actions")
    noise_clip: float = Field(default=0.5, ge=0, description="where that noise is clipped")
    policy_delay: PositiveInt = Field(default=2, description="updates of Q to one of the actor and the targets")


class BCQSettings(TrainingSettings):
    """BCQ's own: the paper's Φ, λ and n."""

    perturbation: float = Field(
        default=0.05, ge=0, le=1, description="how far an action is moved at most, in half-widths"
    )
    soft_clip: float = Field(
        default=0.75, ge=0.5, le=1, description="weight of the smaller of the twin Q against the larger"
    )
    candidates: PositiveInt = Field(default=10, description="actions that a state's best is taken from")


def recipe_defaults(settings: type[TrainingSettings], recipe: str) -> dict[str, Any]:
    """The defaults of all fields that depend on the recipe; nothing for a recipe that does not exist."""
    marked = {name: field for name, field in settings.model_fields.items() if "paper" in _extra(field)}
    if recipe == "paper":
        return {name: _extra(field)["paper"] for name, field in marked.items()}
    return {name: field.default for name, field in marked.items()} if recipe == "robust" else {}


def reward_settings(settings: type[TrainingSettings]) -> list[str]:
    """The settings that the weights of a pre-trained reward depend on."""
    return [name for name, field in settings.model_fields.items() if _extra(field).get("shapes_reward")]


def checked_values(settings: type[TrainingSettings], values: dict[str, Any], where: str, prefix: str) -> dict[str, Any]:
    """Some settings by themselves, as their fields take them (a text `3e-4` becomes a number).

    Raises `UserError` for an unknown key or a value that its field refuses. How settings go together is not checked.
    """
    parsed = parse(settings, values, where, prefix)
    return {name: getattr(parsed, name) for name in values}


def _extra(field: Any) -> dict[str, Any]:
    return field.json_schema_extra or {}
