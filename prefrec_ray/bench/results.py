"""Results of one submission: SUBMISSION.json, and the only functions that read and write it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, RANDOM_ITEMS
from prefrec_ray.settings import Settings, parse

#: Subjects of a world in addition to the logging policy and random items.
SUBMITTED, POPULAR, BEST_KNOWN = "submission", "popular items", "best known"


class Levels(Settings):
    """True levels of one world by subject, and the 95 % interval of the submission's gain over the logging policy.

    `seed` is the number of the seed, from 0. `seconds`: time of the submission, without the simulation and roll-outs.
    """

    world: str
    seed: int = Field(ge=0)
    seconds: float = Field(ge=0)
    levels: dict[str, float]
    gain_ci: tuple[float, float]

    @model_validator(mode="after")
    def _can_be_scored(self) -> Levels:
        missing = {SUBMITTED, LOGGING_POLICY, RANDOM_ITEMS, POPULAR, BEST_KNOWN} - self.levels.keys()
        if missing:
            raise ValueError(f"levels: found no level of {min(missing)}; expected one")
        if self.levels[BEST_KNOWN] <= self.levels[LOGGING_POLICY]:
            raise ValueError("levels: found no gain of the best known policy; expected one over the logging policy")
        return self

    def score(self, subject: str = SUBMITTED) -> float:
        """Return (level - logging policy) / (best known - logging policy)."""
        logged = self.levels[LOGGING_POLICY]
        return (self.levels[subject] - logged) / (self.levels[BEST_KNOWN] - logged)

    def regret(self, subject: str = SUBMITTED) -> float:
        """Return best known - level."""
        return self.levels[BEST_KNOWN] - self.levels[subject]


class Estimate(Settings):
    """True and estimated gain of one subject over the logging policy, with its 95 % interval; None if not estimated."""

    subject: str
    true_gain: float
    gain: float | None = None
    interval: tuple[float, float] | None = None


class Estimates(Settings):
    """Estimates of one world, by an estimator. `seed`, `seconds`: as in `Levels`."""

    world: str
    seed: int = Field(ge=0)
    seconds: float = Field(ge=0)
    estimates: tuple[Estimate, ...]


class Submission(Settings):
    """Content of SUBMISSION.json: what was run, and one result per world and seed.

    `seeds`: `public`, or the SHA-256 of an organiser's file of seeds. `version`: of prefrec_ray.
    """

    schema_version: Literal[1] = 1
    name: str
    kind: Literal["policy", "estimator"]
    seeds: str
    version: str
    results: tuple[Levels, ...] | tuple[Estimates, ...] = ()

    def has(self, world: str, seed: int) -> bool:
        """Return True if the world was run with this seed."""
        return any((one.world, one.seed) == (world, seed) for one in self.results)

    def write(self, file: str) -> None:
        """Write the file, all or nothing."""
        storage.write_json(file, self.model_dump(mode="json"))


def read_submission(file: str) -> Submission:
    """Return the content of a file. Raises `UserError` for another form."""
    return parse(Submission, storage.read_json(file), file)


def resumed(fresh: Submission, file: str) -> Submission:
    """Return the content of `file`, or `fresh` without it. Raises `UserError` if the file has another submission."""
    if not storage.exists(file):
        return fresh
    known = read_submission(file)
    for key in ("name", "kind", "seeds", "version"):
        found, expected = getattr(known, key), getattr(fresh, key)
        if found != expected:
            raise UserError(f"{file}: key '{key}': found {found}; expected {expected}, or another output folder")
    return known
