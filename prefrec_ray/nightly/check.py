"""The check of a night's impressions before training: counts, and the rules for them.

The rules compare only with earlier nights, so that no log needs settings of its own:

- A feedback column with one value in every impression is broken if it had several in any earlier night.
- A column is broken if its share of values other than zero is less than a `RARER`th of the smallest share of any
  earlier night.
- A night with more than `TIMES` the largest number of impressions or users of an earlier night, or less than a
  `TIMES`th of the smallest, is broken. The first night does not count here, because it contains the whole log before.

The first two rules are also applied to `PARTS` parts of a night, for a column that broke in the middle of it.

If fewer than `FEW` impressions are expected to be other than zero in a column, only the first rule is applied to it,
once there are `FEW` impressions in the night, and no rule in a part.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.settings import Settings

#: Positions in a log, both inclusive.
Span = tuple[int, int]
TIMES, RARER, FEW = 3.0, 10.0, 100
PARTS = 4


class FeedbackStatistics(Settings):
    """A column of feedback: its smallest and largest value, and the share of impressions in which it is not 0."""

    low: float
    high: float
    share: float


class NightCounts(Settings):
    """The impressions of a night: their number, users and feedback, and their positions (`spans`) in each log."""

    spans: tuple[Span, ...]
    requests: int
    users: int
    feedback: dict[str, FeedbackStatistics]


def problems(now: NightCounts, earlier: Sequence[NightCounts], failed: NightCounts | None = None) -> list[str]:
    """Return one phrase per broken rule.

    `now`: the impressions of a night; `earlier`: of accepted nights, oldest first.

    `now`: the impressions of a night; `earlier`: of accepted nights, oldest first.

    `failed`: impressions, also in `now`, of a night that passed the check and failed later.
    """
    if not now.requests:
        return ["no new impressions"]
    return [*_volume(now, earlier[1:], failed), *_feedback(now, earlier, part=False)]


def part_problems(part: NightCounts, earlier: Sequence[NightCounts]) -> list[str]:
    """Return one phrase per broken rule for a part of a night."""
    return _feedback(part, earlier, part=True)


def _volume(now: NightCounts, earlier: Sequence[NightCounts], failed: NightCounts | None) -> list[str]:
    flaws = []
    for what, word in {"requests": "impressions", "users": "users"}.items():
        before = [getattr(night, what) for night in earlier]
        if not before:
            continue
        known = getattr(failed, what) if failed else 0
        value, low, high = getattr(now, what), min(before) / TIMES, max(before) * TIMES + known
        if not low <= value <= high:
            flaws.append(f"{value:,} {word}, expected {low:,.0f} to {high:,.0f} from earlier nights")
    return flaws


def _feedback(now: NightCounts, earlier: Sequence[NightCounts], part: bool) -> list[str]:
    flaws = []
    of = "consecutive impressions" if part else "impressions"
    for name in dict.fromkeys(name for night in earlier for name in night.feedback):
        before = [night.feedback[name] for night in earlier if name in night.feedback]
        column = now.feedback.get(name)
        if column is None:
            flaws.append(f"feedback '{name}' is missing; expected it as in earlier nights")
            continue
        least = min(one.share for one in before)
        common = least * now.requests >= FEW
        stuck = column.low == column.high and any(one.low < one.high for one in before)
        if stuck and (common or (not part and now.requests >= FEW)):
            flaws.append(f"feedback '{name}' is {column.low:g} in all {now.requests:,} {of}, and was not before")
        elif common and not stuck and column.share < least / RARER:
            flaws.append(
                f"feedback '{name}' is not zero in {column.share:.2%} of {now.requests:,} {of}, expected at least "
                f"{least / RARER:.2%} from earlier nights"
            )
    return flaws
