"""Guard-rails: limits on what a policy may cost, in terms of users and items.

    feedback.like >= -2 %            mean feedback per impression
    depth >= -5 %                    impressions per session
    sessions >= -5 %                 sessions per day
    hours_to_return <= +10 %         hours from the end of a session to the next
    exposure[maker] <= 10 %          largest share of impressions of one maker
    share[category: news] >= 5 %     share of impressions of one category

The first four are relative to the current policy. The last two are shares of the policy's own impressions.
Each canary also has `came_back`, on the share of users with a second session, by the setting `canary.lost`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.mdp.items import ItemTable

Status = Literal["kept", "open", "broken"]

#: Share of the users who come back that a canary may lose by default.
LOST = 0.05

_FORM = re.compile(
    r"(?:feedback\.(\S+)|(depth|sessions|hours_to_return)"
    r"|exposure\[\s*([^\]:]+?)\s*\]|share\[\s*([^\]:]+?)\s*:\s*([^\]]+?)\s*\])"
    r"\s*(>=|<=)\s*([+-]?\d+(?:\.\d+)?)\s*%"
)
_EXAMPLES = "'feedback.like >= -2 %', 'depth >= -5 %', 'exposure[maker] <= 10 %' or 'share[category: news] >= 5 %'"


@dataclass(frozen=True)
class GuardRail:
    """A limit on one measure of a policy.

    `measure`: `feedback`, `depth`, `sessions`, `hours_to_return`, `exposure` or `share`. `name`: the feedback column or
    the kind of items, empty for measures of users. `value`: the kind's value of a share. `limit`: a fraction, 0.05 for
    5 %.
    """

    measure: str
    name: str
    value: str
    at_least: bool
    limit: float

    @classmethod
    def from_text(cls, text: str) -> GuardRail:
        """Return the guard-rail in `text`. Raises `ValueError` for another form, and for a limit out of range."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"found {text!r}; expected for example {_EXAMPLES}")
        feedback, user, exposure, kind, value, sign, percent = found.groups(default="")
        measure = user or ("feedback" if feedback else "exposure" if exposure else "share")
        limit = float(percent) / 100
        rail = cls(measure, feedback or exposure or kind, value, sign == ">=", limit)
        low, high = (-1.0, 10.0) if rail.relative else (0.0, 1.0)
        if not low < limit < high:
            raise ValueError(
                f"found a limit of {limit:.0%} in {text!r}; expected more than {low:.0%}, less than {high:.0%}"
            )
        return rail

    @property
    def relative(self) -> bool:
        """Return whether the limit is a change relative to the current policy."""
        return self.measure not in ("exposure", "share")

    def __str__(self) -> str:
        subject = {
            "feedback": f"feedback.{self.name}",
            "exposure": f"exposure[{self.name}]",
            "share": f"share[{self.name}: {self.value}]",
        }.get(self.measure, self.measure)
        sign = "+" if self.relative else ""
        return f"{subject} {'>=' if self.at_least else '<='} {100 * self.limit:{sign}g} %"

    def factor(self, current: float) -> float:
        """Return the outermost allowed factor of a relative measure with the value `current` under the current policy.

        A change in percent is relative to the size of the value: 2 % less than -1 is -1.02.
        """
        return 1 - self.limit if current < 0 else 1 + self.limit

    def status(self, low: float, high: float) -> Status:
        """Return the status for an interval of (measure - allowed value): broken if the whole interval is harm."""
        least, most = (low, high) if self.at_least else (-high, -low)  # negative is harm
        return "broken" if most < 0 else "kept" if least >= 0 else "open"


def guard_rails(texts: Iterable[str]) -> list[GuardRail]:
    """Return the guard-rails of a setting."""
    return [GuardRail.from_text(text) for text in texts]


def check_rails(rails: Iterable[GuardRail], feedback: Sequence[str], items: ItemTable | None) -> None:
    """Raise `UserError` for a guard-rail on unknown feedback, an unknown kind of items, or an unknown value of it.

    `items` None: the items and their kinds are not known.
    """
    for rail in rails:
        try:
            if rail.measure == "feedback" and rail.name not in feedback:
                raise UserError(f"found feedback '{rail.name}'; expected one of {', '.join(feedback) or 'none'}")
            if rail.relative:
                continue
            if items is None:
                raise UserError("found no table of items; expected one with their kinds")
            kind = items.kind(rail.name)
            if rail.measure == "share":
                kind.find(rail.value)
        except UserError as error:
            raise UserError(f"evaluate.guard_rails: '{rail}': {error}") from error


def _valid(text: str) -> str:
    return str(GuardRail.from_text(text))


#: A guard-rail in a settings model, in its normal form.
GuardRailText = Annotated[str, AfterValidator(_valid)]
