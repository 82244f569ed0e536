"""Event logs of a platform with a canary: users with own habits, late feedback, and a share that may grow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.settings import Arm, ServeSettings
from prefrec_ray.serving.state.users import arm_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW = 1_700_000_000_000
FEEDBACK_HOURS = 6
ABOUT = About(
    log_id="0123abcd",
    item_ids="int64",
    feedback=("like",),
    feedback_kinds={"like": "binary"},
    user_features={},
    session_gap_ms=30 * 60_000,
)


@dataclass(frozen=True)
class Platform:
    """Users who come every `pause` hours on average, from `before` days before the canary on.

    `shares` of the canary from each day on. `longer`, `sooner` and `likes` change the depth, the pauses and the rate of
    likes of the canary's users. Item 1 has `popular` of the main arm's impressions, and `popular_canary` of the
    canary's; others are items 2 to 9.
    """

    users: int = 600
    before: float = 10.0
    days: float = 8.0
    shares: Sequence[tuple[float, float]] = ((0.0, 0.5),)
    pause: float = 20.0
    longer: float = 1.0
    sooner: float = 1.0
    likes: float = 1.0
    popular: float = 0.2
    popular_canary: float = 0.2
    late: float = 0.2  # share of feedback that arrives up to `FEEDBACK_HOURS` late
    leave: float = 0.0  # share of the canary's users who leave after the first recommendation, without feedback
    new: float = 0.0  # share of users without sessions before the canary
    seed: int = 0

    def rows(self) -> list[Event]:
        """Rows in the order in which the server received them."""
        rng = np.random.default_rng(self.seed)
        rows: list[Event] = []
        notes = [(-self.before, ()), *((day, (Arm(name="a", policy="p", share=share),)) for day, share in self.shares)]
        dealt = []
        for day, canaries in notes:
            arms = [{"arm": "main", "policy": "m", "share": 1.0 - sum(arm.share for arm in canaries)}]
            arms += [{"arm": arm.name, "policy": "c", "share": arm.share} for arm in canaries]
            note = json.dumps({"main": "main", "seed": 0, "feedback_hours": FEEDBACK_HOURS, "arms": arms})
            at = NOW + round(day * DAY_MS)
            rows.append(Event(Kind.ARMS, at, received=at, note=note))
            dealt.append(arm_of(list(range(self.users)), ServeSettings(canaries=canaries)))
        starts = np.array([NOW + round(day * DAY_MS) for day, _ in notes])
        habit = rng.gamma(4.0, 0.25, self.users)
        chance = np.random.default_rng((self.seed, 1)).random((2, self.users))
        new, leaves = chance[0] < self.new, chance[1] < self.leave
        for user in range(self.users):
            begin = NOW if new[user] else NOW - self.before * DAY_MS
            clock = begin + rng.exponential(self.pause * HOUR_MS)
            while clock < NOW + self.days * DAY_MS:
                treated = bool(dealt[np.searchsorted(starts, clock, side="right") - 1][user])
                if treated and leaves[user]:
                    at, of = round(clock), {"user_number": user, "arm": "a", "policy": "c", "items": [2]}
                    rows.append(Event(Kind.RECOMMENDED, at, **of, received=at))
                    break
                clock = self._visit(rows, rng, user, clock, treated, habit[user])
        return sorted(rows, key=lambda row: row.received)

    def _visit(
        self, rows: list[Event], rng: np.random.Generator, user: int, clock: float, treated: bool, habit: float
    ) -> float:
        arm, policy = ("a", "c") if treated else ("main", "m")
        shown = {"user_number": user, "arm": arm, "policy": policy}
        for _ in range(1 + rng.poisson(4 * habit * (self.longer if treated else 1.0))):
            at = round(clock)
            popular = rng.random() < (self.popular_canary if treated else self.popular)
            items = [1 if popular else int(rng.integers(2, 10))]
            rows.append(Event(Kind.RECOMMENDED, at, **shown, items=items, received=at))
            like = float(rng.random() < 0.3 * (self.likes if treated else 1.0))
            late = rng.uniform(0, FEEDBACK_HOURS * HOUR_MS) if rng.random() < self.late else 1
            received = at + max(round(late), 1)
            rows.append(Event(Kind.FEEDBACK, at, **shown, items=items, received=received, feedback=[like], known=True))
            clock += rng.uniform(1, 60) * 1000
        return clock + HOUR_MS * rng.exponential(self.pause) / habit / (self.sooner if treated else 1.0)


def write_log(folder: Path, rows: Sequence[Event], until: int | None = None, about: About = ABOUT) -> Path:
    """Write the rows that the server received up to the time `until`."""
    folder.mkdir()
    write_about(str(folder), about)
    log = EventLog(str(folder), about.columns.field("items").type.value_type)
    seen = [row for row in rows if until is None or row.received <= until]
    for begin in range(0, len(seen), 4096):
        log.commit(seen[begin : begin + 4096])
    log.close()
    return folder
