"""The check of a night's impressions before training: counts, and the rules for them.

The rules compare only with earlier nights, so that no log needs settings of its own:

- A feedback column with one value in every impression is broken if it had several in any earlier night.
- A column is broken if its share of values other than zero is less than a `RARER`th of the smallest share of any
  earlier night.
- A night with more than `TIMES` the largest number of impressions or users of an earlier night, or less than a
  `TIMES`th of the smallest, is broken. The first night does not count here, because it contains the whole log before.
  Numbers before a promotion count a second time, multiplied by the growth that was measured in the canary.

If fewer than `FEW` impressions are expected to be other than zero in a column, only the first rule is applied to it,
once there are `FEW` impressions in the night.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefrec_ray.logs.sources import EventsSource, Source
from prefrec_ray.settings import Settings

#: Positions in a log, both inclusive.
Span = tuple[int, int]
Spans = tuple[Span, ...]
#: All positions of a log, times or row numbers.
ALL: Span = (-(2**63) + 1, 2**63 - 1)
TIMES, RARER, FEW = 3.0, 10.0, 100


class FeedbackStatistics(Settings):
    """A column of feedback: its smallest and largest value, and the share of impressions in which it is not 0."""

    low: float
    high: float
    share: float


class NightCounts(Settings):
    """The impressions of a night: their number, users and feedback, and their positions (`spans`) in each log."""

    spans: Spans
    requests: int
    users: int
    feedback: dict[str, FeedbackStatistics]


def problems(
    now: NightCounts,
    earlier: Sequence[NightCounts],
    failed: NightCounts | None = None,
    growth: Sequence[float] | None = None,
) -> list[str]:
    """Return one phrase per broken rule.

    `now`: the impressions of a night. `earlier`: impressions of accepted nights, oldest first. `failed`: impressions,
    also in `now`, of a night that passed the check and failed later. `growth`: for each of `earlier`, the growth of a
    user's impressions by promotions since then; by default there were none.
    """
    if not now.requests:
        return ["no new impressions"]
    return [*_volume(now, earlier[1:], failed, (growth or [1.0] * len(earlier))[1:]), *_feedback(now, earlier)]


def _volume(
    now: NightCounts, earlier: Sequence[NightCounts], failed: NightCounts | None, growth: Sequence[float]
) -> list[str]:
    flaws = []
    for what, word in {"requests": "impressions", "users": "users"}.items() if earlier else ():
        before = [getattr(night, what) for night in earlier]
        grown = [*before, *(number * times for number, times in zip(before, growth, strict=True))]
        known = getattr(failed, what) if failed else 0
        value, low, high = getattr(now, what), min(grown) / TIMES, max(grown) * TIMES + known
        if not low <= value <= high:
            flaws.append(f"{value:,} {word}, expected {low:,.0f} to {high:,.0f} from earlier nights")
    return flaws


def _feedback(now: NightCounts, earlier: Sequence[NightCounts]) -> list[str]:
    flaws = []
    for name in dict.fromkeys(name for night in earlier for name in night.feedback):
        before = [night.feedback[name] for night in earlier if name in night.feedback]
        column = now.feedback.get(name)
        if column is None:
            flaws.append(f"feedback '{name}' is missing; expected it as in earlier nights")
            continue
        least = min(one.share for one in before)
        common = least * now.requests >= FEW
        stuck = column.low == column.high and any(one.low < one.high for one in before)
        if stuck and now.requests >= FEW:
            flaws.append(f"feedback '{name}' is {column.low:g} in all {now.requests:,} impressions, and was not before")
        elif common and not stuck and column.share < least / RARER:
            flaws.append(
                f"feedback '{name}' is not zero in {column.share:.2%} of {now.requests:,} impressions, expected at "
                f"least {least / RARER:.2%} from earlier nights"
            )
    return flaws


def count(source: Source, seed: int, spans: Spans) -> NightCounts:
    """Count the impressions of `source` at the positions `spans`, at most one span per log, in one pass of Ray Data.

    Raises `UserError` like `Source.open_log`, and for an invalid row.
    """
    if isinstance(source, EventsSource):  # only the files with these rows are read
        from prefrec_ray.logs.readers.events import open_events

        log, position = open_events(source, spans), "order"
    else:
        log, position = source.open_log(seed), "timestamp"
    summaries = log.interactions().map_batches(
        _summary,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"position": position, "spans": spans, "feedback": log.feedback},
    )
    users: pa.Array | None = None
    parts: list[pa.Table] = []
    for block in summaries.iter_batches(batch_format="pyarrow", batch_size=None):
        if block.num_rows:
            found = pc.list_flatten(block["user_id_distinct"]).combine_chunks()
            users = pc.unique(found if users is None else pa.chunked_array([users, found]))
            parts.append(block.drop_columns("user_id_distinct"))
    if users is None:
        return NightCounts(spans=(), requests=0, users=0, feedback={})
    total = pa.concat_tables(parts)
    requests = pc.sum(total["place_count"]).as_py()
    ends = [("place_min", "min"), ("place_max", "max")]
    by_span = total.group_by("span").aggregate(ends).sort_by("span")
    return NightCounts(
        spans=tuple(zip(by_span["place_min_min"].to_pylist(), by_span["place_max_max"].to_pylist(), strict=True)),
        requests=requests,
        users=len(users),
        feedback={
            name: FeedbackStatistics(
                low=pc.min(total[f"value {name}_min"]).as_py(),
                high=pc.max(total[f"value {name}_max"]).as_py(),
                share=pc.sum(total[f"some {name}_sum"]).as_py() / requests,
            )
            for name in log.feedback
        },
    )


def _summary(rows: pa.Table, position: str, spans: Spans, feedback: tuple[str, ...]) -> pa.Table:
    """Return one row per span of this block, with the ids of its users."""
    place = rows[position].to_numpy()
    span = np.full(len(rows), -1)
    for number, (first, last) in enumerate(spans):
        span[(place >= first) & (place <= last)] = number
    columns = {"span": pa.array(span), "place": rows[position], "user_id": rows["user_id"]}
    sums = [("place", "count"), ("place", "min"), ("place", "max"), ("user_id", "distinct")]
    for name in feedback:
        columns |= {f"value {name}": rows[name], f"some {name}": pc.cast(pc.not_equal(rows[name], 0), pa.int64())}
        sums += [(f"value {name}", "min"), (f"value {name}", "max"), (f"some {name}", "sum")]
    return pa.table(columns).filter(pa.array(span >= 0)).group_by("span").aggregate(sums)
