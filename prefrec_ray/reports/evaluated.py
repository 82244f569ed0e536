"""Sections about an evaluation: all estimators with their controls, and the items that policies serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from prefrec_ray.engagement.levels import MAX_LEVEL
from prefrec_ray.evaluation.results.names import subject_title
from prefrec_ray.evaluation.results.records import Evaluation, Record, ServedItems
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.cards import named
from prefrec_ray.reports.catalogue import CatalogueItem, ItemId
from prefrec_ray.reports.levels import LEVEL
from prefrec_ray.reports.separation import calibration, separation

ESTIMATORS = {
    "online": ("true level, by roll-outs in the simulator", "mean level (0 to 5)"),
    "model": ("roll-outs in a model of the users, fitted to the log", "mean level (0 to 5)"),
    "dr": ("doubly robust, from the log", "mean level (0 to 5) of this and later sessions"),
    "fqe": ("fitted-Q evaluation, from the log", "mean level (0 to 5) of this and later sessions"),
    "weights": ("importance weights over items, from the log", "mean level (0 to 5) of one session"),
    "ncis": ("NCIS, from the log", "mean level (0 to 5); ranks policies, the size of its gains is biased"),
}
LEGEND = (
    "value and 95 % interval over users, cut at 0 and 5. Blue: policies. Orange: controls, scored for comparison. "
    "Grey: negative controls, which ignore the user."
)
#: Items that the table of served items names.
TOP = 5
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
    """Return one figure and one table per task and estimator, with controls and with policies that are too close."""
    parts: list[html.Block | None] = []
    for task in evaluation.tasks:
        for estimator, (title, unit) in ESTIMATORS.items():
            records = sorted(evaluation.select(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {title}", unit)
                parts += [
                    html.figures([(forest, f"{task}, {estimator}: {LEGEND}")]),
                    _records(records),
                    *(html.Paragraph(text) for text in (separation(records), calibration(records)) if text),
                    _estimation(records[0]),
                ]
    lost = [name for name, support in evaluation.support.items() if not support.supported]
    note = f"No estimate, because the log does not contain the states that they lead users to: {', '.join(lost)}."
    notes = [html.Paragraph(LEVEL, "note"), html.Paragraph(note, "note") if lost else None] if parts else []
    return html.section("Evaluation and its controls", *notes, *parts, folded=True)


def _records(records: Sequence[Record]) -> html.Table:
    columns = [column for column in COLUMNS if any(getattr(record, column[1]) is not None for record in records)]
    rows = [
        [
            record.title,
            record.kind,
            html.number(record.value, 3),
            html.Cell(html.interval(*figures.in_range(record.ci_low, record.ci_high)), "interval"),
            html.Cell(html.interval(*_gains(record)), "interval"),
            *("–" if (value := getattr(record, key)) is None else form.format(value) for _, key, form in columns),
        ]
        for record in records
    ]
    head = ["subject", "role", "level", "95 % interval", "gain over the logging policy, 95 %"]
    return html.table([*head, *(name for name, _, _ in columns)], rows, [record.role for record in records])


def _gains(record: Record) -> list[float]:
    """Return the interval of the gain, without gains that would lead out of the range of a level."""
    return [min(max(end, -record.behaviour), MAX_LEVEL - record.behaviour) for end in record.gain_interval]


def _estimation(record: Record) -> html.Paragraph | None:
    """Return the estimator's settings in one line."""
    settings = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )
    return html.Paragraph(f"Settings: {settings}.", "note") if settings else None


def served_section(
    evaluation: Evaluation, items: Mapping[ItemId, CatalogueItem] = MappingProxyType({})
) -> html.Section | None:
    """Return the section about the items that every subject serves; `items`: items with a title."""
    if not evaluation.served:
        return None
    rows = [[subject_title(name), *_serving(served, items)] for name, served in evaluation.served.items()]
    head = [
        "subject",
        "counted in",
        "different items",
        "most served, share of impressions",
        "distance to an item",
        "saturated",
    ]
    note = (
        "Roll-out: simulated users get the items one after another. If no user in the log saw an item twice, a user's "
        "earlier items are excluded, as on a server. Log: single impressions of the log. Distance: mean "
        "Euclidean distance of an action to the nearest item. Saturated: share of action coordinates at a bound."
    )
    return html.section(
        "Items served by the policies", html.Paragraph(note, "note"), html.table(head, rows), folded=True
    )


def _serving(served: ServedItems, items: Mapping[ItemId, CatalogueItem]) -> list[Any]:
    top = ", ".join(f"{named(item.item_id, items).title} ({item.share:.1%})" for item in served.top_items[:TOP])
    saturation = "–" if served.action_saturation is None else f"{served.action_saturation:.0%}"
    return [
        served.counted,
        served.distinct_items,
        html.Cell(top, "long"),
        html.number(served.item_distance),
        saturation,
    ]
