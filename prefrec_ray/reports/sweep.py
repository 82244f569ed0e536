"""`prefrec report SWEEP`: verdicts, best settings, scores, and all trials on one page that works offline.

Learning curves of the trials are in TensorBoard: `tensorboard --logdir SWEEP`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from shlex import quote

import yaml
from markupsafe import Markup

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.reports import html
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.load import dataset_name, item_titles, read_judged
from prefrec_ray.reports.sweep_scores import (
    Interval,
    Measure,
    Score,
    Sweep,
    Trial,
    by_setting,
    draw_key,
    mean_of,
    measures,
    seed_interval,
    short,
    users_interval,
)
from prefrec_ray.runs.checkpoints import read_description
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.settings import parse

#: Policies that the first screen shows unfolded: the table of scores is the point of the page.
SHOWN = 3
#: Settings in a table of scores.
MOST_ROWS = 24
#: Columns that trials.csv always has, in addition to the searched keys.
COLUMNS = ("trial", "status", "method", "recipe", "task", "seed", "error")


def is_sweep(uri: str) -> bool:
    return storage.exists(storage.join(uri, "sweep.json"))


def write_sweep_report(uri: str, output: str) -> None:
    """Write the page about the sweep at `uri` to the file `output`.

    Raises `UserError` if `uri` contains no sweep, or one that has not ended.
    """
    page = render(load_sweep(uri))
    storage.write_text(storage.make_room(output), page)


def load_sweep(uri: str) -> Sweep:
    """Load the sweep in the folder `uri`.

    Raises `UserError`: no sweep.json, invalid settings, no trials.csv (the sweep has not ended), another table.
    """
    root = str(uri).rstrip("/")
    file = storage.join(root, "sweep.json")
    description = read_description(file, ("dataset", "settings"))
    settings = parse(TuneSettings, description["settings"], f"{file}: settings")
    trials = _load_trials(root, (*COLUMNS, *settings.search))
    evaluation = storage.join(root, "evaluation.json")
    judged = read_judged(evaluation) if storage.exists(evaluation) else None
    return Sweep(root, str(description["dataset"]), settings, trials, judged)


def _load_trials(root: str, columns: Sequence[str]) -> list[Trial]:
    file = storage.join(root, "trials.csv")
    if not storage.exists(file):
        raise UserError(f"{root}: no trials.csv in it: the sweep has not ended; continue it by prefrec tune --resume")
    head, *rows = list(csv.reader(io.StringIO(storage.read_text(file)))) or [[]]
    for column in columns:
        if column not in head:
            raise UserError(f"{file}: column '{column}' is missing; expected the trials.csv of `prefrec tune`")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise UserError(f"{file}: line {number}: found {len(row)} values; expected {len(head)}")
    if not rows:
        raise UserError(f"{file}: no trial in it; expected one row per trial")
    return [dict(zip(head, row, strict=True)) for row in rows]


def render(sweep: Sweep) -> str:
    """Return the page as HTML."""
    scored = measures(sweep)
    drawn = [
        (figure, f"{measure.title}: {task}, by {key}")
        for measure in scored
        for task in sweep.settings.task
        for key in sweep.settings.search
        if (figure := draw_key(sweep, measure, task, key)) is not None
    ]
    parts = [
        _first(sweep),
        _best(sweep.uri),
        _scores(sweep, scored),
        html.section(f"Scores by {', '.join(sweep.settings.search)}", html.figures(drawn) if drawn else None),
        _trials(sweep.trials),
        _settings(sweep),
    ]
    return html.document(f"Sweep {sweep.uri.rpartition('/')[2]}", parts)


def _first(sweep: Sweep) -> Markup:
    states = [trial["status"] for trial in sweep.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    facts = [("Trained", f"{len(states)} trials: {counts}"), ("Data set", dataset_name(sweep.dataset))]
    if sweep.evaluation is None:
        return first_screen(Evaluation(records=()), facts)
    facts.append(("Evaluated on", f"{sweep.evaluation.split or 'held-out'} users, not used in training"))
    places = [f"{sweep.uri}/policies/{trial['trial']}" for trial in sweep.finished[:1]] + [sweep.dataset]
    return first_screen(sweep.evaluation, facts, item_titles(places, items_shown(sweep.evaluation)), SHOWN)


def _best(uri: str) -> Markup | None:
    """Return the best settings of each task with their score, the command that trains them again, and its YAML."""
    parts = []
    for file in storage.list_files(uri, ".yaml"):
        name = file.rpartition("/")[2]
        if name.startswith("best"):
            score, _, section = storage.read_text(file).partition("\n")
            command = f"prefrec train {quote(f'{uri}/{name}')} --output RUN"
            parts += [html.render("paragraph", score.removeprefix("# ")), html.render("pre", command)]
            parts.append(html.render("details", name, html.render("pre", section)))
    return html.section("Best settings", *parts)


def _scores(sweep: Sweep, scored: Sequence[Measure]) -> Markup | None:
    parts = []
    if sweep.evaluation is None:
        parts.append(html.render("paragraph", "Not evaluated on test users yet, and so without controls. To evaluate:"))
        parts.append(html.render("pre", f"prefrec evaluate {quote(sweep.uri)} --dataset DATASET"))
    if not scored:
        text = "No finished trial has a score: set validation or metric in the sweep, or evaluate it."
        parts.append(html.render("paragraph", text, "note"))
    for measure in scored:
        parts += [html.render("heading", measure.title[0].upper() + measure.title[1:]), _table(sweep, measure)]
        if measure.key in ("model", "preference", "ncis"):
            parts.append(html.render("note", measure.key))
    parts += [html.render("note", name) for name in ("scores", "level") if scored]
    return html.section("Scores by setting and task (the paper's Table 2)", *parts)


def _table(sweep: Sweep, measure: Measure) -> Markup:
    """Return the scores of the best settings and of the controls."""
    settings = by_setting(sweep, measure)
    tasks = [task for task in sweep.settings.task if any(task in row for row in settings.values())]
    best = {
        task: max((row[task] for row in settings.values() if task in row), key=lambda one: measure.sign * mean_of(one))
        for task in tasks
    }
    rows = []
    for name, row in list(settings.items())[:MOST_ROWS]:
        css = ["score best" if row.get(task) is best[task] else "score" for task in tasks]
        cells = [html.Cell(_text(row.get(task, ()), True), one) for task, one in zip(tasks, css, strict=True)]
        rows.append([html.Cell(name, "keys"), *cells])
    roles = ["policy"] * len(rows)
    for name, control in measure.controls.items():
        rows.append([html.Cell(name), *(html.Cell(_text(control.get(task, ()), False), "score") for task in tasks)])
        roles.append("control")
    hidden = len(settings) - MOST_ROWS
    return html.table([f"{hidden} more settings are not shown" if hidden > 0 else "", *tasks], rows, roles)


def _text(scores: Sequence[Score], is_policy: bool) -> str:
    """Return the text of a cell: the mean, then its intervals, each named. A control has one seed."""
    if not scores:
        return "–"
    seeds, users = seed_interval([score.value for score in scores]), users_interval(scores)
    lines = [f"{mean_of(scores):z.4g}"]
    if is_policy:
        lines.append(f"{len(scores)} seeds {_interval(seeds)}" if seeds else "1 seed")
    return "\n".join([*lines, *([f"users {_interval(users)}"] if users else [])])


def _interval(interval: Interval) -> str:
    return f"[{interval[0]:z.4g}, {interval[1]:z.4g}]"


def _trials(trials: Sequence[Trial]) -> Markup | None:
    """Return the errors of failed trials, and trials.csv without its empty columns."""
    failed = [f"{trial['trial']} failed: {trial['error']}" for trial in trials if trial["status"] == "failed"]
    columns = [name for name in trials[0] if name != "error" and any(trial[name] for trial in trials)]
    rows = [[short(trial[name]) or "–" for name in columns] for trial in trials]
    table = html.render("details", f"All {len(rows)} trials with all metrics", html.table(columns, rows))
    return html.section("Trials", *(html.render("paragraph", text, "bad") for text in failed), table)


def _settings(sweep: Sweep) -> Markup | None:
    settings = sweep.settings.model_dump(mode="json", exclude={"dataset"}, exclude_defaults=True, exclude_none=True)
    content = {"dataset": dataset_name(sweep.dataset), **settings}
    return html.section(
        "Settings", html.render("pre", yaml.safe_dump(content, sort_keys=False, default_flow_style=None)), folded=True
    )
