"""Whether a night's requests may be learned from: what is counted of them, and the rules that they have to pass.

The rules compare with the earlier nights alone, so that nothing has to be told about a log:

- A feedback column with one value in every request is broken if it had several in any earlier night.
- A column that is not zero in less than a `RARER`th of the smallest share of any earlier night is broken.
- More than `TIMES` the largest number of requests or users of an earlier night, or less than a `TIMES`th of the
  smallest, is no night like the others. The first night does not count here: it holds all that was logged before.

A night is looked at in `PARTS` parts as well, by the first two rules, for a column that broke in the middle of it.

A column of whose requests fewer than `FEW` are expected to be other than zero is only looked at by the first rule once
there are `FEW` requests in all, and not at all in a part.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefrec_ray.settings import Settings

#: Positions in a log, both inclusive.
Span = tuple[int, int]
TIMES, RARER, FEW = 3.0, 10.0, 100
PARTS = 4


class Column(Settings):
    """A column of feedback: its smallest and largest value, and the share of the requests in which it is not 0."""

    low: float
    high: float
    share: float


class Counted(Settings):
    """The requests of a night: from where to where they lie in each log (`spans`, both inclusive)."""

    spans: tuple[Span, ...]
    requests: int
    users: int
    feedback: dict[str, Column]


def problems(now: Counted, earlier: Sequence[Counted], failed: Counted | None = None) -> list[str]:
    """What speaks against the requests `now`, a phrase each; `earlier`: those of accepted nights, oldest first.

    `failed`: the requests, which are among `now`, of a night that passed and failed later.
    """
    if not now.requests:
        return ["no new requests"]
    return [*_volume(now, earlier[1:], failed), *_feedback(now, earlier, part=False)]


def part_problems(part: Counted, earlier: Sequence[Counted]) -> list[str]:
    """What speaks against a part of a night: a column that broke in the middle is half sound over the whole."""
    return _feedback(part, earlier, part=True)


def _volume(now: Counted, earlier: Sequence[Counted], failed: Counted | None) -> list[str]:
    flaws = []
    for what in ("requests", "users"):
        before = [getattr(night, what) for night in earlier]
        if not before:
            continue
        known = getattr(failed, what) if failed else 0
        value, low, high = getattr(now, what), min(before) / TIMES, max(before) * TIMES + known
        if not low <= value <= high:
            flaws.append(f"{value:,} {what}, expected {low:,.0f} to {high:,.0f} by earlier nights")
    return flaws


def _feedback(now: Counted, earlier: Sequence[Counted], part: bool) -> list[str]:
    flaws = []
    of = "consecutive requests" if part else "requests"
    for name in dict.fromkeys(name for night in earlier for name in night.feedback):
        before = [night.feedback[name] for night in earlier if name in night.feedback]
        column = now.feedback.get(name)
        if column is None:
            flaws.append(f"feedback '{name}' is missing, which earlier nights have")
            continue
        least = min(one.share for one in before)
        common = least * now.requests >= FEW
        stuck = column.low == column.high and any(one.low < one.high for one in before)
        if stuck and (common or (not part and now.requests >= FEW)):
            flaws.append(f"feedback '{name}' is {column.low:g} in all {now.requests:,} {of}, and was not before")
        elif common and not stuck and column.share < least / RARER:
            flaws.append(
                f"feedback '{name}' is not zero in {column.share:.2%} of {now.requests:,} {of}, expected at least "
                f"{least / RARER:.2%} by earlier nights"
            )
    return flaws
