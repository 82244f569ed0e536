"""The key `preferences` of the section `prepare`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from prefrec_ray.memory import check_need
from prefrec_ray.preferences.teachers import SCORINGS
from prefrec_ray.settings import PAIRINGS, TASKS, Count, Pairing, Settings, Task

#: Bytes of a pair while all are drawn, scored and labelled: two users, two starts, scores and labels, copied twice.
_OF_PAIR = 256


def _fit_into_memory(pairs: int) -> int:
    check_need(_OF_PAIR * pairs, f"{pairs:,} pairs")
    return pairs


#: Number of pairs that are drawn at a time.
Pairs = Annotated[Count, AfterValidator(_fit_into_memory)]


class TeacherSettings(Settings):
    """A scripted teacher: the segments that it compares (`pairing`), and their scores (`scoring`)."""

    pairing: Pairing
    scoring: Literal["sum", "mean"]

    @property
    def name(self) -> str:
        """Return the name in tables and settings: <pairing>_<scoring>."""
        return f"{self.pairing}_{self.scoring}"


#: All scripted teachers, by name.
SCRIPTED = {
    teacher.name: teacher
    for pairing in PAIRINGS
    for scoring in SCORINGS
    for teacher in [TeacherSettings.model_validate({"pairing": pairing, "scoring": scoring})]
}


class PreferenceSettings(Settings):
    """Numbers of pairs per task, and teachers. The default teachers belong to the recipes `paper` and `robust`."""

    pairs: Pairs = Field(default=20_000, description="pairs of training users, per task and teacher")
    validation_pairs: Annotated[Pairs, Field(ge=2)] = Field(
        default=2_000, description="pairs of validation users, half of each pairing"
    )
    length: Count = Field(default=100, description="impressions in a segment")
    min_requests: Count = Field(default=200, description="only users with more impressions are compared")
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = Field(
        default=TASKS, description="levels that teachers compare"
    )
    teachers: Annotated[tuple[TeacherSettings, ...], Field(min_length=1)] = Field(
        default=(
            TeacherSettings(pairing="any_users", scoring="sum"),
            TeacherSettings(pairing="within_user", scoring="mean"),
        ),
        description="scripted teachers ([preferences](preferences.md))",
    )

    @property
    def scorings(self) -> list[str]:
        """Return the scorings in use, each once."""
        return list(dict.fromkeys(teacher.scoring for teacher in self.teachers))

    @field_validator("tasks", "teachers")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if any(value.count(one) > 1 for one in value):
            raise ValueError("expected each one once")
        return value

    @model_validator(mode="after")
    def _two_segments_fit(self) -> PreferenceSettings:
        if self.min_requests < 2 * self.length:
            raise ValueError(
                f"min_requests {self.min_requests} is too small for two segments of length {self.length} of one user; "
                f"expected min_requests of at least {2 * self.length}, or a smaller length"
            )
        return self
