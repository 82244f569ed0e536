"""The verdicts at the end of an evaluation: one row per policy, best first, and the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from prefrec_ray.evaluation.results.records import Evaluation, Record, Support

#: Word and style of each verdict.
WORDS = {
    "candidate": ("candidate", "bold green"),
    "no_difference": ("no difference", ""),
    "cannot_say": ("inconclusive", "yellow"),
    "do_not_ship": ("do not ship", "bold red"),
}
NOTHING = "–"
#: Reasons of more policies are only in evaluation.json and in the report.
MOST_REASONS = 12


def verdict_table(evaluation: Evaluation) -> Table:
    """Return a table of verdict, gain with its interval, support, effective sample, hours to the next session and
    impressions per session. Columns without values are excluded."""
    from prefrec_ray.evaluation.results.verdict import case_of

    cases = {policy: case_of(evaluation, policy) for policy in evaluation.verdicts}
    estimators = dict.fromkeys(case.record.estimator for case in cases.values() if case.record is not None)
    columns: dict[str, list[str | Text]] = {
        "policy": [Text(policy) for policy in cases],
        "verdict": [Text(*WORDS[one.verdict]) for one in evaluation.verdicts.values()],
        f"gain by {' or '.join(estimators)}": [_gain(case.record, len(estimators) > 1) for case in cases.values()],
        "support": [NOTHING if case.support is None else case.support.told for case in cases.values()],
        "effective sample": [_effective(case.support) for case in cases.values()],
        "h to next session": [_number(case.record, "mean_revisit_hours") for case in cases.values()],
        "impressions per session": [_number(case.record, "mean_depth") for case in cases.values()],
    }
    known = {name: cells for name, cells in columns.items() if any(cell != NOTHING for cell in cells)}
    table = Table(box=None, pad_edge=False)
    for name in known:
        table.add_column(name, no_wrap=name == "verdict" or name.startswith("gain"), overflow="fold")
    for cells in zip(*known.values(), strict=True):
        table.add_row(*cells)
    return table


def reasons(evaluation: Evaluation) -> list[Text]:
    """Return one line per policy with the reasons of its verdict."""
    verdicts = evaluation.verdicts
    if len(verdicts) > MOST_REASONS:
        return [Text(f"Why: see verdicts.POLICY.reasons of {len(verdicts)} policies in the file.", style="dim")]
    return [Text(f"{policy}: {' '.join(one.reasons)}", style="dim") for policy, one in verdicts.items()]


def unweighed(evaluation: Evaluation) -> list[Text]:
    """Return one line per policy without an estimate by importance weights."""
    from prefrec_ray.evaluation.estimators.importance_sampling import ENOUGH
    from prefrec_ray.evaluation.results.names import IMITATION, LOGGING_POLICY

    weighed = {record.subject for record in evaluation.records if record.estimator == "weights"}
    silent = [name for name in evaluation.served if name not in {LOGGING_POLICY, IMITATION, *weighed}]
    why = f"fewer than {ENOUGH} effective sessions, or items not drawn from the whole catalogue"
    return [Text(f"{policy}: No estimate by importance weights: {why}.", style="dim") for policy in silent]


def _gain(record: Record | None, several: bool) -> str:
    """Format a gain; with its estimator if there are `several`."""
    if record is None:
        return NOTHING
    low, high = record.gain_interval
    return f"{record.gain:+z.2f} [{low:+z.2f}, {high:+z.2f}]" + (f" {record.estimator}" if several else "")


def _effective(support: Support | None) -> str:
    """Format the effective sample of the sessions."""
    return NOTHING if support is None or support.ess is None else f"{support.ess:.1%}"


def _number(record: Record | None, key: str) -> str:
    value = getattr(record, key, None)
    return NOTHING if value is None else f"{value:.1f}"
