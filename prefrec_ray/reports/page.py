"""`prefrec report`: everything about one or several runs on one page that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.names import subject_title
from prefrec_ray.evaluation.records import Evaluation, Record, Served
from prefrec_ray.reports import figures, html
from prefrec_ray.reports.levels import LEVEL, level_shares
from prefrec_ray.reports.load import Run, load_evaluation, load_runs
from prefrec_ray.reports.sensitivity import sensitivity
from prefrec_ray.reports.separation import calibration, separation
from prefrec_ray.reports.sweep.load import is_sweep
from prefrec_ray.reports.sweep.page import write_sweep_report
from prefrec_ray.reports.teachers import teachers_section
from prefrec_ray.reports.verdict import verdict

ESTIMATORS = {
    "online": ("true level, by roll-outs in the simulator", "level against the users' own logged averages"),
    "dr": ("doubly robust, estimated from the log", "mean level of this and later sessions"),
    "fqe": ("fitted-Q evaluation, estimated from the log", "mean level of this and later sessions"),
    "ncis": ("NCIS, estimated from the log", "level (ranks policies; its size is biased)"),
}
MEASURED = {"online": "true level", "dr": "doubly robust", "fqe": "fitted-Q", "ncis": "NCIS"}
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
CURVES = (
    ("values/reward_mean", "Mean reward", "reward of a request"),
    ("values/q_mean", "Mean Q", "discounted reward"),
    ("values/v_mean", "Mean V", "discounted reward"),
    ("losses/value_loss", "Loss of V (Eq. 9)", "expectile loss"),
    ("losses/qf_loss", "Loss of Q (Eq. 6)", "squared error"),
    ("losses/actor_loss", "Loss of the actor (Eq. 10)", "-Q"),
    ("policy/action_saturation", "Saturated action coordinates", "share"),
    ("policy/item_distance", "Distance of actions to the nearest item", "Euclidean"),
    ("policy/items_served", "Distinct items served", "items"),
    ("transitions_per_second", "Speed", "transitions / s"),
)


def write_report(uris: Sequence[str], output: str) -> None:
    """Writes the page about the runs at or below `uris`, or about the one sweep there, to the file `output`.

    Raises `UserError` where none is.
    """
    if len(uris) == 1 and is_sweep(uris[0]):
        write_sweep_report(uris[0], output)
        return
    runs = load_runs(uris)
    storage.write_text(storage.make_room(output), render(runs, load_evaluation(uris, runs)))


def render(runs: Sequence[Run], evaluation: Evaluation) -> str:
    """The page as HTML."""
    tasks = list(dict.fromkeys(str(run.config["task"]) for run in runs))
    title = f"Policies for {' and '.join(tasks)}"
    names = ", ".join(run.label for run in runs)
    head = f"<h1>{escape(title)}</h1>{html.paragraph(names, 'note')}"
    parts = [
        head,
        _verdicts(evaluation),
        _evaluation(evaluation),
        sensitivity(evaluation.records),
        _served(evaluation),
        teachers_section(runs),
        _reward(runs),
        _curves(runs),
        _levels(runs),
        _settings(runs),
    ]
    return html.document(title, "\n".join(part for part in parts if part))


def _verdicts(evaluation: Evaluation) -> str:
    rows, order = [], list(MEASURED)
    for record in sorted(evaluation.records, key=lambda r: (r.task, order.index(r.estimator))):
        if record.role == "policy":
            said = verdict(record, evaluation.of(record.task, record.estimator), evaluation.served)
            rows.append(
                [
                    record.title,
                    html.Cell(said.text, said.tone),
                    record.task,
                    MEASURED[record.estimator],
                    html.number(record.value),
                    html.interval(record.ci_low, record.ci_high),
                    html.number(record.behaviour),
                ]
            )
    if not rows:
        return html.section(
            "Verdict", html.paragraph("Not evaluated yet: run prefrec evaluate, then this report again.")
        )
    head = ["policy", "verdict", "task", "measured by", "level", "95 % interval", "logging policy"]
    sentences = [
        html.paragraph(f"{task}, {MEASURED[estimator]}: {text}")
        for task in evaluation.tasks
        for estimator in MEASURED
        if (text := separation(evaluation.of(task, estimator)))
    ]
    return html.section("Verdict", html.table(head, rows), html.paragraph(LEVEL, "note"), *sentences)


def _evaluation(evaluation: Evaluation) -> str:
    parts = []
    for task in evaluation.tasks:
        for estimator, (title, unit) in ESTIMATORS.items():
            records = sorted(evaluation.of(task, estimator), key=lambda record: -record.value)
            if records:
                forest = figures.forest(records, f"{task}: {title}", unit)
                parts += [
                    html.figures([(forest, f"{task}, {estimator}: {LEGEND}")]),
                    _records(records),
                    html.paragraph(calibration(records)) if calibration(records) else "",
                    _estimation(records[0]),
                ]
    return html.section("Evaluation and its controls", *parts)


def _records(records: Sequence[Record]) -> str:
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


def _estimation(record: Record) -> str:
    """The estimator's settings in a line."""
    settings = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.settings.items()
    )
    return html.paragraph(f"Settings: {settings}.", "note") if settings else ""


def _served(evaluation: Evaluation) -> str:
    if not evaluation.served:
        return ""
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
    return html.section(
        "What the policies serve", html.paragraph(note, "note"), _fixed_choice(evaluation), html.table(head, rows)
    )


def _fixed_choice(evaluation: Evaluation) -> str:
    """What policies risk that always serve the items of the largest score."""
    always = dict.fromkeys(
        record.title
        for record in evaluation.records
        if record.role == "policy" and (record.provenance or {}).get("rule") == "best"
    )
    if not always:
        return ""
    return html.paragraph(
        f"Always the items of the largest score: {', '.join(always)}. No log says what the same few items do in hours; "
        "where users tire of them this harms, and the next log holds nothing else to learn from "
        "(serving: {rule: sample} draws items)."
    )


def _serving(served: Served) -> list[Any]:
    top = ", ".join(f"{item.item_id} ({item.share:.1%})" for item in served.top_items[:5])
    saturation = "–" if served.action_saturation is None else f"{served.action_saturation:.0%}"
    return [served.distinct_items, top, html.number(served.item_distance), saturation]


def _reward(runs: Sequence[Run]) -> str:
    drawn = [run for run in runs if any(f"reward/accuracy_{kind}" in run.curves for kind, _ in figures.KINDS)]
    if not drawn:
        return ""
    accuracies = [
        (figures.reward_accuracy(run), f"Reward accuracy over {_learning(run)}, {run.label} (the paper's Fig. 6)")
        for run in drawn
    ]
    losses = [
        (figures.reward_loss(run), f"Reward loss over {_learning(run)}, {run.label} (the paper's Fig. 7)")
        for run in drawn
    ]
    note = (
        "Pairs across users mostly ask which user is the more active one; "
        "pairs within a user ask what the recommendations did."
    )
    return html.section("Reward model", html.paragraph(note, "note"), html.figures(accuracies), html.figures(losses))


def _learning(run: Run) -> str:
    """When the run's reward learns."""
    tuned = (run.config.get("resolved") or {}).get("finetune_reward", True)
    return "pre-training and fine-tuning" if tuned else "pre-training; it stays as it is while the policy learns"


def _curves(runs: Sequence[Run]) -> str:
    drawn = [(figures.learning_curve(runs, column, title, unit), title) for column, title, unit in CURVES]
    return html.section(
        "Learning curves",
        html.figures([(figure, title) for figure, title in drawn if figure is not None], captions=False),
    )


def _levels(runs: Sequence[Run]) -> str:
    shown = []
    missing = []
    uris = list(dict.fromkeys(str(run.config["dataset"]) for run in runs))
    for uri in uris:
        try:
            shares = level_shares(uri)
        except UserError:
            missing.append(uri)
            continue
        name = f", {uri}" if len(uris) > 1 else ""
        shown += [
            (figures.levels(share, kind), f"Sessions at each level in {kind}{name} (the paper's Fig. 4)")
            for kind, share in shares.items()
        ]
    notes = [
        html.paragraph(f"{uri}: the data set is not there any more, so its levels are not drawn.", "note")
        for uri in missing
    ]
    return html.section("Engagement in the logs", html.figures(shown) if shown else "", *notes)


def _settings(runs: Sequence[Run]) -> str:
    columns = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, "–") for column in columns)] for key in keys]
    return html.section("Settings", html.table(["setting", *(run.label for run in runs)], rows))


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """The top keys, then every resolved key of the method; what a run set by itself is among the resolved ones."""
    top = {key: str(value) for key, value in config.items() if not isinstance(value, dict)}
    resolved = config.get("resolved") or config.get("config") or {}
    return top | {key: str(value) for key, value in resolved.items() if key not in top}
