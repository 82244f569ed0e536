"""Comparison of experiment arms by the behavior of their users.

A user counts once, with the outcome of the user's first `days` days in the arm. It is final when late feedback is
refused, so that a later look adds users and changes no earlier one (participants.py, outcomes.py). Intervals are valid
after every number of users, and at all looks at once (sequences.py). The row `hours to return` also counts
users whose days have not passed, with an asymptotic interval (returns.py). Its guard-rail is decided by final outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import GuardRail, Status
from prefrec_ray.logs.events.format import About, read_about
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.serving.experiment.estimates import ArmEstimate, Sample
from prefrec_ray.serving.experiment.history import HOUR_MS, Events, read_events
from prefrec_ray.serving.experiment.item_shares import ItemShares
from prefrec_ray.serving.experiment.outcomes import Behavior, UserOutcome, behavior
from prefrec_ray.serving.experiment.participants import Participants, participants
from prefrec_ray.serving.experiment.returns import restricted_mean
from prefrec_ray.serving.settings import MAIN
from prefrec_ray.settings import Task

DAY_MS = 24 * HOUR_MS
ALPHA = 0.05
RETURN = "hours to return"
#: Outcomes of measures of users.
_OUTCOME_OF = {"depth": "depth", "sessions": "sessions a day"}


@dataclass(frozen=True)
class Outcome:
    """One row of the table: an outcome of both arms, and the canary minus the main arm."""

    name: str  # "frequency level", "feedback.like", "share[category: news]" and others
    main: ArmEstimate
    canary: ArmEstimate
    difference: ArmEstimate


@dataclass(frozen=True)
class GuardRailResult:
    """A guard-rail, and the interval of the canary's measure minus the allowed value."""

    rail: GuardRail
    low: float
    high: float
    status: Status


@dataclass(frozen=True)
class CanaryComparison:
    """A canary against the main arm.

    The intervals of `objective` (the difference of the task's level) and of all `rails` hold together, with probability
    1 - alpha. Each interval of `outcomes` holds with this probability.
    """

    users: Mapping[str, int]  # per arm, if their outcomes are final
    waiting: int  # users of both arms whose outcomes are not final yet
    elapsed_days: float  # from the first user to the last row
    policies: Mapping[str, list[str]]  # arm -> digests of its policies
    objective: ArmEstimate
    rails: list[GuardRailResult]
    outcomes: list[Outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON: numbers that are not finite are None, guard-rails are text."""
        rails = [asdict(one) | {"rail": str(one.rail)} for one in self.rails]
        return _finite(asdict(self) | {"rails": rails})


@dataclass(frozen=True)
class Comparison:
    """All canaries against the main arm."""

    days: float
    waiting: int  # users of all arms whose outcomes are not final yet
    moved: int  # users who are excluded, as their arm changed during their days
    canaries: Mapping[str, CanaryComparison]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON: `means` by outcome and arm, `differences` by outcome and canary."""
        each = list(self.canaries.values())
        means: dict[str, dict[str, Any]] = {}
        differences: dict[str, dict[str, Any]] = {}
        for name, one in self.canaries.items():
            for outcome in one.outcomes:
                of_arms = means.setdefault(outcome.name, {MAIN: asdict(outcome.main)})
                of_arms[name] = asdict(outcome.canary)
                differences.setdefault(outcome.name, {})[name] = asdict(outcome.difference)
        return _finite(
            {
                "days": self.days,
                "users": {arm: users for one in each for arm, users in one.users.items()},
                "waiting": self.waiting,
                "moved": self.moved,
                "policies": {arm: digests for one in each for arm, digests in one.policies.items()},
                "means": means,
                "differences": differences,
            }
        )


def compare_canary(
    folders: Sequence[str],
    canary: str,
    task: Task,
    rails: Sequence[GuardRail],
    days: float,
    alpha: float = ALPHA,
    items: ItemTable | None = None,
) -> CanaryComparison | None:
    """Compare the arm `canary` in the event logs `folders`, one per server, with the main arm.

    Returns None if the servers do not serve this arm now. `items` have the kinds of guard-rails. A few columns of all
    events are in memory, about 60 bytes per event. Without users, every guard-rail is open. Raises `UserError` for a
    folder that is not an event log, and for a guard-rail on feedback or items that are unknown.
    """
    events, about = _opened(folders, rails)
    if canary not in list(events.shares)[1:]:
        return None
    experiment = _Experiment.from_events(events, about, round(days * DAY_MS), rails, items)
    return experiment.of_canary(list(events.shares).index(canary), task, rails, alpha)


def compare(
    folders: Sequence[str],
    days: float = 7.0,
    task: Task = "frequency",
    rails: Sequence[GuardRail] = (),
    alpha: float = ALPHA,
    items: ItemTable | None = None,
) -> Comparison:
    """Compare all canaries with the main arm, each as `compare_canary` does. Raises `UserError` without a canary."""
    events, about = _opened(folders, rails)
    arms = list(events.shares)
    if len(arms) < 2:
        raise UserError(f"{folders[0]}: found one arm; expected canaries (serve.canaries) to compare {MAIN} with")
    experiment = _Experiment.from_events(events, about, round(days * DAY_MS), rails, items)
    who = experiment.who
    canaries = {arm: experiment.of_canary(number, task, rails, alpha) for number, arm in enumerate(arms) if number}
    return Comparison(days, len(who.arm) - experiment.final, who.moved, canaries)


def _opened(folders: Sequence[str], rails: Sequence[GuardRail]) -> tuple[Events, About]:
    about = read_about(folders[0])
    for folder in folders[1:]:
        about.check_same(read_about(folder), f"{folder}: found another kind of log than {folders[0]}")
    for rail in rails:
        if rail.measure == "feedback" and rail.name not in about.feedback:
            raise UserError(f"guard-rail {rail}: found {rail.name}; expected one of {', '.join(about.feedback)}")
    return read_events(folders, about), about


@dataclass(frozen=True)
class _Experiment:
    """Participants and their outcomes. Those of the first `final` participants are final."""

    arms: list[str]
    who: Participants
    final: int
    elapsed_days: float
    days_ms: int
    seen: Behavior
    shares: Mapping[str, ItemShares]  # by kind
    codes: Mapping[GuardRail, int]  # of the values of shares
    policies: Mapping[str, list[str]]

    @classmethod
    def from_events(
        cls, events: Events, about: About, days_ms: int, rails: Sequence[GuardRail], items: ItemTable | None
    ) -> _Experiment:
        who = participants(events, days_ms)
        seen = behavior(events, who, about, days_ms)
        shares: dict[str, ItemShares] = {}
        codes: dict[GuardRail, int] = {}
        for rail in rails:
            if not rail.relative:
                if items is None:
                    raise UserError(f"guard-rail {rail}: found no items; expected a table with kinds of items")
                kind = items.kind(rail.name)
                if rail.measure == "share":
                    codes[rail] = kind.find(rail.value)
                if rail.name not in shares:
                    shares[rail.name] = ItemShares.from_impressions(events, seen, items, kind.codes)
        final = int((who.begin + days_ms + events.feedback_ms < events.until).sum())
        elapsed = (events.until - int(who.begin[0])) / DAY_MS if len(who.begin) else 0.0
        return cls(list(events.shares), who, final, elapsed, days_ms, seen, shares, codes, _policies(events))

    def of_canary(self, canary: int, task: Task, rails: Sequence[GuardRail], alpha: float) -> CanaryComparison:
        name, arm = self.arms[canary], self.who.arm
        each = alpha / (1 + len(rails))
        outcomes = [self._row(one, self._sample(values, canary), alpha) for one, values in self.seen.outcomes.items()]
        outcomes.append(self._returns(canary, alpha))
        for rail in rails:
            if rail.measure == "share":
                outcome = self.shares[rail.name].of_value(self.codes[rail])
                outcomes.append(self._row(_subject(rail), self._sample(outcome, canary), alpha))
            elif rail.measure == "exposure":
                outcomes.append(self._exposure(rail, canary, alpha))
        return CanaryComparison(
            users={self.arms[one]: int((arm[: self.final] == one).sum()) for one in (0, canary)},
            waiting=int(np.isin(arm[self.final :], (0, canary)).sum()),
            elapsed_days=self.elapsed_days,
            policies={one: self.policies.get(one, []) for one in (MAIN, name)},
            objective=self._sample(self.seen.outcomes[f"{task} level"], canary).difference(each),
            rails=[self._result(rail, canary, each) for rail in rails],
            outcomes=outcomes,
        )

    def _sample(self, outcome: UserOutcome, canary: int) -> Sample:
        return Sample.of_canary(self.who, outcome, canary, self.final)

    def _row(self, name: str, sample: Sample, alpha: float) -> Outcome:
        return Outcome(name, sample.mean(False, alpha), sample.mean(True, alpha), sample.difference(alpha))

    def _returns(self, canary: int, alpha: float) -> Outcome:
        """Return the row of the time to the first return, up to the length of the days, of all users so far."""
        first, horizon = self.seen.first_return, self.days_ms / HOUR_MS
        main, other = (
            restricted_mean(first.hours[mine], first.returned[mine], horizon)
            for mine in ((self.who.arm == one) & (first.hours > 0) for one in (0, canary))
        )
        difference = other.minus(main)
        return Outcome(
            RETURN,
            ArmEstimate(main.value, *main.interval(0.0, horizon, alpha), main.users),
            ArmEstimate(other.value, *other.interval(0.0, horizon, alpha), other.users),
            ArmEstimate(difference.value, *difference.interval(-horizon, horizon, alpha), main.users + other.users),
        )

    def _exposure(self, rail: GuardRail, canary: int, alpha: float) -> Outcome:
        """Return the row of the largest share. The difference is between the ends of both intervals."""
        main, other = (self._largest(rail, arm, alpha / 2) for arm in (0, canary))
        low, high = other.low - main.high, other.high - main.low
        difference = ArmEstimate(other.value - main.value, low, high, main.users + other.users)
        return Outcome(_subject(rail), self._largest(rail, 0, alpha), self._largest(rail, canary, alpha), difference)

    def _largest(self, rail: GuardRail, arm: int, alpha: float) -> ArmEstimate:
        final = np.arange(len(self.who.arm)) < self.final
        value, (low, high), users = self.shares[rail.name].largest(final & (self.who.arm == arm), alpha)
        return ArmEstimate(value, low, high, users)

    def _result(self, rail: GuardRail, canary: int, alpha: float) -> GuardRailResult:
        if rail.measure == "exposure":
            measured = self._largest(rail, canary, alpha)
            low, high = measured.low - rail.limit, measured.high - rail.limit
        elif rail.measure == "share":
            measured = self._sample(self.shares[rail.name].of_value(self.codes[rail]), canary).mean(True, alpha)
            low, high = measured.low - rail.limit, measured.high - rail.limit
        else:
            low, high = self._sample(self._of_users(rail), canary).against(rail.allowed(1.0), alpha)
        return GuardRailResult(rail, low, high, rail.status(low, high))

    def _of_users(self, rail: GuardRail) -> UserOutcome:
        """Return the outcome of a guard-rail that is relative to the main arm."""
        if rail.measure == "feedback":
            return self.seen.outcomes[f"feedback.{rail.name}"]
        if rail.measure == "hours_to_return":
            first = self.seen.first_return
            return UserOutcome(first.hours, (0.0, self.days_ms / HOUR_MS), first.before)
        return self.seen.outcomes[_OUTCOME_OF[rail.measure]]


def _subject(rail: GuardRail) -> str:
    """Return the measure of a guard-rail without its limit."""
    return str(rail).rsplit(" ", 3)[0]


def _policies(events: Events) -> dict[str, list[str]]:
    """Return the digests of each arm's policies under the current assignment."""
    shown = events.recommendations
    pairs = sorted(set(zip(shown.arm.tolist(), shown.policy.tolist(), strict=True)))
    return {arm: [policy for one, policy in pairs if one == arm and policy] for arm in dict(pairs)}


def _finite(value: Any) -> Any:
    """Return `value` with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
