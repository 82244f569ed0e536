"""Canaries that drive users away, rows of clocks that are ahead, and the error rate that decisions share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_experiment import ABOUT, DAY_MS, NOW, Platform, write_log

from prefrec_ray.guard_rails import guard_rails
from prefrec_ray.logs.events.format import Event
from prefrec_ray.nightly.release import look
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.serving.experiment.compare import CanaryComparison, compare
from prefrec_ray.serving.experiment.estimates import Sample
from prefrec_ray.serving.experiment.history import participants, read_events
from prefrec_ray.serving.experiment.outcomes import behavior
from prefrec_ray.serving.settings import Canary

CANARY = Canary(night=1, target="p", share=0.5, began=NOW)


def compared(folder: Path, texts: tuple[str, ...] = (), now: int | None = None) -> CanaryComparison:
    return compare([str(folder)], 3.0, rails=guard_rails(texts), now=now).canaries["a"]


def decision(folder: Path) -> str:
    rails = ("feedback.like >= -20 %", "depth >= -20 %", "hours_to_return <= +25 %")
    return look(CANARY, compared(folder, rails), CanarySettings(), NOW + 9 * DAY_MS).decision


@pytest.mark.parametrize("new", [0.0, 1.0])
def test_a_canary_that_loses_half_of_the_users_is_withdrawn(tmp_path: Path, new: float) -> None:
    """Who stays comes back 1.6 times as often, so that survivors alone would look better. `new`: share of new users."""
    platform = Platform(users=700, leave=0.5, sooner=1.6, new=new)
    assert decision(write_log(tmp_path / "log", platform.rows())) == "withdraw"
    assert decision(write_log(tmp_path / "kept", replace(platform, leave=0.0).rows())) != "withdraw"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_canaries_that_lose_a_fifth_of_the_users_are_never_promoted(tmp_path: Path) -> None:
    """100 platforms for each share of lost users: of old users, and of users without a history.

    The others come back 1.6 times as often. A loss of 5 % is hidden by that: as many users come back in their days.
    """
    for new in (0.0, 1.0):
        for leave in (0.05, 0.2, 0.5):
            decisions = []
            for seed in range(100):
                rows = Platform(users=700, days=5.0, leave=leave, sooner=1.6, new=new, seed=seed).rows()
                decisions.append(decision(write_log(tmp_path / f"{new}-{leave}-{seed}", rows)))
            counts = {name: decisions.count(name) for name in ("withdraw", "extend", "promote")}
            print(f"{'new' if new else 'old'} users, {leave:.0%} leave: {counts}")
            assert leave < 0.2 or counts["promote"] == 0
            assert leave < 0.5 or counts["withdraw"] >= 95


@pytest.mark.parametrize("which", ["one row", "1 %", "a day"])
def test_rows_of_a_clock_that_is_ahead_change_nothing(tmp_path: Path, which: str) -> None:
    rows = Platform(users=150).rows()
    rng = np.random.default_rng(0)
    of_users = [number for number, row in enumerate(rows) if row.user_number is not None]
    day = [number for number in of_users if NOW + 4 * DAY_MS <= (rows[number].received or 0) < NOW + 5 * DAY_MS]
    ahead = {
        "one row": [of_users[len(of_users) // 2]],
        "1 %": rng.permutation(of_users)[: len(rows) // 100],
        "a day": day,
    }
    kept = sorted(set(range(len(rows))) - set(map(int, ahead[which])))
    jumped: list[Event] = list(rows)
    for number in ahead[which]:
        row = rows[number]
        jumped[number] = replace(row, timestamp=row.timestamp + 40 * DAY_MS, received=row.received + 40 * DAY_MS)
    found = compared(write_log(tmp_path / "jumped", jumped))
    expected = compared(write_log(tmp_path / "kept", [rows[number] for number in kept]))
    assert found.ahead == len(ahead[which]) > 0
    assert (found.users, found.waiting, found.elapsed_days) == (expected.users, expected.waiting, expected.elapsed_days)
    assert found.objective == expected.objective
    assert f"{found.ahead:,} rows do not count" in look(CANARY, found, CanarySettings(), NOW).why


def test_the_last_rows_may_be_ahead_of_this_machine(tmp_path: Path) -> None:
    """Then no later row of the log bounds the clock, but this machine's clock does."""
    rows, now = Platform(users=150).rows(), NOW + 9 * DAY_MS
    jumped = [*rows, replace(rows[-1], timestamp=now + 40 * DAY_MS, received=now + 40 * DAY_MS)]
    found = compared(write_log(tmp_path / "jumped", jumped), now=now)
    expected = compared(write_log(tmp_path / "kept", rows), now=now)
    assert (found.ahead, found.users, found.objective) == (1, expected.users, expected.objective)


@pytest.mark.parametrize("texts", [(), ("depth >= -20 %", "feedback.like >= -20 %", "sessions >= -25 %")])
def test_decisions_share_an_error_rate_of_5_percent(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """The objective, the guard-rail of every canary and those of the YAML have an equal part each."""
    folder = write_log(tmp_path / "log", Platform(users=300).rows())
    found = compared(folder, texts)
    events = read_events([str(folder)], ABOUT)
    who = participants(events, 3 * DAY_MS)
    seen, part = behavior(events, who, ABOUT, 3 * DAY_MS), 0.05 / (2 + len(texts))
    final = sum(found.users.values())
    level = Sample.of_canary(who, seen.outcomes["frequency level"], 1, final)
    assert (found.objective.low, found.objective.high) == level.against(1.0, part)
    back = Sample.of_canary(who, seen.outcomes["came back"], 1, final)
    assert (found.rails[0].low, found.rails[0].high) == back.against(0.95, part)
