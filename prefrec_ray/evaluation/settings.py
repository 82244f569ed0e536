"""The section `evaluate` of a YAML, and the key `validation` of `train` and `tune`."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from prefrec_ray.settings import Seed, Settings

Estimator = Literal["ncis", "weights", "fqe", "dr", "model"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
#: Requests of a roll-out until running means have forgotten its start: support looks at what comes then.
WARM = 24


class NcisSettings(Settings):
    """How a session's weight rho comes about: a log weight l_t of each request t, aggregated and capped.

    `mode`: what l_t is. a_t is the logged action, pi(s_t) the policy's, bc(s_t) the behavior clone's; the kernel width
    sigma' is `sigma` times the clone's residual rms.

    - `density`: log N(a_t; pi(s_t), sigma'^2 I): the paper's "probability that the policy follows the request" for a
      deterministic policy with a Gaussian kernel.
    - `kernel`: -|a_t - pi(s_t)|^2 / (2 sigma'^2): the same without its normalising constant, a weight in (0, 1].
    - `ratio`: log N(a_t; pi(s_t), sigma'^2 I) - log N(a_t; bc(s_t), sigma'^2 I): an importance ratio.

    `aggregate`: log rho of a session of n requests is sum l_t (`product`, the paper's), sum l_t / n (`geometric`),
    log(sum exp(l_t) / n) (`mean`) or l_1 (`first`).

    `cap`: rho is min(rho, cap); null for none. The paper's literal reading is `density`, `product`.
    """

    mode: Literal["density", "kernel", "ratio"] = Field(
        default="ratio", description="log weight of an impression ([NCIS](evaluation.md#ncis))"
    )
    aggregate: Literal["product", "geometric", "mean", "first"] = Field(
        default="geometric", description="weight of a session, from its impressions"
    )
    sigma: float = Field(
        default=2.0, ge=1e-6, le=1e6, description="kernel width, as a multiple of behavior cloning's rms residual"
    )
    cap: float | None = Field(default=10.0, gt=0, description="largest weight of a session; null: none")


class FqeSettings(Settings):
    """`gamma_session`: the discount from one session to the next; within a session nothing is discounted.
    `updates`: gradient steps of a network. `networks`: how many a policy has, each fitted on training users drawn again
    (one: on those that there are); its value is their mean, and its interval holds how far they disagree."""

    gamma_session: float = Field(default=0.9, ge=0, lt=1, description="discount from one session to the next")
    updates: int = Field(default=2000, ge=1, description="gradient steps of a network")
    networks: int = Field(
        default=3, ge=1, description="networks per policy, each fitted to a resample of the training users"
    )


class ModelSettings(Settings):
    """Roll-outs in models of users: number of models, of users of the split, and of items shown to each user."""

    models: int = Field(default=4, ge=2, description="models of users, each fitted to a resample of the training users")
    users: int = Field(default=200, ge=2, description="simulated users of the split, at most")
    requests: int = Field(default=250, gt=WARM, description="items shown to each user; best at most the log's mean")


class EvaluateSettings(Settings):
    """The section `evaluate`.

    `estimators` are `model` (roll-outs in models of users; verdicts rest on it), `ncis`, `weights` (importance weights
    over items, for policies that sample), `fqe` (fitted-Q evaluation) and `dr` (doubly robust). The last two fit
    networks for every policy and control, for some seconds each.
    """

    split: Literal["validation", "test"] = Field(default="test", description="users who are scored")
    seed: Seed = Field(default=0, description="seed of behavior cloning, controls, networks and bootstrap")
    estimators: tuple[Estimator, ...] = Field(
        default=("model", "ncis"),
        min_length=1,
        description="`model`, on which verdicts rest, `ncis`, `weights`, `fqe`, `dr` ([evaluation](evaluation.md))",
    )
    ncis: NcisSettings = Field(default=NcisSettings(), description="weights of sessions")
    fqe: FqeSettings = Field(default=FqeSettings(), description="fitted-Q evaluation, also for `dr`")
    model: ModelSettings = Field(default=ModelSettings(), description="roll-outs in models of users")


class ValidationSettings(Settings):
    """Scores policies on validation users as trials go: by estimators, and by true levels in the simulator.

    `every`: iterations between scores (the last iteration always has one); null: at the end only. `estimators`: the
    first is what a run's best checkpoint is chosen by. `ncis`: in a YAML that of its section `evaluate`, unless it is
    set here.
    """

    every: int | None = Field(default=None, ge=1)
    estimators: tuple[Literal["model", "preference", "fqe", "ncis"], ...] = Field(default=("model",), min_length=1)
    ncis: NcisSettings = NcisSettings()
    online: bool = False
    users: int = Field(default=200, ge=2, description="of the roll-outs")

    def scored(self, iterations: int) -> list[int]:
        """Return the iterations, of 1 to `iterations`, after which a policy is scored."""
        return [number for number in range(1, iterations + 1) if self.due(number, number == iterations)]

    def due(self, iteration: int, last: bool) -> bool:
        """Return whether a policy is scored after this iteration."""
        return last or (self.every is not None and iteration % self.every == 0)

    @property
    def reported(self) -> tuple[str, ...]:
        """The columns that it adds to a run's rows, the decisive one first."""
        ess = ("validation/ess",) if "ncis" in self.estimators else ()
        online = ("validation/online",) if self.online else ()
        return (*(f"validation/{name}" for name in self.estimators), *ess, *online)
