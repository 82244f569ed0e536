"""Section about an evaluation: all estimators with their controls."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.names import subject_title
from prefrec_ray.evaluation.results.records import Evaluation, Record, placebo_bias
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.terms import TITLES

#: Columns of the evaluation's table that only some records have.
COLUMNS = ("behaviour", "ess", "mean_depth", "mean_revisit_hours", "mean_satisfaction", "users", "sessions")


def evaluation_section(evaluation: Evaluation) -> Markup | None:
    """Return one figure and one table per task and estimator, with controls."""
    parts = []
    for task in evaluation.tasks:
        for estimator in dict.fromkeys([*TITLES, *(record.estimator for record in evaluation.records)]):
            records = sorted(evaluation.select(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {TITLES.get(estimator, estimator)}", "mean level (0 to 5)")
                parts += [
                    html.figures([(forest, f"{task}, {estimator}: value and 95 % interval over users")]),
                    _records(records),
                ]
                if settings := _settings(records[0]):
                    parts.append(html.render("paragraph", f"Settings: {settings}.", "note"))
    if not parts:
        return None
    notes = [html.render("note", name) for name in ("level", "evaluation")]
    return html.section("Evaluation and its controls", *notes, *parts, folded=True)


def _records(records: Sequence[Record]) -> Markup:
    """Return the table of the records of one task and estimator. True values have no bias."""
    bias = {} if records[0].estimator == "online" else placebo_bias(records)
    known = [key for key in COLUMNS if any(getattr(record, key) is not None for record in records)]
    rows = [
        [
            record.title,
            record.kind,
            f"{record.value:.3f}",
            _interval(*figures.in_range(record.ci_low, record.ci_high)),
            _interval(*_gains(record)),
            _interval(record.behind_ci_low, record.behind_ci_high),
            f"{bias[record.subject]:+.1f}" if record.subject in bias else "–",
            *("–" if (value := getattr(record, key)) is None else value for key in known),
        ]
        for record in records
    ]
    head = ["subject", "role", "level", "95 % interval", "gain over the logging policy, 95 %", "lead of the best, 95 %"]
    head += ["bias, half-widths", *(subject_title(key).replace("_", " ") for key in known)]
    return html.table(head, rows, [record.role for record in records])


def _interval(low: float | None, high: float | None) -> html.Cell:
    return html.Cell("–" if low is None or high is None else f"[{low:z.2f}, {high:z.2f}]", "interval")


def _gains(record: Record) -> list[float]:
    """Return the interval of the gain, without gains that would lead out of the range of a level."""
    return [min(max(end, -record.behaviour), MAX_LEVEL - record.behaviour) for end in record.gain_interval]


def _settings(record: Record) -> str:
    """Return the estimator's settings in one line."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )
