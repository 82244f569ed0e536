"""Comparison of experiment arms by the behavior of their users.

A user counts once, with the outcome of the user's first `days` days in the arm. It is final when late feedback is
refused, so that a later look adds users and changes no earlier one (participants.py, outcomes.py). Intervals are valid
after every number of users, and at all looks at once (sequences.py). The row `hours to return` also counts
users whose days have not passed, with an asymptotic interval (returns.py). Its guard-rail is decided by final outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import GuardRail, Status, check_rails
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
                "guard_rails": {name: one.to_dict()["rails"] for name, one in self.canaries.items()},
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

    Returns None if the servers do not serve this arm now. `items` have the kinds of guard-rails: the table of the
    canary's policy, as in its evaluation. A few columns of all events are in memory, about 60 bytes per event. Without
    users, every guard-rail is open. Raises `UserError` for a folder that is not an event log, and for a guard-rail on
    feedback or items that are unknown.
    """
    events, about = _opened(folders)
    if canary not in list(events.shares)[1:]:
        return None
    experiment = _Experiment.from_events(events, about, round(days * DAY_MS))
    return experiment.of_canary(list(events.shares).index(canary), task, rails, alpha, items)


def compare(
    folders: Sequence[str],
    days: float = 7.0,
    task: Task = "frequency",
    rails: Sequence[GuardRail] = (),
    alpha: float = ALPHA,
    items_of: Callable[[str], ItemTable | None] = lambda arm: None,
) -> Comparison:
    """Compare all canaries with the main arm, each as `compare_canary` does.

    `items_of` returns the items of a canary's policy. Raises `UserError` without a canary.
    """
    events, about = _opened(folders)
    arms = list(events.shares)
    if len(arms) < 2:
        raise UserError(f"{folders[0]}: found one arm; expected canaries (serve.canaries) to compare {MAIN} with")
    experiment = _Experiment.from_events(events, about, round(days * DAY_MS))
    who = experiment.who
    canaries = {
        arm: experiment.of_canary(number, task, rails, alpha, items_of(arm))
        for number, arm in enumerate(arms)
        if number
    }
    return Comparison(days, len(who.arm) - experiment.final, who.moved, canaries)


def _opened(folders: Sequence[str]) -> tuple[Events, About]:
    about = read_about(folders[0])
    for folder in folders[1:]:
        about.check_same(read_about(folder), f"{folder}: found another kind of log than {folders[0]}")
    return read_events(folders, about), about


@dataclass(frozen=True)
class _Experiment:
    """Participants and their outcomes. Those of the first `final` participants are final."""

    events: Events
    about: About
    who: Participants
    final: int
    days_ms: int
    seen: Behavior

    @classmethod
    def from_events(cls, events: Events, about: About, days_ms: int) -> _Experiment:
        who = participants(events, days_ms)
        final = int((who.begin + days_ms + events.feedback_ms < events.until).sum())
        return cls(events, about, who, final, days_ms, behavior(events, who, about, days_ms))

    def of_canary(
        self, canary: int, task: Task, rails: Sequence[GuardRail], alpha: float, items: ItemTable | None
    ) -> CanaryComparison:
        check_rails(rails, self.about.feedback, items)
        arms, arm, begin = list(self.events.shares), self.who.arm, self.who.begin
        shares: dict[str, ItemShares] = {}
        if items is not None:
            kinds = {rail.name for rail in rails if not rail.relative}
            shares = {kind: ItemShares.from_impressions(self.events, self.seen, items, kind) for kind in kinds}
        policies = _policies(self.events)
        each = alpha / (1 + len(rails))
        outcomes = [self._row(one, self._sample(values, canary), alpha) for one, values in self.seen.outcomes.items()]
        outcomes.append(self._returns(canary, alpha))
        for rail in rails:
            if rail.measure == "share":
                sample = self._sample(shares[rail.name].of_value(rail.value), canary)
                outcomes.append(self._row(_subject(rail), sample, alpha))
            elif rail.measure == "exposure":
                outcomes.append(self._exposure(_subject(rail), shares[rail.name], canary, alpha))
        return CanaryComparison(
            users={arms[one]: int((arm[: self.final] == one).sum()) for one in (0, canary)},
            waiting=int(np.isin(arm[self.final :], (0, canary)).sum()),
            elapsed_days=(self.events.until - int(begin[0])) / DAY_MS if len(begin) else 0.0,
            policies={one: policies.get(one, []) for one in (MAIN, arms[canary])},
            objective=self._sample(self.seen.outcomes[f"{task} level"], canary).difference(each),
            rails=[
                self._of_users(rail, canary, each)
                if rail.relative
                else self._of_items(rail, shares[rail.name], canary, each)
                for rail in rails
            ],
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

    def _exposure(self, name: str, shares: ItemShares, canary: int, alpha: float) -> Outcome:
        """Return the row of the largest share. The difference is between the ends of both intervals."""
        main, other = (self._largest(shares, arm, alpha / 2) for arm in (0, canary))
        low, high = other.low - main.high, other.high - main.low
        difference = ArmEstimate(other.value - main.value, low, high, main.users + other.users)
        return Outcome(name, self._largest(shares, 0, alpha), self._largest(shares, canary, alpha), difference)

    def _largest(self, shares: ItemShares, arm: int, alpha: float) -> ArmEstimate:
        value, (low, high), users = shares.largest(self._final_users(arm), alpha)
        return ArmEstimate(value, low, high, users)

    def _final_users(self, arm: int) -> np.ndarray:
        """Return a mask of the participants of an arm whose outcomes are final, bool [P]."""
        return (np.arange(len(self.who.arm)) < self.final) & (self.who.arm == arm)

    def _of_items(self, rail: GuardRail, shares: ItemShares, canary: int, alpha: float) -> GuardRailResult:
        """Return the result of a guard-rail on a share of the canary's impressions."""
        if rail.measure == "exposure":
            measured = self._largest(shares, canary, alpha)
        else:
            measured = self._sample(shares.of_value(rail.value), canary).mean(True, alpha)
        low, high = measured.low - rail.limit, measured.high - rail.limit
        return GuardRailResult(rail, low, high, rail.status(low, high), shares.note(self._final_users(canary)))

    def _of_users(self, rail: GuardRail, canary: int, alpha: float) -> GuardRailResult:
        """Return the result of a guard-rail that is relative to the main arm."""
        if rail.measure == "feedback":
            outcome = self.seen.outcomes[f"feedback.{rail.name}"]
        elif rail.measure == "hours_to_return":
            first = self.seen.first_return
            outcome = UserOutcome(first.hours, (0.0, self.days_ms / HOUR_MS), first.before)
        else:
            outcome = self.seen.outcomes[_OUTCOME_OF[rail.measure]]
        low, high = self._sample(outcome, canary).against(rail.allowed(1.0), alpha)
        return GuardRailResult(rail, low, high, rail.status(low, high))


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
