"""The section `evaluate` of a YAML, and the key `validation` of `train` and `tune`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from prefrec_ray import plugins
from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.records import DIFFERENCE
from prefrec_ray.guard_rails import GuardRailText
from prefrec_ray.settings import Seed, Settings
from prefrec_ray.users import WARM

#: Classes by the name of the estimator. Plug-ins are functions (request, task) -> Scores.
ESTIMATORS = {
    "model": "prefrec_ray.evaluation.estimators.model:UserModels",
    "ncis": "prefrec_ray.evaluation.estimators.ncis:Ncis",
    "weights": "prefrec_ray.evaluation.estimators.importance_weights:ItemWeights",
    "sips": "prefrec_ray.evaluation.estimators.importance_weights:ItemWeights",
    "rips": "prefrec_ray.evaluation.estimators.importance_weights:ItemWeights",
    "iips": "prefrec_ray.evaluation.estimators.importance_weights:ItemWeights",
    "fqe": "prefrec_ray.evaluation.estimators.fitted_q:FittedQ",
    "dr": "prefrec_ray.evaluation.estimators.fitted_q:FittedQ",
}
EstimatorName = Annotated[str, AfterValidator(lambda name: plugins.find("estimators", name, ESTIMATORS).name)]


class NcisSettings(Settings):
    """Weight of a session in NCIS, with the formulas of docs/evaluation.md.

    The paper's literal reading is `density` and `product` without a cap. `geometric` is a mean over the pages of a
    session.
    """

    mode: Literal["density", "ratio"] = Field(
        default="ratio", description="[weight](evaluation.md#ncis) of an impression"
    )
    aggregate: Literal["product", "geometric"] = Field(default="geometric", description="weight of a session")
    sigma: float = Field(default=2.0, ge=1e-6, le=1e6, description="kernel width, in rms residuals of behavior cloning")
    cap: float | None = Field(default=10.0, gt=0, description="largest weight of a session; null: none")


class FqeSettings(Settings):
    """Fitted-Q evaluation. The value is the mean of the networks, and the interval contains their disagreement.

    There is no discount within a session. A single network is fitted to the training users themselves.
    """

    gamma_session: float = Field(default=0.9, ge=0, lt=1, description="discount from one session to the next")
    updates: int = Field(default=2000, ge=1, description="gradient steps of a network")
    networks: int = Field(default=3, ge=1, description="networks per policy, each on a resample of the training users")


class ModelSettings(Settings):
    """Roll-outs in models of users."""

    models: int = Field(default=4, ge=2, description="models of users, each fitted to a resample of users")
    users: int = Field(default=200, ge=2, description="simulated users: a third of the split, at most this number")
    requests: int = Field(default=250, gt=WARM, description="items each user examines; best at most the log's mean")


class EvaluateSettings(Settings):
    """The section `evaluate`. `fqe` and `dr` fit networks for every policy and control, for some seconds each."""

    split: Literal["validation", "test"] = Field(default="test", description="users who are scored")
    seed: Seed = Field(default=0, description="seed of behavior cloning, controls, networks and bootstrap")
    estimators: tuple[EstimatorName, ...] = Field(
        default=("model", "ncis"),
        min_length=1,
        description="`model`, on which verdicts rest, `ncis`, `weights`, `sips`, `rips`, `iips`, `fqe`, `dr` "
        "([evaluation](evaluation.md)), or [plug-ins](add_a_method.md#plug-ins)",
    )
    ncis: NcisSettings = Field(default=NcisSettings(), description="weights of sessions")
    fqe: FqeSettings = Field(default=FqeSettings(), description="fitted-Q evaluation, also for `dr`")
    model: ModelSettings = Field(default=ModelSettings(), description="roll-outs in models of users")
    difference: float = Field(
        default=DIFFERENCE,
        gt=0,
        le=MAX_LEVEL,
        description="smallest gain that matters, in levels: `no_difference` needs an interval from minus this to this",
    )
    current: str | None = Field(
        default=None, description="bundle or alias of the policy that serves now, to compare with"
    )
    guard_rails: tuple[GuardRailText, ...] = Field(
        default=(), description="limits on what a policy may cost ([guard-rails](evaluation.md#guard-rails))"
    )

    @model_validator(mode="after")
    def _needs_the_model(self) -> Self:
        for name in ("current", "guard_rails"):
            if getattr(self, name) and "model" not in self.estimators:
                raise ValueError(f"{name}: found estimators {', '.join(self.estimators)}; expected model among them")
        if len(set(self.guard_rails)) < len(self.guard_rails):
            raise ValueError(f"guard_rails: found {', '.join(self.guard_rails)}; expected each once")
        return self


class ValidationSettings(Settings):
    """Scores of policies on validation users during training: by estimators, and by true levels in the simulator.

    `every`: iterations between scores (the last iteration always has one); null: only at the end. `estimators`: the
    first one selects a run's best checkpoint.
    """

    every: int | None = Field(default=None, ge=1)
    estimators: tuple[Literal["model", "preference", "fqe", "ncis"], ...] = Field(default=("model",), min_length=1)
    ncis: NcisSettings = NcisSettings()
    online: bool = False
    users: int = Field(default=200, ge=2, description="users of the roll-outs in the simulator (`online`)")

    def scored(self, iterations: int) -> list[int]:
        """Return the iterations, from 1 to `iterations`, after which a policy is scored."""
        return [number for number in range(1, iterations + 1) if self.due(number, number == iterations)]

    def due(self, iteration: int, last: bool) -> bool:
        """Return whether a policy is scored after this iteration."""
        return last or (self.every is not None and iteration % self.every == 0)

    @property
    def reported(self) -> tuple[str, ...]:
        """Return the columns of scores in a run's metrics; the first one selects the best checkpoint."""
        ess = ("validation/ess",) if "ncis" in self.estimators else ()
        online = ("validation/online",) if self.online else ()
        return (*(f"validation/{name}" for name in self.estimators), *ess, *online)
