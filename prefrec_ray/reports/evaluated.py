"""Sections about an evaluation: all estimators with their controls, and the items that policies serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from markupsafe import Markup

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.names import subject_title
from prefrec_ray.evaluation.results.records import Evaluation, Record, placebo_bias
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.load import ItemId, title_of
from prefrec_ray.reports.terms import LEVEL

ESTIMATORS = {
    "online": ("true level, by roll-outs in the simulator", "mean level (0 to 5)"),
    "model": ("roll-outs in a model of the users, fitted to the log", "mean level (0 to 5)"),
    "dr": ("doubly robust, from the log", "mean level (0 to 5) of this and later sessions"),
    "fqe": ("fitted-Q evaluation, from the log", "mean level (0 to 5) of this and later sessions"),
    "weights": ("importance weights over items, from the log", "mean level (0 to 5) of one session"),
    "sips": ("SIPS: importance weights over pages, from the log", "mean level (0 to 5) of one session"),
    "rips": ("RIPS: the same over items from the top of a page", "mean level (0 to 5) of one session"),
    "iips": ("IIPS: the same over independent items of a page", "mean level (0 to 5) of one session"),
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


def evaluation_section(evaluation: Evaluation) -> Markup | None:
    """Return one figure and one table per task and estimator, with controls and with policies that are too close."""
    parts = []
    for task in evaluation.tasks:
        for estimator in dict.fromkeys([*ESTIMATORS, *(record.estimator for record in evaluation.records)]):
            title, unit = ESTIMATORS.get(estimator, (estimator, "mean level (0 to 5)"))
            records = sorted(evaluation.select(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {title}", unit)
                parts += [html.figures([(forest, f"{task}, {estimator}: {LEGEND}")]), _records(records)]
                parts += [html.paragraph(text) for text in (separation(records), calibration(records)) if text]
                parts += [html.paragraph(f"Settings: {text}.", "note") for text in (_settings(records[0]),) if text]
    if not parts:
        return None
    return html.section("Evaluation and its controls", html.paragraph(LEVEL, "note"), *parts, folded=True)


def _records(records: Sequence[Record]) -> Markup:
    columns = [column for column in COLUMNS if any(getattr(record, column[1]) is not None for record in records)]
    rows = [
        [
            record.title,
            record.kind,
            html.number(record.value, 3),
            _interval(*figures.in_range(record.ci_low, record.ci_high)),
            _interval(*_gains(record)),
            *("–" if (value := getattr(record, key)) is None else form.format(value) for _, key, form in columns),
        ]
        for record in records
    ]
    head = ["subject", "role", "level", "95 % interval", "gain over the logging policy, 95 %"]
    return html.table([*head, *(name for name, _, _ in columns)], rows, [record.role for record in records])


def _interval(low: float, high: float) -> html.Cell:
    return html.Cell(f"[{low:z.2f}, {high:z.2f}]", "interval")


def _gains(record: Record) -> list[float]:
    """Return the interval of the gain, without gains that would lead out of the range of a level."""
    return [min(max(end, -record.behaviour), MAX_LEVEL - record.behaviour) for end in record.gain_interval]


def _settings(record: Record) -> str:
    """Return the estimator's settings in one line."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )


def separation(records: Sequence[Record]) -> str:
    """Return a sentence with the policies that the data cannot separate from the best one, by the interval of its lead.

    Empty without two policies, without intervals, or without a record of the best policy.
    """
    behind = [(record, record.behind_ci_low) for record in records if record.behind_ci_low is not None]
    if not behind or behind[0][0].best not in {record.subject for record in records}:
        return ""
    first = behind[0][0]
    alike = sorted((record for record, low in behind if low <= 0), key=lambda record: -record.value)
    single = first.estimator in ("fqe", "dr") and first.settings.get("networks", 1) == 1
    more = " The interval does not contain the network's own error: ignore a small lead." if single else ""
    if not alike:
        return f"{first.best} scores highest, and the interval of its lead over every other policy is above 0.{more}"
    listed = _listed(
        [f"{record.title} ({record.behind_ci_low:+.2f} to {record.behind_ci_high:+.2f})" for record in alike]
    )
    text = f"{first.best} scores highest, but the data cannot separate it from {listed}"
    return f"{text}: the 95 % interval of the difference, user by user, contains 0.{more}"


def calibration(records: Sequence[Record]) -> str:
    """Return a sentence with the distances of the negative controls from the logging policy.

    Empty without negative controls, and for true values: random items may truly be better than the logged ones.
    """
    bias = placebo_bias(records)
    if not bias or records[0].estimator == "online":
        return ""
    listed = _listed([f"{subject_title(name)} {value:+.1f}" for name, value in bias.items()])
    worst = max(abs(value) for value in bias.values())
    meaning = (
        "An estimator that returns the logging policy's value for every subject has the same distances, so this does "
        "not "
        "show that the values of policies are accurate."
        if worst <= 1
        else "Gains of this size may be bias."
    )
    return (
        f"Negative controls against the logging policy's value, in half-widths of their intervals: {listed}; "
        f"at most {worst:.1f}. {meaning}"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def served_section(evaluation: Evaluation, titles: Mapping[ItemId, str] = MappingProxyType({})) -> Markup | None:
    """Return the section about the items that every subject serves; `titles`: of items that have one."""
    if not evaluation.served:
        return None
    head = ["subject", "counted in", "different items", "most served, share of impressions"]
    rows = []
    for name, served in evaluation.served.items():
        top = ", ".join(f"{title_of(item.item_id, titles)} ({item.share:.1%})" for item in served.top_items[:TOP])
        saturation = "–" if served.action_saturation is None else f"{served.action_saturation:.0%}"
        counts = [served.counted, served.distinct_items, html.Cell(top, "long")]
        rows.append([subject_title(name), *counts, html.number(served.item_distance), saturation])
    note = (
        "Roll-out: simulated users get the items one after another. If no user in the log saw an item twice, a user's "
        "earlier items are excluded, as on a server. Log: single impressions of the log. Distance: mean "
        "Euclidean distance of an action to the nearest item. Saturated: share of action coordinates at a bound."
    )
    table = html.table([*head, "distance to an item", "saturated"], rows)
    return html.section("Items served by the policies", html.paragraph(note, "note"), table, folded=True)
