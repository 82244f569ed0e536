"""Comparison of experiment arms by the behavior of their users.

A user counts once, with the outcome of the user's first `days` days in the arm. It is final when late feedback is
refused, so that a later look adds users and changes no earlier one. Intervals are valid after every number of users,
and at all looks at once (sequences.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from prefrec_ray.guard_rails import LOST, GuardRail, Status, check_rails
from prefrec_ray.logs.events.format import read_about
from prefrec_ray.mdp.excluded import DAY_MS
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.serving.experiment.estimates import ArmEstimate, Sample
from prefrec_ray.serving.experiment.history import participants, read_events
from prefrec_ray.serving.experiment.outcomes import CAME_BACK, RETURN, ItemShares, UserOutcome, behavior
from prefrec_ray.settings import Task

ALPHA = 0.05
#: Outcomes of guard-rails that are relative to the main arm.
_OUTCOME_OF = {"depth": "depth", "sessions": "sessions a day", "hours_to_return": RETURN, "came_back": CAME_BACK}


@dataclass(frozen=True)
class ComparedOutcome:
    """One row of the table: an outcome of both arms, and the canary minus the main arm."""

    name: str  # "frequency level", "feedback.like", "share[category: news]" and others
    main: ArmEstimate
    canary: ArmEstimate
    difference: ArmEstimate


@dataclass(frozen=True)
class GuardRailResult:
    """A guard-rail, and the interval of the canary's measure minus the allowed value.

    `note`: the number of the canary's impressions of items whose kind is unknown, empty if it is 0 or not needed.
    """

    rail: GuardRail
    low: float
    high: float
    status: Status
    note: str = ""


@dataclass(frozen=True)
class CanaryComparison:
    """A canary against the main arm.

    The intervals of `objective` (the difference of the task's level) and of all `rails` hold together, with probability
    1 - ALPHA. Each interval of `outcomes` holds with this probability.
    """

    users: Mapping[str, int]  # per arm, if their outcomes are final
    waiting: int  # users of both arms whose outcomes are not final yet
    elapsed_days: float  # from the begin of the arms to the last row of a user
    objective: ArmEstimate
    rails: list[GuardRailResult]
    outcomes: list[ComparedOutcome]
    ahead: int = 0  # rows of the log that do not count, as their clock is ahead


@dataclass(frozen=True)
class Comparison:
    """All canaries against the main arm, by the name of the canary."""

    days: float
    waiting: int  # users of all arms whose outcomes are not final yet
    moved: int  # users who are excluded, as their arm changed during their days
    ahead: int  # rows of the logs that do not count, as their clock is ahead
    others: int  # users of the logs without a recommendation under the current arms
    canaries: Mapping[str, CanaryComparison]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON: numbers that are not finite are None, guard-rails are text."""
        return {name: _plain(value) for name, value in vars(self).items()}


def compare_canary(
    folders: Sequence[str],
    canary: str,
    task: Task,
    rails: Sequence[GuardRail],
    days: float,
    items: ItemTable | None,
    lost: float = LOST,
    now: int | None = None,
) -> CanaryComparison | None:
    """Compare the arm `canary` with the main arm, as `compare` does; None if the servers do not serve it now."""
    experiment = _Experiment(folders, days, now)
    if canary not in experiment.arms[1:]:
        return None
    return experiment.of_canary(canary, task, rails, items, lost)


def compare(
    folders: Sequence[str],
    days: float = 7.0,
    task: Task = "frequency",
    rails: Sequence[GuardRail] = (),
    items_of: Callable[[str], ItemTable | None] = lambda arm: None,
    lost: float = LOST,
    now: int | None = None,
) -> Comparison:
    """Compare the canaries that serve now with the main arm, in the event logs `folders`, one per server.

    `items_of` returns the items with the kinds of guard-rails: the table of a canary's policy, as in its evaluation.
    `lost`: the share of returning users that a canary may lose. `now`: the time, ms (None: this machine's clock). A few
    columns of all events are in memory, about 60 bytes per event. Without users, every guard-rail is open. Raises
    `UserError` for a folder that is not an event log, and for a guard-rail on feedback or items that are unknown.
    """
    experiment = _Experiment(folders, days, now)
    canaries = {arm: experiment.of_canary(arm, task, rails, items_of(arm), lost) for arm in experiment.arms[1:]}
    who, events = experiment.who, experiment.events
    others = len(events.users) - len(who.arm) - who.moved
    return Comparison(days, len(who.arm) - experiment.final, who.moved, events.ahead, others, canaries)


def each_alpha(rails: int) -> float:
    """Return the error rate of each interval that decides (Bonferroni).

    They are of the objective, of the users who come back, and of `rails` guard-rails in the YAML.
    """
    return ALPHA / (2 + rails)


class _Experiment:
    """Participants and their outcomes. Those of the first `final` participants are final."""

    def __init__(self, folders: Sequence[str], days: float, now: int | None) -> None:
        self.about = read_about(folders[0])
        for folder in folders[1:]:
            self.about.check_same(read_about(folder), f"{folder}: found another kind of log than {folders[0]}")
        self.events = read_events(folders, self.about, now)
        self.arms = list(self.events.shares)
        # Rows of users are removed after `retention_days`, and rows of arms are not.
        self.began = min((one.stages[0].timestamp for one in self.events.assignments if one.stages), default=0)
        days_ms = round(days * DAY_MS)
        self.who = participants(self.events, days_ms)
        self.final = int((self.who.begin + days_ms + self.events.feedback_ms < self.events.until).sum())
        self.seen = behavior(self.events, self.who, self.about, days_ms)

    def of_canary(
        self, arm_name: str, task: Task, rails: Sequence[GuardRail], items: ItemTable | None, lost: float
    ) -> CanaryComparison:
        """Compare the canary `arm_name` with the main arm, by `rails` and the guard-rail that every canary has.

        It allows the canary to lose at most the share `lost` of the users who come back.
        """
        check_rails(rails, self.about.feedback, items)
        each = each_alpha(len(rails))
        rails = [GuardRail("came_back", "", "", at_least=True, limit=-lost), *rails]
        canary, arm = self.arms.index(arm_name), self.who.arm
        shares: dict[str, ItemShares] = {}
        if items is not None:
            kinds = {rail.name for rail in rails if not rail.relative}
            shares = {
                kind: ItemShares.from_impressions(self.events, len(arm), self.seen, items, kind) for kind in kinds
            }
        outcomes = [self._row(name, self._sample(values, canary)) for name, values in self.seen.outcomes.items()]
        for rail in rails:
            subject = str(rail).rsplit(" ", 3)[0]
            if rail.measure == "share":
                outcomes.append(self._row(subject, self._sample(shares[rail.name].of_value(rail.value), canary)))
            elif rail.measure == "exposure":
                outcomes.append(self._exposure(subject, shares[rail.name], canary))
        return CanaryComparison(
            users={self.arms[one]: int((arm[: self.final] == one).sum()) for one in (0, canary)},
            waiting=int(np.isin(arm[self.final :], (0, canary)).sum()),
            elapsed_days=max(0, self.events.until - self.began) / DAY_MS,
            objective=self._sample(self.seen.outcomes[f"{task} level"], canary).difference(each),
            rails=[self._rail(rail, None if rail.relative else shares[rail.name], canary, each) for rail in rails],
            outcomes=outcomes,
            ahead=self.events.ahead,
        )

    def _sample(self, outcome: UserOutcome, canary: int) -> Sample:
        return Sample.of_canary(self.who, outcome, canary, self.final)

    def _row(self, name: str, sample: Sample) -> ComparedOutcome:
        return ComparedOutcome(name, sample.mean(False, ALPHA), sample.mean(True, ALPHA), sample.difference(ALPHA))

    def _exposure(self, name: str, shares: ItemShares, canary: int) -> ComparedOutcome:
        """Return the row of the largest share. The difference is between the ends of both intervals."""
        main, other = (self._largest(shares, arm, ALPHA / 2) for arm in (0, canary))
        low, high = other.low - main.high, other.high - main.low
        difference = ArmEstimate(other.value - main.value, low, high, main.users + other.users)
        return ComparedOutcome(name, self._largest(shares, 0, ALPHA), self._largest(shares, canary, ALPHA), difference)

    def _largest(self, shares: ItemShares, arm: int, alpha: float) -> ArmEstimate:
        value, (low, high), users = shares.largest(self._final_users(arm), alpha)
        return ArmEstimate(value, low, high, users)

    def _final_users(self, arm: int) -> np.ndarray:
        """Return a mask of the participants of an arm whose outcomes are final, bool [P]."""
        return (np.arange(len(self.who.arm)) < self.final) & (self.who.arm == arm)

    def _rail(self, rail: GuardRail, shares: ItemShares | None, canary: int, alpha: float) -> GuardRailResult:
        """Return the result of a guard-rail: relative to the main arm, or on `shares` of the canary's impressions."""
        if shares is None:
            outcome = self.seen.outcomes[_OUTCOME_OF.get(rail.measure, f"feedback.{rail.name}")]
            sample = self._sample(outcome, canary)
            low, high = sample.against(rail.factor(sample.mean(False, alpha).value), alpha)
            return GuardRailResult(rail, low, high, rail.status(low, high))
        if rail.measure == "exposure":
            measured = self._largest(shares, canary, alpha)
        else:
            measured = self._sample(shares.of_value(rail.value), canary).mean(True, alpha)
        low, high = measured.low - rail.limit, measured.high - rail.limit
        return GuardRailResult(rail, low, high, rail.status(low, high), shares.note(self._final_users(canary)))


def _plain(value: Any) -> Any:
    """Return `value` for JSON: numbers that are not finite are None, guard-rails are text."""
    if isinstance(value, GuardRail):
        return str(value)
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
