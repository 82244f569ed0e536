"""The section `serve` of a YAML, and the canary of a loop that a server reads next to the current policy."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.feedback_column import RESERVED, FeedbackKind
from prefrec_ray.logs.side_tables import ItemsTable
from prefrec_ray.mdp.excluded import RestDays
from prefrec_ray.settings import Count, Seed, Settings, parse
from prefrec_ray.storage.alias import beside, read_alias

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
#: The arm of the policy that the command names.
MAIN = "main"
#: Sources of items before the first policy, in the place of a policy's digest: the request, which has items of the
#: platform's own recommender, or draws of the server from a known distribution over the items.
LogPolicy = Literal["incumbent", "random", "popularity"]
INCUMBENT, _, POPULARITY = LOG_POLICIES = get_args(LogPolicy)


class Arm(Settings):
    """An additional policy and its share of the users, chosen by a hash of their ids."""

    name: Name = Field(description="name of the policy in the log")
    policy: str = Field(description="policy bundle: folder or URI")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of the users; a larger share keeps the earlier users"
    )


class IncumbentSettings(Settings):
    """Items, feedback and user features of the log before the first policy."""

    items: ItemsTable = Field(description="table of the items, with embeddings or features ([columns](data.md#items))")
    feedback: dict[str, FeedbackKind] = Field(min_length=1, description="kinds of feedback by name")
    user_features: dict[str, tuple[str, ...]] = Field(default={}, description="categories of each feature of a user")
    session_gap_minutes: Annotated[float, Field(gt=0, le=100 * 366 * 24 * 60)] = Field(
        default=30.0, description="pause that ends a session, as in `prepare`"
    )
    rest_days: RestDays = Field(
        default="forever", description="days until `log_policy` draws an item again for a user, or `forever`"
    )

    @model_validator(mode="after")
    def _has_embeddings_and_names(self) -> IncumbentSettings:
        if not self.items.embedding and not self.items.features:
            raise ValueError("items: expected embedding or features, from which the states of users are made")
        for name in self.feedback:
            if name in RESERVED:
                raise ValueError(f"feedback '{name}': this name is taken; expected another name")
        return self


class ServeSettings(Settings):
    """The section `serve`: arms in addition to the main policy, and limits of the server."""

    canaries: tuple[Arm, ...] = Field(default=(), description="policies that serve a share of the users")
    feedback_hours: Annotated[float, Field(gt=0, le=24 * 366)] = Field(
        default=24.0, description="hours after its recommendation when feedback is refused"
    )
    snapshot_events: Count = Field(default=1_000_000, description="events between two snapshots of user states")
    seed: Seed = Field(default=0, description="seed of the assignment of users to arms")
    log_policy: LogPolicy = Field(
        default="incumbent",
        description="what users get before the first promotion: the items of the request; uniform draws; or draws in "
        "proportion to 1 + the positive impressions in the server's log",
    )
    retention_days: Annotated[float, Field(ge=1, le=36600)] | None = Field(
        default=None,
        description="days after which events are removed from the log, at the start and once a day; null: never",
    )
    incumbent: IncumbentSettings | None = Field(
        default=None, description="items and feedback to log before the loop has a policy"
    )

    @model_validator(mode="after")
    def _arms_fit(self) -> ServeSettings:
        names = [MAIN, *(arm.name for arm in self.canaries)]
        if len(set(names)) < len(names):
            raise ValueError(f"found an arm's name twice, or {MAIN}; expected another name for each arm")
        if sum(arm.share for arm in self.canaries) > 1:
            raise ValueError("found shares of canaries of more than 1 in total; expected at most 1")
        return self

    @model_validator(mode="after")
    def _events_stay_while_feedback_counts(self) -> ServeSettings:
        if self.retention_days is not None and 24 * self.retention_days < self.feedback_hours:
            raise ValueError(
                f"retention_days {self.retention_days:g} ends before feedback_hours {self.feedback_hours:g}; expected"
                " at least as long"
            )
        return self


class Canary(Settings):
    """The canary of a loop, in the alias of the loop's current policy.

    `target`: its bundle, relative to the alias. `began`: when the night made it a canary, ms. The seed of the
    assignment to arms contains the night, so that each canary has other users.
    """

    night: Count
    target: str
    share: float = Field(gt=0, le=0.5)
    began: int

    @property
    def arm(self) -> str:
        """Return the name of the canary's arm in the event log."""
        return f"night-{self.night}"


class NightRecord(Settings):
    """The file current.json: the bundle `target` of the last of the nights `promoted`, oldest first, and the canary.

    `withdrawn`: nights of earlier canaries. `rolled_back`: nights that a rollback removed from `promoted`.
    """

    target: str = ""
    promoted: tuple[int, ...] = ()
    rolled_back: tuple[int, ...] = ()
    canary: Canary | None = None
    withdrawn: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _targets_fit(self) -> NightRecord:
        _check_target(self.target, self.promoted[-1] if self.promoted else None, "target")
        if self.canary is not None:
            _check_target(self.canary.target, self.canary.night, "canary.target")
        return self

    @property
    def released(self) -> tuple[int, ...]:
        """Return all nights whose policies were a canary or current at any time."""
        canary = () if self.canary is None else (self.canary.night,)
        return (*self.promoted, *self.rolled_back, *self.withdrawn, *canary)


def _check_target(target: str, night: int | None, key: str) -> None:
    if not target.startswith(f"nights/{night:04d}/") if night is not None else target:
        expected = "none, since no night was promoted" if night is None else f"a policy of night {night}"
        raise ValueError(f"{key}: found {target!r}; expected {expected}")


def read_release(policy: str, settings: ServeSettings) -> tuple[str | None, ServeSettings]:
    """Return the bundle of the main arm, None before the first one, and the settings with the canary of the loop.

    `policy` is a bundle, or the alias of a loop. The alias is read once, so that both belong to the same transition.
    Raises `UserError` for a damaged alias, for targets of other nights than the alias lists, if the settings have
    canaries in addition to the loop's, and without a policy, canary and incumbent.
    """
    about = read_alias(policy)
    if about is None:
        return (policy if storage.exists(policy) or settings.incumbent is None else None), settings
    if "promoted" in about:
        parse(NightRecord, about, f"{policy}.json")
    main = beside(policy, about["target"]) if about["target"] else None
    if about.get("canary") is None:
        if main is None and not settings.canaries and settings.incumbent is None:
            raise UserError(
                f"{policy}: points to no policy yet; expected a canary or a promoted policy, or serve.incumbent"
            )
        return main, settings
    if settings.canaries:
        raise UserError(
            f"{policy}: found a canary of the loop and serve.canaries; expected one of them (wait until the loop's "
            "canary has ended, or remove serve.canaries)"
        )
    canary = parse(Canary, about["canary"], f"{policy}.json", "canary.")
    arm = Arm(name=canary.arm, policy=beside(policy, canary.target), share=canary.share)
    return main, settings.model_copy(update={"canaries": (arm,), "seed": (settings.seed + canary.night) % 2**32})
