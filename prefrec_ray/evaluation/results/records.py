"""evaluation.json: the records of an evaluation, and the only functions that read and write them."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import BLIND, ROLES, Role, is_control, subject_of, subject_title
from prefrec_ray.guard_rails import GuardRail, GuardRailText, Status
from prefrec_ray.settings import Settings, Split, Task, parse

SCHEMA_VERSION: Literal[1] = 1
#: Effective sessions required for an estimate by importance weights. With this number, intervals contained the true
#: gains (docs/results/estimators.md).
ENOUGH = 100
#: Smallest gain that matters, in levels, unless `evaluate.difference` is set.
DIFFERENCE = 0.1

Level = Annotated[float, Field(ge=0, le=MAX_LEVEL)]


class Record(Settings, allow_inf_nan=False):
    """Score of one subject on one task by one estimator. The fields have the names of the file.

    `value` is a mean level, `behaviour` the level of the logged items by the same estimator (`online`: of the logging
    policy in a new roll-out). ci_low to ci_high is the interval of the value, clipped to 0 to 5. gain_ci_low to
    gain_ci_high is the interval of value - behavior, from the same bootstrap samples, clipped to -5 to 5.
    `reaches_end`: the interval of the value reached 0 or 5 before the errors of models were added and before it was
    clipped. `gains_by_model`: the gain in each model of users (`model`). `ess`, the effective sample size, is a share
    of the sessions (`ncis`, `weights`) or of the impressions (`dr`), else null. Policies other than the `best` by value
    have the paired interval of best - value. `gain_over_current`, with its paired interval, is the value minus the
    value of the current policy, if there is one. `online` contains true means in addition to the level. `bundle` and
    `provenance` identify the policy, also for its controls.
    """

    method: str
    task: Task
    estimator: str
    subject: str
    role: Role
    value: Level
    ci_low: float
    ci_high: float
    reaches_end: bool = False
    ess: float | None = None
    behaviour: Level
    gain_ci_low: float
    gain_ci_high: float
    gains_by_model: tuple[float, ...] = ()
    users: int
    users_left_out: int = 0
    sessions: int
    best: str | None = None
    behind_ci_low: float | None = None
    behind_ci_high: float | None = None
    gain_over_current: float | None = None
    gain_over_current_ci: tuple[float, float] | None = None
    mean_depth: float | None = None
    mean_depth_ci: tuple[float, float] | None = None
    mean_revisit_hours: float | None = None
    mean_revisit_hours_ci: tuple[float, float] | None = None
    mean_satisfaction: float | None = None
    settings: dict[str, Any]
    bundle: str | None = None
    provenance: dict[str, Any] | None = None

    def number(self, setting: str, default: float = 0.0) -> float:
        """Return a number of `settings`; `default` if it is missing, or something else in the file."""
        found = self.settings.get(setting)
        return float(found) if isinstance(found, int | float) and abs(found) < 1e9 else default

    @property
    def title(self) -> str:
        return subject_title(self.subject)

    @property
    def kind(self) -> str:
        return ROLES[self.role]

    @property
    def policy(self) -> str:
        """Return the name of the subject's policy; for a control, of the policy from which it was made."""
        return subject_of(self.subject)

    @property
    def gain(self) -> float:
        """Return value - behavior."""
        return self.value - self.behaviour

    @property
    def gain_interval(self) -> tuple[float, float]:
        """Return the paired interval of the gain."""
        return self.gain_ci_low, self.gain_ci_high


def placebo_bias(records: Sequence[Record]) -> dict[str, float]:
    """Return gain / half-width of each blind negative control among the records of one task and estimator.

    The half-width belongs to the control's interval. Beyond -1 to 1, differences of this size between policies are
    not evidence. Values inside prove nothing: an estimator that always returns the log's value is near 0 for all
    policies.
    """
    return {
        record.subject: record.gain / (0.5 * (record.ci_high - record.ci_low))
        for record in records
        if record.subject in BLIND and record.ci_high > record.ci_low
    }


class ItemShare(Settings):
    """An item and its share of the impressions."""

    item_id: int | str
    share: float


class ServedItems(Settings):
    """Items that a subject serves.

    `counted`: in roll-outs in the model of users, or at single impressions of the log without regard to the items that
    the user has seen. `top_items`: the (at most 20) most served. `item_distance`: mean Euclidean distance of an action
    to the nearest item; `action_saturation`: share of action coordinates at a bound; both null for logged items.
    `ceiling`: largest share that one item can have; below 1 if items that a user has seen are excluded.
    """

    counted: Literal["log", "roll-out"] = "log"
    requests: int
    distinct_items: int
    top_items: tuple[ItemShare, ...]
    item_distance: float | None = None
    action_saturation: float | None = None
    ceiling: float = Field(default=1.0, gt=0, le=1)

    def share_of(self, items: int) -> float:
        """Return the share of the impressions of the `items` (at most 20) most frequent items."""
        return sum(item.share for item in self.top_items[:items])

    def concentration(self, items: int) -> float:
        """Return `share_of(items)` as a share of the largest possible one; 1 if all users get the same items."""
        return self.share_of(items) / min(1.0, items * self.ceiling)


class Support(Settings):
    """Support of a policy by the log.

    `states`: share of the policy's impressions in the model of users with a history within the range of the log. `ess`
    and `ess_users`: effective shares of the logged sessions and users under weights pi(i | s) / b(i | s)
    (`importance_weights.Weighed`); null if the policy is not a distribution over all items. `pages`: effective number
    of logged pages under the weights of `sips`, `rips` and `iips`; empty if the log has one item per page.
    `composition`: share of the policy's pages with at most as many items of one kind as 99 % of logged pages; null if
    the log has one item per page.
    """

    states: float
    ess: float | None = None
    ess_users: float | None = None
    pages: dict[str, float] = Field(default_factory=dict)
    composition: float | None = None

    @property
    def text(self) -> str:
        """Return `states` as a text, rounded down: only full support is 100 %."""
        return f"{math.floor(100 * self.states + 1e-9)}%"


class GuardRailRecord(Settings, allow_inf_nan=False):
    """Result of one guard-rail for a policy.

    `value` is the measure and `allowed` its outermost allowed value, in the units of the measure. `low` to `high` is
    the interval of value - allowed. All four are null if fewer than two users have the measure. `status`: `kept` if the
    whole interval keeps the limit, `broken` if all of it breaks the limit, else `open`.
    """

    rail: GuardRailText
    value: float | None = None
    allowed: float | None = None
    low: float | None = None
    high: float | None = None
    status: Status

    @property
    def found(self) -> str:
        """Return the measure with its interval in percent: a share, or the change from the reference."""
        if self.value is None or self.allowed is None or self.low is None or self.high is None:
            return "not measured"
        rail = GuardRail.from_text(self.rail)
        numbers = (self.value, self.allowed + self.low, self.allowed + self.high)
        reference = self.allowed / rail.factor(self.allowed) if rail.relative else 1.0
        if reference == 0:
            return "nothing to compare with: the reference has 0"
        value, low, high = (100 * (number - reference * rail.relative) / abs(reference) for number in numbers)
        sign = "+" if rail.relative else ""
        return f"{value:{sign}z.1f} % [{low:{sign}z.1f}, {high:{sign}z.1f}]"

    @property
    def text(self) -> str:
        return f"{self.rail}: {self.found}"


class Light(Settings):
    """One of the inputs of a verdict; grey if it is missing.

    `number` is its value as a text, in the user's units. Only older files have the light "support".
    """

    name: Literal["value", "support", "catalogue", "controls", "convergence"]
    colour: Literal["green", "amber", "red", "grey"]
    number: str


class PolicyVerdict(Settings):
    """Verdict on a policy by the rule of docs/evaluation.md, with its reasons as sentences."""

    verdict: Literal["candidate", "no_difference", "inconclusive", "do_not_ship"]
    reasons: tuple[str, ...]
    lights: tuple[Light, ...]


class SpecificationRecord(Settings):
    """Specification test of one model of users (users/checks.py).

    `model`: its class. `r2`: R2 of its error on generic features; `largest_control`: the largest R2 of a simulation.
    `feature`: for a rejected model, the feature on which the error depends most.
    """

    model: str
    r2: float
    largest_control: float
    feature: str | None = None

    @property
    def rejected(self) -> bool:
        """Return True if the error depends on the features more than in any simulation."""
        return self.r2 > self.largest_control


class Evaluation(Settings):
    """The content of evaluation.json.

    `served` is by subject, `support`, `guard_rails` and `verdicts` are by policy, `specification` is by model of users.
    `difference` is the smallest gain that matters (`evaluate.difference`). `inputs` identify the evaluation: policies,
    data set and settings.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    dataset: str | None = None
    split: Split | None = None
    difference: float = DIFFERENCE
    inputs: dict[str, Any] = Field(default_factory=dict)
    records: tuple[Record, ...]
    served: dict[str, ServedItems] = Field(default_factory=dict)
    support: dict[str, Support] = Field(default_factory=dict)
    specification: tuple[SpecificationRecord, ...] = ()
    guard_rails: dict[str, tuple[GuardRailRecord, ...]] = Field(default_factory=dict)
    verdicts: dict[str, PolicyVerdict] = Field(default_factory=dict)

    def select(self, task: str, estimator: str) -> list[Record]:
        """Return the records of one task and estimator, in their order."""
        return [record for record in self.records if (record.task, record.estimator) == (task, estimator)]

    @property
    def tasks(self) -> list[Task]:
        """Return the tasks with records, in order of appearance."""
        return list(dict.fromkeys(record.task for record in self.records))

    def policies_in(self, folder: str) -> set[str]:
        """Return the names of the policies in `folder` or below it; of its own policy if it is a bundle."""
        places = {record.subject: storage.absolute(record.bundle) for record in self.records if record.bundle}
        root = storage.absolute(folder).rstrip("/") + "/"
        return {name for name, place in places.items() if f"{place}/".startswith(root) and not is_control(name)}


def evaluation_files(policy: str) -> list[str]:
    """Return the evaluation.json files in the folders of a policy and of its run, and in the folder above the run."""
    bundle = storage.absolute(policy).rstrip("/")
    run = posixpath.dirname(bundle)
    files = [storage.join(folder, "evaluation.json") for folder in (bundle, run, posixpath.dirname(run))]
    return [file for file in files if storage.exists(file)]


def read_evaluation(path: str) -> Evaluation:
    """Read a file of `write_evaluation`.

    Raises `UserError` for a missing or unknown key, or a value of another type.
    """
    try:
        return parse(Evaluation, storage.read_json(path), path)
    except UserError as error:
        raise UserError(f"{error}; expected a file written by `prefrec evaluate`") from error


def write_evaluation(path: str, evaluation: Evaluation) -> None:
    """Write the file. Fields that were not set are omitted."""
    content = evaluation.model_dump(exclude_unset=True)
    storage.write_json(path, {"schema_version": SCHEMA_VERSION, **content})
