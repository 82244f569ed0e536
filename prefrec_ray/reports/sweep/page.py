"""`prefrec report SWEEP`: best settings, Table 2, figures and trials on one page that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrec_ray import storage
from prefrec_ray.reports import html
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.load import dated, days, item_titles
from prefrec_ray.reports.sweep import figures
from prefrec_ray.reports.sweep.load import FAILED, Sweep, load_sweep, short
from prefrec_ray.reports.sweep.scores import ESTIMATORS, Measure, measures, metric_of, own_columns, unknown_policies
from prefrec_ray.reports.sweep.table import SweepTable, make_table
from prefrec_ray.reports.terms import LEVEL
from prefrec_ray.runs.columns import SCORES

#: Policies that the first screen shows unfolded: the table of scores is the point of the page.
SHOWN = 3
POINTS = (
    "Lines: mean over seeds; bars: 95 % interval over seeds (Student's t); small dots: the seeds. In a "
    "search every dot is a trial. Orange: the best one; grey: stopped early by the scheduler, with its last value."
)
BAND = "Lines: mean over seeds, at most the eight best at the end; bands: from the lowest to the highest seed."


def write_sweep_report(uri: str, output: str) -> None:
    """Write the page about the sweep at `uri` to the file `output`.

    Raises `UserError` if `uri` contains no sweep, or one that has not ended.
    """
    page = render(load_sweep(uri))
    storage.write_text(storage.make_room(output), page)


def render(sweep: Sweep) -> str:
    """Return the page as HTML."""
    scored = measures(sweep)
    parts = [
        html.paragraph(_about(sweep), "note"),
        _first(sweep),
        _best(sweep),
        _tables(sweep, [make_table(sweep, measure) for measure in scored]),
        _by_keys(sweep, scored),
        _curves(sweep),
        _trials(sweep),
        _settings(sweep),
    ]
    return html.document(f"Sweep {sweep.name}", parts)


def _first(sweep: Sweep) -> Markup | None:
    if sweep.evaluation is None:
        return None
    trained, judged = (days([f"{sweep.uri}/{name}"]) for name in ("trials.csv", "evaluation.json"))
    facts = [
        ("Trained", dated(f"{len(sweep.finished)} policies", trained)),
        ("On", sweep.dataset_name),
        ("Judged on", dated(f"{sweep.evaluation.split or 'held-out'} users, not used in training", judged)),
    ]
    places = [f"{sweep.uri}/policies/{trial.name}" for trial in sweep.finished[:1]] + [sweep.dataset]
    return first_screen(sweep.evaluation, facts, item_titles(places, items_shown(sweep.evaluation)), SHOWN).render()


def _about(sweep: Sweep) -> str:
    settings = sweep.settings
    parts = []
    for what, values in (
        ("method", settings.method),
        ("recipe", settings.recipe),
        ("task", settings.task),
        ("seed", settings.seeds),
    ):
        parts.append(f"{what}{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}")
    states = [trial.status for trial in sweep.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. Data set: {sweep.dataset_name}. {len(states)} trials: {counts}."


def _tables(sweep: Sweep, tables: Sequence[SweepTable]) -> Markup | None:
    parts = []
    if any(table.measure.metric.is_level for table in tables):
        parts.append(html.paragraph(LEVEL, "note"))
    if sweep.evaluation is None:
        parts.append(html.paragraph("Not evaluated on test users yet, and so without controls. To evaluate:"))
        parts.append(html.pre(f"prefrec evaluate {quote(sweep.uri)} --dataset DATASET"))
    if not tables:
        text = "No finished trial has a score: set validation or metric in the sweep, or evaluate it."
        parts.append(html.paragraph(text, "note"))
    if strangers := unknown_policies(sweep):
        text = f"{strangers} policies in evaluation.json are not of this sweep and are excluded."
        parts.append(html.paragraph(text, "note"))
    for table in tables:
        parts += [html.heading(table.measure.title), _table(table)]
        parts += [html.paragraph(note, "note") for note in table.notes]
    title = "Scores by method and task (the paper's Table 2)" if len(sweep.settings.method) > 1 else "Scores"
    return html.section(title, *parts)


def _table(table: SweepTable) -> Markup:
    rows = []
    for line in table.lines:
        cells = [
            html.Cell("\n".join(texts), "score best" if best else "score")
            for texts, best in zip(line.texts, line.best, strict=True)
        ]
        rows.append([html.Cell(f"{line.name}\n{line.keys}", "keys") if line.keys else line.name, *cells])
    return html.table(["", *table.tasks], rows, [line.role for line in table.lines])


def _by_keys(sweep: Sweep, scored: Sequence[Measure]) -> Markup | None:
    drawn = [
        (figure, f"{measure.title}: {text}")
        for measure in scored
        for task in sweep.tasks
        for figure, text in figures.by_keys(sweep, measure, task)
    ]
    return _drawn(f"Scores by {', '.join(sweep.settings.search)}", drawn, POINTS)


def _curves(sweep: Sweep) -> Markup | None:
    drawn = []
    for column in (*(f"validation/{key}" for key in ESTIMATORS), *own_columns(sweep)):
        users = " on validation users" if column.startswith("validation/") else ""
        for task in sweep.tasks:
            figure = figures.learning_curves(sweep, task, column)
            if figure is not None:
                drawn.append((figure, f"{metric_of(column).title}{users} over training: {task}"))
    return _drawn("Learning curves (the paper's Fig. 5)", drawn, BAND, folded=True)


def _drawn(title: str, drawn: Sequence[tuple[Figure, str]], explained: str, folded: bool = False) -> Markup | None:
    parts = [html.paragraph(explained, "note"), html.figures(drawn)] if drawn else []
    return html.section(title, *parts, folded=folded)


def _best(sweep: Sweep) -> Markup | None:
    """Return the best settings of each task with their score, the command that trains them again, and its YAML."""
    parts = []
    for name, text in sorted(sweep.best.items()):
        first, _, section = text.partition("\n")
        command = f"prefrec train {quote(f'{sweep.uri}/{name}')} --output RUN"
        parts += [html.paragraph(first.removeprefix("# ")), html.pre(command), html.details(name, html.pre(section))]
    return html.section("Best settings", *parts)


def _trials(sweep: Sweep) -> Markup | None:
    keys = list(sweep.settings.search)
    first = [sweep.settings.ranking[0]] if sweep.settings.ranking else []
    names = dict.fromkeys([*first, *own_columns(sweep), *SCORES, *sweep.trials[0].metrics])
    columns = [name for name in names if any(trial.metrics.get(name) is not None for trial in sweep.trials)]
    rows = [
        [
            *(trial.name, trial.status, trial.method, trial.recipe, trial.task, str(trial.seed)),
            *(short(trial.keys.get(key, "–")) for key in keys),
            *(html.Cell(_number(trial.metrics.get(column)), "number") for column in columns),
        ]
        for trial in sweep.trials
    ]
    head = ["trial", "status", "method", "recipe", "task", "seed", *keys, *columns]
    failed = [html.paragraph(f"{t.name} failed: {t.error}", "bad") for t in sweep.trials if t.status == FAILED]
    title = f"All {len(rows)} trials with all metrics"
    return html.section("Trials", *failed, html.details(title, html.table(head, rows)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _settings(sweep: Sweep) -> Markup | None:
    settings = sweep.settings.model_dump(mode="json", exclude={"dataset"}, exclude_defaults=True, exclude_none=True)
    text = yaml.safe_dump({"dataset": sweep.dataset_name, **settings}, sort_keys=False, default_flow_style=None)
    return html.section("Settings", html.pre(text), folded=True)
