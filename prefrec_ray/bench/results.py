"""Results of submissions: SUBMISSION.json, and results.md with their tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, RANDOM_ITEMS
from prefrec_ray.evaluation.results.scores import mean_error
from prefrec_ray.settings import Settings, parse

#: Subjects of a world in addition to the logging policy and random items.
SUBMITTED, POPULAR, BEST_KNOWN = "submission", "popular items", "best known"
POLICIES = ("submission", "score", "regret, levels", "below the logging policy", "seconds")
ESTIMATORS = (
    "estimator",
    "intervals that contain the true gain",
    "mean width, levels",
    "mean absolute error, levels",
    "losses shown as gains",
    "no estimate",
    "seconds",
)


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
        return self.levels[BEST_KNOWN] - self.levels[subject]


class Estimate(Settings):
    """True and estimated gain of one subject over the logged items, with its 95 % interval; None if not estimated.

    The true gain is over the logged items shown again: an estimate does not know another draw of the logging policy.
    """

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


def write_tables(folder: str) -> str:
    """Write FOLDER/results.md, and return its name.

    Raises `UserError`: a folder without results, a file of another form, submissions of other seeds or versions, or
    without a common world.
    """
    submissions = [read_submission(file) for file in storage.list_files(folder, ".json")]
    if not any(one.results for one in submissions):
        raise UserError(f"{folder}: found no results; expected files by `prefrec bench run`")
    for key in ("seeds", "version"):
        found = sorted({getattr(one, key) for one in submissions})
        if len(found) > 1:
            raise UserError(f"{folder}: key '{key}': found {' and '.join(found)}; expected one value in all files")
    tables = []
    for kind, table in (("policy", policy_table), ("estimator", estimator_table)):
        own = [one for one in submissions if one.kind == kind and one.results]
        if own:
            tables.append(table(_on_common_worlds(own, folder)))
    file = storage.join(folder, "results.md")
    storage.write_text(file, "\n\n".join(tables) + "\n")
    return file


def _on_common_worlds(submissions: Sequence[Submission], folder: str) -> list[Submission]:
    """Return the submissions with the results of the worlds and seeds that all of them have."""
    common = set.intersection(*({(one.world, one.seed) for one in each.results} for each in submissions))
    if not common:
        raise UserError(f"{folder}: found submissions without a common world; expected one")
    return [
        each.model_copy(update={"results": tuple(one for one in each.results if (one.world, one.seed) in common)})
        for each in submissions
    ]


def policy_table(submissions: Sequence[Submission]) -> str:
    """Return scores with 95 % intervals over worlds and seeds, highest mean first, then scores by world.

    Random items and popular items are always rows.
    """
    controls = {f"{name} (control)": (submissions[0].results, name) for name in (RANDOM_ITEMS, POPULAR)}
    lines: dict[str, Any] = {**controls, **{one.name: (one.results, SUBMITTED) for one in submissions}}
    worlds = list(dict.fromkeys(one.world for one in submissions[0].results))
    ordered = sorted(lines.items(), key=lambda line: -np.mean(_scores(*line[1])))
    rows = []
    for name, (results, subject) in ordered:
        below = sum(one.levels[subject] < one.levels[LOGGING_POLICY] for one in results)
        rows.append(
            [
                name,
                interval(_scores(results, subject)),
                interval([one.regret(subject) for one in results]),
                f"{below} of {len(results)}",
                _seconds(results) if subject == SUBMITTED else "",
                *(interval(_scores([one for one in results if one.world == world], subject)) for world in worlds),
            ]
        )
    return markdown([*POLICIES, *worlds], rows)


def estimator_table(submissions: Sequence[Any]) -> str:
    """Return one row per estimator, smallest mean absolute error first."""
    rows: list[list[str]] = []
    for submission in submissions:
        every: list[Estimate] = [estimate for one in submission.results for estimate in one.estimates]
        known = [(one.true_gain, one.gain, *one.interval) for one in every if one.interval is not None]
        true, gain, low, high = np.array(known, dtype=float).reshape(-1, 4).T
        error = np.abs(gain - true).mean() if known else np.nan
        inside, losses = ((low <= true) & (true <= high)).sum(), ((low > 0) & (true < 0)).sum()
        rows.append(
            [
                submission.name,
                f"{inside} of {len(known)}",
                f"{(high - low).mean() if known else np.nan:.2f}",
                f"{error:.2f}",
                f"{losses} of {(true < 0).sum()}",
                f"{len(every) - len(known)} of {len(every)}",
                _seconds(submission.results),
            ]
        )
    rows.sort(key=lambda row: float(row[3]))
    return markdown(ESTIMATORS, rows)


def _scores(results: Sequence[Levels], subject: str) -> list[float]:
    return [one.score(subject) for one in results]


def _seconds(results: Sequence[Any]) -> str:
    return f"{np.mean([one.seconds for one in results]):.0f}"


def interval(values: Sequence[float], form: str = ".2f") -> str:
    """Return the mean with its 95 % interval by Student's t. Without an interval: a single value, or an empty text."""
    if len(values) < 2:
        return "".join(f"{value:{form}}" for value in values)
    mean, half = np.mean(values), mean_error(np.asarray(values))
    return f"{mean:{form}} [{mean - half:{form}}, {mean + half:{form}}]"


def markdown(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    heads = list(heads)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (heads, ["---"] * len(heads), *rows))
