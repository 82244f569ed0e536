"""Tables of `prefrec inspect`: columns and sessions of a log; counts, levels and teachers of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prefrec_ray.inspection.counts import LENGTHS, Counts
from prefrec_ray.inspection.proposal import few_users
from prefrec_ray.inspection.roles import COMMA
from prefrec_ray.logs.contract import summary
from prefrec_ray.reports.html import share

if TYPE_CHECKING:
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.inspection.log import LogReport
    from prefrec_ray.inspection.teachers import Diagnosis
    from prefrec_ray.mdp.excluded import Repeats

EXPLANATION = (
    "A teacher labels which of two segments of history is preferred. Between users: share of the variance of scores "
    "between users. Sessions only, user only: share of labels (without ties) that a rule predicts from the number of "
    "sessions, or from the user, and without the items. If such a rule predicts most labels, they are about the user "
    "or the length of sessions, and not about the impressions."
)


def log_tables(report: LogReport) -> Iterator[RenderableType]:
    """Yield the tables of a raw log."""
    counts = report.counts
    yield Text(report.title, style="bold")
    pages = f" on {counts.steps:,} pages" if counts.steps < counts.rows else ""
    users = f"{counts.users:,} users with {counts.items:,} items"
    yield Text(f"{counts.rows:,} impressions{pages} of {users}, {_span(counts)}")
    source = report.roles.source if report.roles else {"user": "user_id", "item": "item_id"}
    yield from (Text(line) for line in described(source))
    for file in report.unused:
        yield Text(
            f"not used: {file.rpartition('/')[2]}: a table of users or items has each id of the log once, and more"
        )
    for note in _notes(counts, report):
        yield Text(f"- {note}")

    counted = {source["user"]: f"{counts.users:,}", source["item"]: f"{counts.items:,}"}
    columns = _table("column", "type", "empty", "distinct", "examples", "role")
    for c in report.columns:
        role = report.roles.describe(c.name) if report.roles else ""
        examples = ", ".join(_value(value, 14) for value in c.examples)
        columns.add_row(
            c.name,
            str(c.kind),
            share(c.empty) if c.empty else "",
            counted.get(c.name, f"{c.distinct:,}"),
            examples,
            role,
        )
    yield ""
    if report.sampled < counts.rows:
        yield Text(f"columns: a sample of {report.sampled:,} rows", style="dim")
    yield columns

    sessions = _table("sessions end after", "sessions", "mean depth", "sessions per user")
    for timeout, number in counts.sessions.items():
        row = [f"{number:,}", f"{counts.steps / number:.1f}", f"{number / counts.users:.1f}"]
        sessions.add_row(_timeout(timeout), *row)
    yield ""
    yield sessions

    segments = _table("segments of", *(f"{length} {'pages' if pages else 'impressions'}" for length in LENGTHS))
    segments.add_row("users with two", *(f"{n:,} ({share(n / counts.users)})" for n in counts.long_users))
    yield ""
    yield segments


def described(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each table of a source: its file and its columns."""
    for name in ("users", "items"):
        table = source.get(name)
        if table:
            parts = [f"id {table['id']}"]
            parts += [f"{key} {table[key]}" for key in ("title", "embedding") if key in table]
            parts += [f"features {', '.join(table['features'])}"] if "features" in table else []
            yield f"table of {name}: {table['path'].rpartition('/')[2]} ({'; '.join(parts)})"


def dataset_tables(dataset: PreparedDataset, levels: dict[str, np.ndarray]) -> Iterator[RenderableType]:
    """Yield counts, sizes and levels of a prepared data set."""
    metadata = dataset.metadata
    yield Text(f"prepared data set: {dataset.uri}", style="bold")
    groups = ", ".join(f"{name} {group.stop - group.start}" for name, group in dataset.state.groups.items())
    yield Text(f"states of {metadata.state_dim} numbers ({groups}); actions of {metadata.action_dim}")
    if metadata.tasks:
        preferences = metadata.settings["preferences"]
        yield Text(f"preferences: {', '.join(metadata.tasks)} by {', '.join(metadata.teachers)}")
        yield Text(
            f"segments of {preferences['length']} impressions; users have more than {preferences['min_requests']}"
        )
    if metadata.repeats is not None:
        yield Text(_repeats(metadata.repeats))
    counts = _table("split", *next(iter(metadata.counts.values())))
    for split, numbers in metadata.counts.items():
        counts.add_row(split, *(f"{number:,}" for number in numbers.values()))
    yield ""
    yield counts
    yield ""
    yield _levels(levels, "its sessions")


def _repeats(repeats: Repeats) -> str:
    """Return the repeats of a data set and the rest of items in one line."""
    if repeats.impressions is None or repeats.hours is None:
        return "no impression repeats an item of the user; items rest for ever"
    since = f"after {repeats.impressions:,.0f} impressions or {repeats.hours:,.1f} hours (medians)"
    rest = "for ever" if repeats.rest_days == "forever" else f"{repeats.rest_days:,.2f} days"
    return f"{share(repeats.share)} of impressions repeat an item of the user, {since}; items rest {rest}"


def teacher_tables(diagnoses: Sequence[Diagnosis], present: Sequence[str]) -> Iterator[RenderableType]:
    """Yield a table with one row for each task and teacher."""
    table = _table("teacher", "task", "ties", "between users", "sessions only", "user only")
    for d in diagnoses:
        rule = "–" if d.sessions is None else f"{share(d.sessions)} ({'more' if d.prefers_more else 'fewer'})"
        name, style = (f"{d.teacher} *", "bold") if d.teacher in present else (d.teacher, "")
        table.add_row(name, d.task, share(d.ties), share(d.between_users), rule, share(d.user), style=style)
    yield ""
    yield table
    yield Text(f"*: teachers of this data set. {EXPLANATION}", style="dim")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for name in others:
        words = name in ("type", "examples", "role", "task", "teacher")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _levels(shares: dict[str, np.ndarray], sessions: str) -> Table:
    table = _table(f"levels ({sessions})", *map(str, range(len(next(iter(shares.values()))))), "mean")
    for name, of_level in shares.items():
        table.add_row(name, *map(share, of_level), f"{of_level @ np.arange(len(of_level)):.2f}")
    return table


def _notes(counts: Counts, report: LogReport) -> Iterator[str]:
    refused = report.refused
    if few := few_users(counts):
        yield few
    for name, reason in report.roles.others.items() if report.roles else ():
        if reason == COMMA:
            yield f"column '{name}' is not used: {reason}"
    if counts.partial:
        yield f"counts are of the first {counts.rows:,} rows"
    if refused:
        yield f"not counted below: {summary(refused)}"
    if counts.repeats:
        shared = share(counts.repeats / counts.rows)
        yield f"{counts.repeats:,} rows ({shared}) are equal to another row in every column with a role"
    if maybe_pages := counts.shared_rows:
        yield maybe_pages
    if not counts.timed:
        yield "no row has a time of day: sessions are days"


def _span(counts: Counts) -> str:
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (counts.first, counts.last))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC ({(last - first).days + 1:,} days)"


def _timeout(minutes: float | None) -> str:
    if minutes is None:
        return "as in the log"
    return "1 day" if minutes == 1440 else f"{minutes:g} minutes"


def _value(value: object, width: int) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
