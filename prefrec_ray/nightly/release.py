"""Decisions on a canary: extend it, promote it, or withdraw it.

A canary is a policy that a share of the users gets. It is compared with the current policy on the same days, by
intervals that hold at every look (serving/experiment). The table of decisions is in docs/nightly.md.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from prefrec_ray.guard_rails import Status
from prefrec_ray.mdp.excluded import DAY_MS
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.serving.experiment.compare import CanaryComparison
from prefrec_ray.serving.experiment.outcomes import ACTIVITY
from prefrec_ray.serving.settings import MAIN, Canary
from prefrec_ray.settings import Settings

Decision = Literal["extend", "promote", "withdraw"]
#: Largest share of the users of a canary: a comparison needs users of the current policy.
LARGEST_SHARE = 0.5


class Look(Settings):
    """One look at the canary of night `night`, and the decision.

    `low` and `high`: interval of the objective's difference in levels, None if no server serves the canary. `rails`:
    status by guard-rail. `share`: share of the users from now on. `growth`: impressions of a user of the canary per
    impression of a user of the current policy, None if unknown.
    """

    night: int
    decision: Decision
    why: str
    share: float
    users: int = 0
    main_users: int = 0
    days: float = 0.0
    low: float | None = None
    high: float | None = None
    rails: dict[str, Status] = Field(default_factory=dict)
    growth: float | None = None

    @property
    def line(self) -> str:
        """Return the look as one line of text."""
        users = f"{self.users:,} users of the canary and {self.main_users:,} of the current policy"
        done = {"extend": "extended", "promote": "promoted", "withdraw": "withdrawn"}[self.decision]
        return f"canary of night {self.night} {done}: {self.why} ({users}, {self.days:.1f} days)"


def look(canary: Canary, compared: CanaryComparison | None, settings: CanarySettings, now: int) -> Look:
    """Return the decision on a canary at the time `now`, ms. `compared` is None if no server serves the canary."""
    if compared is None:
        days = (now - canary.began) / DAY_MS
        if days >= settings.longest_days:
            why = f"no server serves it after {settings.longest_days:g} days"
            return Look(night=canary.night, decision="withdraw", why=why, days=days, share=0.0)
        why = "no server serves it yet (POST /reload)"
        return Look(night=canary.night, decision="extend", why=why, days=days, share=canary.share)
    decision, why, share = _decide(compared, settings, canary.share)
    notes = dict.fromkeys(one.note for one in compared.rails if one.note)
    if compared.ahead:
        notes[f"{compared.ahead:,} rows do not count, as their clock is ahead of the log's last row"] = None
    objective = compared.objective
    return Look(
        night=canary.night,
        decision=decision,
        why="; ".join([why, *notes]),
        users=compared.users.get(canary.arm, 0),
        main_users=compared.users.get(MAIN, 0),
        days=compared.elapsed_days,
        low=objective.low,
        high=objective.high,
        rails={str(one.rail): one.status for one in compared.rails},
        share=share,
        growth=_activity_ratio(compared),
    )


def _activity_ratio(compared: CanaryComparison) -> float | None:
    for one in compared.outcomes:
        if one.name == ACTIVITY and one.main.value > 0 and one.canary.value > 0:
            return one.canary.value / one.main.value
    return None


def _decide(compared: CanaryComparison, settings: CanarySettings, share: float) -> tuple[Decision, str, float]:
    """Return the decision, the reason, and the share from now on. The first row of the table that applies decides."""
    objective = compared.objective
    difference = f"difference of {objective.value:+.2f} [{objective.low:+.2f}, {objective.high:+.2f}] levels"
    if not math.isfinite(objective.value):
        difference = f"no level yet of a user with earlier sessions ({compared.waiting:,} users wait)"
    by_status = {
        status: ", ".join(str(one.rail) for one in compared.rails if one.status == status)
        for status in ("broken", "open")
    }
    if by_status["broken"]:
        return "withdraw", f"broken: {by_status['broken']}", 0.0
    if objective.high < 0:
        return "withdraw", f"{difference}, below 0", 0.0
    better = objective.low > 0
    if better and not by_status["open"]:
        return "promote", f"{difference}, above 0" + (", every guard-rail is kept" if compared.rails else ""), 0.0
    if compared.elapsed_days >= settings.longest_days:
        missing = f"open: {by_status['open']}" if better else f"{difference}, not above 0,"
        return "withdraw", f"{missing} after {settings.longest_days:g} days", 0.0
    if better:
        wider = min(2 * share, LARGEST_SHARE)
        return "extend", f"{difference}, above 0; open: {by_status['open']}; share {100 * wider:g}%", wider
    return "extend", f"{difference}", share
