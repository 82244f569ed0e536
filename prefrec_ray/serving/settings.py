"""The section `serve` of a YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefrec_ray.settings import Count, Seed, Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
#: The arm of the policy that the command names.
MAIN = "main"


class Arm(Settings):
    """Another policy, and the users that it is for: a share of all, by a hash of their ids."""

    name: Name = Field(description="what the log calls it")
    policy: str = Field(description="policy bundle: folder or URI")
    share: Annotated[float, Field(gt=0, le=1)] = Field(description="of the users; a larger share keeps those it had")


class ServeSettings(Settings):
    """The section `serve`: arms beside the policy that is served, and what the server keeps."""

    canaries: tuple[Arm, ...] = Field(default=(), description="policies that serve some users instead")
    shadows: tuple[Arm, ...] = Field(
        default=(), description="policies that draw items for some users too, which are logged and not shown"
    )
    leave_out: Literal["recommended", "answered", "nothing"] = Field(
        default="recommended", description="what a user is not shown again: all that was given, or all with feedback"
    )
    feedback_hours: Annotated[float, Field(gt=0, le=24 * 366)] = Field(
        default=24.0, description="feedback that comes later than this after its recommendation is refused"
    )
    snapshot_events: Count = Field(default=1_000_000, description="events after which users' states are saved")
    seed: Seed = Field(default=0, description="of the arms of users: another one deals users anew")

    @model_validator(mode="after")
    def _arms_fit(self) -> ServeSettings:
        names = [MAIN, *(arm.name for arm in (*self.canaries, *self.shadows))]
        if len(set(names)) < len(names):
            raise ValueError(f"expected each arm's name once, and none called {MAIN}")
        if sum(arm.share for arm in self.canaries) > 1:
            raise ValueError("expected shares of canaries of at most 1 together")
        return self
