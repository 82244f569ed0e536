"""The key `preferences` of the section `prepare`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from prefrec_ray.settings import Settings

Task = Literal["depth", "frequency", "mixture"]


class Teacher(Settings):
    """Which segments are compared (`pairing`), and what of them (`scoring`)."""

    pairing: Literal["any_users", "within_user"]
    scoring: Literal["sum", "mean"]

    @property
    def name(self) -> str:
        """`<pairing>_<scoring>`."""
        return f"{self.pairing}_{self.scoring}"


class PreferenceSettings(Settings):
    """Numbers of pairs a task and teacher; the default teachers are those of the recipes `paper` and `robust`."""

    pairs: PositiveInt = 20_000  # of training users
    validation_pairs: Annotated[int, Field(ge=2)] = 2_000  # of validation users; half of either pairing
    length: PositiveInt = 100  # requests in a segment
    min_requests: PositiveInt = 200  # only users with more requests than this are compared
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("depth", "frequency", "mixture")
    teachers: Annotated[tuple[Teacher, ...], Field(min_length=1)] = (
        Teacher(pairing="any_users", scoring="sum"),
        Teacher(pairing="within_user", scoring="mean"),
    )

    @property
    def scorings(self) -> list[str]:
        """The scorings in use, each once."""
        return list(dict.fromkeys(teacher.scoring for teacher in self.teachers))

    @model_validator(mode="after")
    def _two_segments_fit(self) -> PreferenceSettings:
        if self.min_requests < 2 * self.length:
            raise ValueError(
                f"min_requests {self.min_requests} is too small for two segments of length {self.length} of one user; "
                f"expected min_requests of at least {2 * self.length}, or a smaller length"
            )
        return self
