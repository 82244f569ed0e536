"""The sections about an evaluation: every estimator with its controls, and what the policies serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefrec_ray.evaluation.names import subject_title
from prefrec_ray.evaluation.records import Evaluation, Record, Served
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.levels import LEVEL
from prefrec_ray.reports.separation import calibration, separation

ESTIMATORS = {
    "online": ("true level, by roll-outs in the simulator", "level against the users' own logged averages"),
    "model": ("roll-outs in a model of the users, fitted on the log", "mean level"),
    "dr": ("doubly robust, estimated from the log", "mean level of this and later sessions"),
    "fqe": ("fitted-Q evaluation, estimated from the log", "mean level of this and later sessions"),
    "weights": ("importance weights over items, estimated from the log", "level of one session of the policy"),
    "ncis": ("NCIS, estimated from the log", "level (ranks policies; its size is biased)"),
}
LEGEND = (
    "value and 95 % interval over users. Blue: policies; orange: controls; grey: negative controls, which know nothing."
)
#: Columns of the evaluation's table that only some records have: title, key, format.
COLUMNS = (
    ("logging policy", "behaviour", "{:.3f}"),
    ("effective sample", "ess", "{:.0%}"),
    ("mean depth", "mean_depth", "{:.1f}"),
    ("mean revisit (h)", "mean_revisit_hours", "{:.1f}"),
    ("satisfaction", "mean_satisfaction", "{:.2f}"),
    ("users", "users", "{:,}"),
    ("sessions", "sessions", "{:,}"),
)


def evaluation_section(evaluation: Evaluation) -> html.Section | None:
    """A figure and a table a task and estimator, with all controls, and in words who can be told apart."""
    parts: list[html.Block | None] = []
    for task in evaluation.tasks:
        for estimator, (title, unit) in ESTIMATORS.items():
            records = sorted(evaluation.of(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {title}", unit)
                parts += [
                    html.figures([(forest, f"{task}, {estimator}: {LEGEND}")]),
                    _records(records),
                    *(html.Paragraph(text) for text in (separation(records), calibration(records)) if text),
                    _estimation(records[0]),
                ]
    lost = [name for name, support in evaluation.support.items() if not support.supported]
    note = f"The log cannot say, so that no estimate is shown: {', '.join(lost)}."
    notes = [html.Paragraph(LEVEL, "note"), html.Paragraph(note, "note") if lost else None] if parts else []
    return html.section("Evaluation and its controls", *notes, *parts, folded=True)


def _records(records: Sequence[Record]) -> html.Table:
    columns = [column for column in COLUMNS if any(getattr(record, column[1]) is not None for record in records)]
    rows = [
        [
            record.title,
            record.kind,
            html.number(record.value, 3),
            html.interval(record.ci_low, record.ci_high),
            html.interval(*record.gain_interval),
            *("–" if (value := getattr(record, key)) is None else form.format(value) for _, key, form in columns),
        ]
        for record in records
    ]
    head = ["subject", "role", "level", "95 % interval", "gain over the logging policy, 95 %"]
    return html.table([*head, *(name for name, _, _ in columns)], rows, [record.role for record in records])


def _estimation(record: Record) -> html.Paragraph | None:
    """The estimator's settings in a line."""
    settings = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )
    return html.Paragraph(f"Settings: {settings}.", "note") if settings else None


def served_section(evaluation: Evaluation) -> html.Section | None:
    """What every subject serves."""
    if not evaluation.served:
        return None
    rows = [[subject_title(name), *_serving(served)] for name, served in evaluation.served.items()]
    head = [
        "subject",
        "distinct items",
        "most served items, with their share of requests",
        "distance to an item",
        "saturated",
    ]
    note = (
        "Distance: mean Euclidean distance of an action to the nearest item. Saturated: share of action coordinates at "
        "a bound. A policy that serves few items to everybody is no recommender, whatever its value."
    )
    parts = [html.Paragraph(note, "note"), _fixed_choice(evaluation), html.table(head, rows)]
    return html.section("What the policies serve", *parts, folded=True)


def _fixed_choice(evaluation: Evaluation) -> html.Paragraph | None:
    """What policies risk that always serve the items of the largest score."""
    always = dict.fromkeys(
        record.title
        for record in evaluation.records
        if record.role == "policy" and (record.provenance or {}).get("rule") == "best"
    )
    if not always:
        return None
    return html.Paragraph(
        f"Always the items of the largest score: {', '.join(always)}. No log says what the same few items do in hours; "
        "where users tire of them this harms, and the next log holds nothing else to learn from "
        "(serving: {rule: sample} draws items)."
    )


def _serving(served: Served) -> list[Any]:
    top = ", ".join(f"{item.item_id} ({item.share:.1%})" for item in served.top_items[:5])
    saturation = "–" if served.action_saturation is None else f"{served.action_saturation:.0%}"
    return [served.distinct_items, top, html.number(served.item_distance), saturation]
