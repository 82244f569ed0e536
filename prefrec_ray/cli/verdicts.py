"""Tables of an evaluation: levels by subject, verdicts with their reasons, and the rules that `constrain` tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from prefrec_ray.evaluation.results.names import TITLES, serving_rule, subject_of

if TYPE_CHECKING:
    from prefrec_ray.evaluation.results.records import Evaluation, Record, Support
    from prefrec_ray.evaluation.selection.serving_rule import Chosen

#: Word and style of each verdict.
WORDS = {
    "candidate": ("candidate", "bold green"),
    "no_difference": ("no difference", ""),
    "inconclusive": ("inconclusive", "yellow"),
    "do_not_ship": ("do not ship", "bold red"),
}
NOTHING = "–"
#: Reasons of more policies are only in evaluation.json and in the report.
MOST_REASONS = 12
RAIL_STYLES = {"kept": "bold green", "open": "yellow", "broken": "bold red"}
STYLES = {"policy": "bold cyan", "control": "", "placebo": "dim"}


def summary(evaluation: Evaluation, task: str) -> Table:
    """Return a table with one row per subject, sorted by its first estimator in the order of `TITLES`, best first."""
    titles = {**TITLES, "online": "true, with 95 % interval"}
    names = dict.fromkeys([*titles, *(record.estimator for record in evaluation.records)])
    records = {name: {record.subject: record for record in evaluation.select(task, name)} for name in names}
    records = {name: by_subject for name, by_subject in records.items() if by_subject}
    table = Table(f"{task} level", *(titles.get(name, name) for name in records), "kind", box=None, pad_edge=False)
    first: dict[str, Record] = {}
    for by_subject in records.values():
        for record in sorted(by_subject.values(), key=lambda record: -record.value):
            first.setdefault(record.subject, record)
    for record in first.values():
        if subject_of(record.subject) != record.subject:
            continue
        cells = [_cell(by_subject, record.subject) for by_subject in records.values()]
        table.add_row(Text(record.title), *cells, record.kind, style=STYLES[record.role])
    return table


def _cell(by_subject: dict[str, Record], name: str) -> str:
    if name in by_subject:
        record = by_subject[name]
        return f"{record.value:.2f} [{record.ci_low:.2f}, {record.ci_high:.2f}]"
    return f"{next(iter(by_subject.values())).behaviour:.2f}" if name == "behaviour" else ""


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
        "support": [NOTHING if case.support is None else case.support.text for case in cases.values()],
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
    """Return one line per policy with its serving rule, if known, and the reasons of its verdict."""
    verdicts = evaluation.verdicts
    if len(verdicts) > MOST_REASONS:
        return [Text(f"Why: see verdicts.POLICY.reasons of {len(verdicts)} policies in the file.", style="dim")]
    rules = {record.subject: serving_rule(record.provenance or {}) for record in evaluation.records}
    return [
        Text(f"{policy}{f' ({rule})' if (rule := rules.get(policy)) else ''}: {' '.join(one.reasons)}", style="dim")
        for policy, one in verdicts.items()
    ]


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


def tried_table(chosen: Chosen) -> Table:
    """Return a table of the tried rules, with support, gain and lowest gain on validation users, best first.

    The number of broken guard-rails follows if a rule breaks one.
    """
    broken = any(one.broken for one in chosen.tried)
    names = ["temperature", "variety", "repetition", "window", "scores", "support", "gain", "lowest gain"]
    names += ["broken guard-rails"] if broken else []
    table = Table(*(Column(name, justify="right") for name in names), box=None, pad_edge=False)
    for number, one in enumerate(chosen.tried):
        rule = one.rule
        numbers = (rule.temperature, rule.variety, rule.repetition, rule.repetition_window)
        cells = [*map("{:g}".format, numbers), rule.scores, f"{one.support:.0%}", f"{one.gain:+.2f}", f"{one.low:+.2f}"]
        if broken:
            cells.append(str(len(one.broken)))
        table.add_row(*(Text(cell, "" if number else "bold green") for cell in cells))
    return table


def rails_table(evaluation: Evaluation) -> Table:
    """Return a table with one row per policy and guard-rail."""
    measured = (Column(name, no_wrap=True) for name in ("guard-rail", "found", "status"))
    table = Table("policy", *measured, box=None, pad_edge=False)
    for policy, rails in evaluation.guard_rails.items():
        for rail in rails:
            table.add_row(Text(policy), Text(rail.rail), Text(rail.found), Text(rail.status, RAIL_STYLES[rail.status]))
    return table
