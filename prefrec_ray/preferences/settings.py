"""The key `preferences` of the section `prepare`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, field_validator, model_validator

from prefrec_ray.memory import check_need
from prefrec_ray.preferences.teachers import SCORINGS, ScriptedTeacher
from prefrec_ray.settings import PAIRINGS, TASKS, Count, Pairing, Settings, Task

#: The name of a teacher, scripted or not, is also the name of a folder and an argument of commands.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


#: Bytes of a pair while all are drawn, scored and labelled: two users, two starts, scores and labels, copied twice.
_OF_PAIR = 256


def _fit_into_memory(pairs: int) -> int:
    check_need(_OF_PAIR * pairs, f"{pairs:,} pairs")
    return pairs


#: Number of pairs that are drawn at a time.
Pairs = Annotated[Count, AfterValidator(_fit_into_memory)]


class TeacherSettings(Settings):
    """A scripted teacher: the segments that it compares (`pairing`), their scores (`scoring`), and its errors.

    `flip`, `threshold` and `myopia`: see `teachers.ScriptedTeacher`.
    """

    pairing: Pairing
    scoring: Literal["sum", "mean"]
    flip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    threshold: NonNegativeFloat = 0.0
    myopia: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Default: <pairing>_<scoring>, with a suffix for every kind of error.
    name: str = Field(default_factory=lambda fields: _name(**fields), pattern=NAME)

    @property
    def errs(self) -> bool:
        """Return True if some labels may differ from the order of the scores."""
        return bool(self.flip or self.threshold or self.myopia)

    def scripted(self, *seed: int) -> ScriptedTeacher:
        """Return the teacher; `seed` determines its flips."""
        return ScriptedTeacher(self.scoring, self.myopia, self.threshold, self.flip, seed)


def _name(pairing: str, scoring: str, **errors: float) -> str:
    return "_".join([f"{pairing}_{scoring}", *(f"{kind}{size:g}" for kind, size in errors.items() if size)])


#: The scripted teachers that do not err, by name: <pairing>_<scoring>.
EXACT = {
    f"{pairing}_{scoring}": TeacherSettings.model_validate({"pairing": pairing, "scoring": scoring})
    for pairing in PAIRINGS
    for scoring in SCORINGS
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

    @field_validator("tasks")
    @classmethod
    def _once(cls, value: tuple[Task, ...]) -> tuple[Task, ...]:
        if len(set(value)) < len(value):
            raise ValueError("expected each task once")
        return value

    @model_validator(mode="after")
    def _two_segments_fit(self) -> PreferenceSettings:
        if self.min_requests < 2 * self.length:
            raise ValueError(
                f"min_requests {self.min_requests} is too small for two segments of length {self.length} of one user; "
                f"expected min_requests of at least {2 * self.length}, or a smaller length"
            )
        return self

    @model_validator(mode="after")
    def _names_tell_teachers_apart(self) -> PreferenceSettings:
        names: set[str] = set()
        for teacher in self.teachers:
            if teacher.name in EXACT and teacher != EXACT[teacher.name]:
                raise ValueError(f"'{teacher.name}' is the name of a teacher that does not err; expected another one")
            if teacher.name in names:
                raise ValueError(f"two teachers are called '{teacher.name}'; give one of them another name")
            names.add(teacher.name)
        return self
