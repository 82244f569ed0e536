"""Canaries whose objective costs likes: a promoted one respects the guard-rail on likes.

In each of 40 simulated platforms the users of the canary return sooner by 50 to 150 %, and like less by 0 to 30 %. The
guard-rail allows 10 %. A look at each day decides, as a night does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_experiment import ABOUT, DAY_MS, NOW, Platform, write_log

from prefrec_ray.guard_rails import guard_rails
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.nightly.release import look
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.serving.experiment.compare import compare
from prefrec_ray.serving.settings import Canary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RUNS, DAYS, SHARE, ALLOWED = 40, 14, 0.2, 0.10
SETTINGS = CanarySettings(days=2.0, longest_days=DAYS - 1.0)


def release(platform: Platform, folder: Path) -> tuple[str, float]:
    """Look at the canary each day until it is promoted or withdrawn. Returns the decision and the days."""
    rows = platform.rows()
    received = np.array([row.received for row in rows])
    write_log(folder, rows, until=NOW)
    first = int(np.searchsorted(received, NOW, side="right"))
    rails = guard_rails([f"feedback.like >= -{100 * ALLOWED:g} %"])
    for day in range(1, DAYS + 1):
        end = int(np.searchsorted(received, NOW + day * DAY_MS, side="right"))
        log = EventLog(str(folder), ABOUT.columns.field("items").type.value_type)
        for begin in range(first, end, 4096):
            log.commit(rows[begin : min(begin + 4096, end)])
        log.close()
        first = end
        compared = compare([str(folder)], SETTINGS.days, rails=rails).canaries["a"]
        decided = look(Canary(night=1, target="", share=SHARE, began=NOW), compared, SETTINGS, NOW)
        if decided.decision != "extend":
            break
    return decided.decision, decided.days


def test_promoted_canaries_respect_a_guard_rail_that_the_objective_costs(tmp_path: Path) -> None:
    rng, found = np.random.default_rng(0), []
    for run in range(RUNS):
        sooner, likes = 1.5 + rng.random(), 1 - 0.3 * rng.random()
        shares = ((0.0, SHARE),)
        platform = Platform(1500, 7.0, DAYS, shares, sooner=sooner, likes=likes, late=0.0, seed=run)
        decision, days = release(platform, tmp_path / str(run))
        found.append((decision, likes >= 1 - ALLOWED))
        print(f"returns {sooner - 1:+.0%}, likes {likes - 1:+.1%}: {decision} after {days:.1f} days", flush=True)
    promoted = [respected for decision, respected in found if decision == "promote"]
    breaking = [decision for decision, respected in found if not respected]
    print(f"{len(promoted)} of {RUNS} promoted, {promoted.count(False)} of these break the guard-rail")
    print(f"{len(breaking)} break it: {breaking.count('withdraw')} withdrawn, {breaking.count('promote')} promoted")
    assert promoted.count(False) <= 0.05 * RUNS
    assert promoted.count(True) > 0
    assert breaking.count("withdraw") > 0
