"""The table at the end of an evaluation: true levels, if known, and estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prefrec_ray.evaluation.names import subject_of

if TYPE_CHECKING:
    from prefrec_ray.evaluation.records import Evaluation, Record

TITLES = {
    "online": "true, with 95 % interval",
    "model": "model of users",
    "dr": "doubly robust",
    "fqe": "fitted-Q",
    "weights": "importance weights",
    "ncis": "NCIS",
}
STYLES = {"policy": "bold cyan", "control": "", "placebo": "dim"}


def summary(evaluation: Evaluation, task: str) -> Table:
    """One row for each subject, best first by the first estimator of `TITLES` that it has a record of."""
    records = {name: {record.subject: record for record in evaluation.of(task, name)} for name in TITLES}
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


def _cell(by_subject: dict[str, Record], name: str) -> str:
    if name in by_subject:
        record = by_subject[name]
        return f"{record.value:.2f} [{record.ci_low:.2f}, {record.ci_high:.2f}]"
    return f"{next(iter(by_subject.values())).behaviour:.2f}" if name == "behaviour" else ""
