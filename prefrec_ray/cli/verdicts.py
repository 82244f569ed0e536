"""The verdicts at the end of an evaluation: one row a policy, best first, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from prefrec_ray.evaluation.records import Evaluation, Record

STYLES = {"candidate": "bold green", "no_difference": "", "cannot_say": "yellow", "do_not_ship": "bold red"}
#: Of more policies the reasons are in evaluation.json and on the page alone.
MOST_REASONS = 12


def verdict_table(evaluation: Evaluation) -> Table:
    """Verdict, gain with its interval, support, hours to the next session and requests a session; the true gain beside
    them where policies were rolled out in the simulator."""
    from prefrec_ray.evaluation.verdict import VERDICTS, case_of

    true = {(r.subject, r.task): r for r in evaluation.records if r.estimator == "online"}
    table = Table(box=None, pad_edge=False)
    columns = (
        "policy",
        "verdict",
        "gain over the logging policy",
        "support",
        "h to next session",
        "requests a session",
    )
    for column in (*columns, "true gain") if true else columns:
        table.add_column(column)
    for policy, found in evaluation.verdicts.items():
        case = case_of(evaluation, policy)
        record, support = case.record, case.support
        cells: list[str | Text] = [
            Text(VERDICTS[found.verdict], style=STYLES[found.verdict]),
            "–" if record is None else f"{_gain(record)} by {record.estimator}",
            "–" if support is None else f"{support.states:.0%} of states",
            _number(record.mean_revisit_hours if record else None),
            _number(record.mean_depth if record else None),
        ]
        if true:
            truths = [_gain(r) for (subject, _), r in true.items() if subject == policy]
            cells.append(", ".join(truths) or "–")
        table.add_row(Text(policy), *cells)
    return table


def reasons(evaluation: Evaluation) -> list[Text]:
    """A line a policy: why its verdict is what it is."""
    found = evaluation.verdicts
    if len(found) > MOST_REASONS:
        return [Text(f"Why: see verdicts.POLICY.reasons of {len(found)} policies in the file.", style="dim")]
    return [Text(f"{policy}: {' '.join(one.reasons)}", style="dim") for policy, one in found.items()]


def _gain(record: Record) -> str:
    low, high = record.gain_interval
    return f"{record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
