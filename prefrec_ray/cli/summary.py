"""The table at the end of an evaluation: true levels, if known, and estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prefrec_ray.evaluation.results.names import subject_of

if TYPE_CHECKING:
    from prefrec_ray.evaluation.results.records import Evaluation, Record

TITLES = {
    "online": "true, with 95 % interval",
    "model": "model of users",
    "dr": "doubly robust",
    "fqe": "fitted-Q",
    "weights": "importance weights",
    "ncis": "NCIS",
}
#: Task -> the ratio that is rounded down to a level, and the reason why its mean is not 1.
MEANINGS = {
    "depth": ("a session's impressions divided by the user's mean", "rounding down lowers most sessions"),
    "frequency": (
        "the user's mean revisit time divided by this revisit time",
        "a few long absences raise a user's mean, so most sessions are followed by a shorter one",
    ),
}
STYLES = {"policy": "bold cyan", "control": "", "placebo": "dim"}


def summary(evaluation: Evaluation, task: str) -> Table:
    """Return a table with one row per subject, sorted by its first estimator in the order of `TITLES`, best first."""
    records = {name: {record.subject: record for record in evaluation.select(task, name)} for name in TITLES}
    records = {name: by_subject for name, by_subject in records.items() if by_subject}
    table = Table(box=None, pad_edge=False)
    for column in [f"{task} level", *(TITLES[estimator] for estimator in records), "kind"]:
        table.add_column(column)
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


def level_note(evaluation: Evaluation, task: str) -> Text | None:
    """Return the meaning of a level of `task`, with the reason for a logged mean other than 1; None without a mean."""
    known = {record.estimator: record for record in evaluation.records if record.task == task}
    logged = known["ncis"].behaviour if "ncis" in known else None
    if logged is None and "model" in known:
        logged = known["model"].settings.get("logged_level")
    if logged is None or task not in MEANINGS:
        return None
    ratio, why = MEANINGS[task]
    text = f"Level of {task}: {ratio}, rounded down, 0 to 5. The log's mean is {logged:.2f}, not 1: {why}."
    return Text(text, style="dim")


def _cell(by_subject: dict[str, Record], name: str) -> str:
    if name in by_subject:
        record = by_subject[name]
        return f"{record.value:.2f} [{record.ci_low:.2f}, {record.ci_high:.2f}]"
    return f"{next(iter(by_subject.values())).behaviour:.2f}" if name == "behaviour" else ""
