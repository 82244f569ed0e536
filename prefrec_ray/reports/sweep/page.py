"""`prefrec report SWEEP`: Table 2, figures, search, best settings and trials on one page that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from prefrec_ray import storage
from prefrec_ray.evaluation.verdict import vouched
from prefrec_ray.reports import html
from prefrec_ray.reports.catalogue import named_items
from prefrec_ray.reports.first import FirstScreen, first_screen, items_shown
from prefrec_ray.reports.levels import LEVEL
from prefrec_ray.reports.load import dated, days
from prefrec_ray.reports.sensitivity import sensitivity
from prefrec_ray.reports.sweep import figures
from prefrec_ray.reports.sweep.load import FAILED, Sweep, load_sweep
from prefrec_ray.reports.sweep.names import short
from prefrec_ray.reports.sweep.scores import ESTIMATORS, Measure, measures, unknown_policies
from prefrec_ray.reports.sweep.search import parallel, scatter, searches
from prefrec_ray.reports.sweep.table import Row, Table, cell_lines, gain_lines, make_table, markdown, name_of, notes

#: Policies that the first screen shows unfolded: the table of scores is the point of the page.
SHOWN = 3
SEEDS = "Points: mean over seeds; bars: 95 % interval over seeds (Student's t); small dots: the seeds."
BAND = "Lines: mean over seeds; bands: from the lowest to the highest seed, no interval."


def write_sweep_report(uri: str, output: str) -> None:
    """Writes the page about the sweep at `uri` to the file `output`, and its tables as Markdown to table.md beside it.

    Raises `UserError` where `uri` holds no sweep that has ended.
    """
    sweep = load_sweep(uri)
    tables = [make_table(sweep, measure) for measure in measures(sweep)]
    page = render(sweep, tables)
    storage.make_room(output)
    if tables:
        folder = output.rpartition("/")[0] or "."
        storage.write_text(storage.join(folder, "table.md"), "\n".join(markdown(table) for table in tables))
    storage.write_text(output, page)


def render(sweep: Sweep, tables: Sequence[Table]) -> str:
    """The page as HTML."""
    table_measures = [table.measure for table in tables]
    parts = [
        html.Paragraph(_about(sweep), "note"),
        _smoke(sweep),
        _first(sweep),
        _tables(sweep, tables),
        _against_key(sweep, table_measures),
        _combinations(sweep, table_measures),
        sensitivity(vouched(sweep.evaluation).records, folded=True) if sweep.evaluation else None,
        _curves(sweep),
        _search(sweep),
        _best(sweep),
        _trials(sweep),
        _settings(sweep),
    ]
    return html.document(f"Sweep {sweep.name}", parts)


def _first(sweep: Sweep) -> FirstScreen | None:
    if sweep.evaluation is None:
        return None
    trained, judged = (days([f"{sweep.uri}/{name}"]) for name in ("trials.csv", "evaluation.json"))
    facts = [
        ("Trained", dated(f"{len(sweep.finished)} policies", trained)),
        ("On", sweep.dataset_name),
        ("Judged on", dated(f"{sweep.evaluation.split or 'held-out'} users, who were not trained on", judged)),
    ]
    places = [f"{sweep.uri}/policies/{trial.name}" for trial in sweep.finished[:1]] + [sweep.dataset]
    return first_screen(sweep.evaluation, facts, named_items(places, items_shown(sweep.evaluation)), SHOWN)


def _about(sweep: Sweep) -> str:
    settings = sweep.settings
    parts = [
        _count(settings.method, "method"),
        _count(settings.recipe, "recipe"),
        _count(settings.task, "task"),
        _count(settings.seeds, "seed"),
    ]
    states = [trial.status for trial in sweep.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. Data set: {sweep.dataset_name}. {len(states)} trials: {counts}."


def _count(values: Sequence[Any], what: str) -> str:
    return f"{what} {values[0]}" if len(values) == 1 else f"{what}s {', '.join(map(str, values))}"


def _smoke(sweep: Sweep) -> html.Paragraph | None:
    text = "A smoke run: every trial at a hundredth of its size. Its numbers say that everything works, nothing more."
    return html.Paragraph(text, "bad") if sweep.smoke else None


def _tables(sweep: Sweep, tables: Sequence[Table]) -> html.Section | None:
    parts: list[html.Block | None] = []
    if sweep.evaluation is None:
        parts.append(
            html.Paragraph(
                "Not evaluated on test users yet, and so without controls. To do it, then make this report again:"
            )
        )
        parts.append(html.Pre(f"prefrec evaluate {quote(sweep.uri)} --dataset DATASET"))
    if not tables:
        parts.append(
            html.Paragraph("No finished trial has a score: set validation in the sweep, or evaluate it.", "note")
        )
    if strangers := unknown_policies(sweep):
        parts.append(
            html.Paragraph(f"{strangers} policies in evaluation.json are not of this sweep: left out.", "note")
        )
    for table in tables:
        own = html.details(
            "Controls made from each policy",
            html.Paragraph(
                "Own actions shuffled: the same actions, in another order, which know nothing of the state. Session "
                "length only: what the weights of sessions give by their length alone.",
                "note",
            ),
            _table(table, table.own, {}) if table.own else None,
        )
        parts += [
            html.Heading(table.measure.title),
            _table(table, table.rows, table.gains),
            *(html.Paragraph(note, "note") for note in notes(table)),
            own if table.own else None,
        ]
    if any(measure.measure.key in ESTIMATORS for measure in tables):
        parts.insert(0, html.Paragraph(LEVEL, "note"))
    title = "Scores by method and task (the paper's Table 2)" if len(sweep.settings.method) > 1 else "Scores"
    return html.section(title, *parts)


def _table(table: Table, rows: Sequence[Row], gains: Any) -> html.Table:
    lines: list[list[Any]] = []
    for row in rows:
        label = row.label if rows is table.own else name_of(row)
        cells = []
        for column, entry in enumerate(row.cells):
            tone = "score best" if rows is table.rows and table.is_best(row, column) else "score"
            cells.append(html.Cell("\n".join(cell_lines(entry, table.measure, row.role)), tone))
        lines.append([html.Cell(f"{label}\n{row.keys}", "keys") if row.keys else label, *cells])
    classes: list[str] = [row.role for row in rows]
    for label, task_gains in gains.items():
        cells = [html.Cell("\n".join(gain_lines(gain)), "score") for gain in task_gains]
        lines.append([f"{label} against the best baseline", *cells])
        classes.append("gain")
    return html.table(["", *table.tasks], lines, classes)


def _against_key(sweep: Sweep, table_measures: Sequence[Measure]) -> html.Section | None:
    key = figures.single_number(sweep)
    if key is None:
        return None
    parts: list[html.Block] = []
    for measure in table_measures:
        shown = [(figures.against_key(sweep, measure, task, key), task) for task in sweep.tasks]
        parts += _figures(shown, f"{measure.title} against {key}")
    fig = " (the paper's Fig. 8)" if key == "expectile" else ""
    return html.section(f"Score against {key}{fig}", *_explained(parts, SEEDS), folded=True)


def _combinations(sweep: Sweep, table_measures: Sequence[Measure]) -> html.Section | None:
    if figures.single_number(sweep) or not figures.has_combinations(sweep):
        return None
    parts: list[html.Block] = []
    for measure in table_measures:
        shown = [(figures.combinations(sweep, measure, task), task) for task in sweep.tasks]
        parts += _figures(shown, f"{measure.title}, each combination")
    keys = " and ".join(sweep.settings.search)
    return html.section(f"Combinations of {keys} (as the paper's Fig. 9)", *_explained(parts, SEEDS), folded=True)


def _curves(sweep: Sweep) -> html.Section | None:
    parts: list[html.Block] = []
    for key, (title, _) in ESTIMATORS.items():
        shown = [(figures.learning_curves(sweep, task, f"validation/{key}", title), task) for task in sweep.tasks]
        parts += _figures(shown, f"{title} on validation users over training")
    return html.section("Learning curves (the paper's Fig. 5)", *_explained(parts, BAND), folded=True)


def _figures(shown: Sequence[tuple[Any, str]], title: str) -> list[html.Block]:
    """Those figures that there are, under their common title."""
    drawn = [(figure, f"{title}: {task}") for figure, task in shown if figure is not None]
    return [html.Heading(title), html.figures(drawn, captions=False)] if drawn else []


def _explained(parts: Sequence[html.Block], text: str) -> list[html.Block]:
    return [html.Paragraph(text, "note"), *parts] if parts else []


def _search(sweep: Sweep) -> html.Section | None:
    parts: list[html.Block] = []
    for search in searches(sweep):
        best = search.best
        outcome = f"best: {best.name}, {search.value(best):.4g}" if best else "no trial finished"
        name = f"{search.method}, {search.task}"
        title = f"{name}: {len(search.trials)} trials by {search.metric}; {outcome}"
        caption = f"{name}: every trial, from its keys to {search.metric}"
        panels = [(scatter(search, key), f"{name}: {search.metric} against {key}") for key in search.spaces]
        parts += [
            html.Heading(title),
            html.figures([(parallel(search), caption)], wide=True),
            html.figures(panels, captions=False),
        ]
    text = (
        "A line or dot is a trial, one seed each. Orange: the best finished one; the darker a line, the better; "
        "grey: stopped early by the scheduler, with its value at that time."
    )
    return html.section("Search", *_explained(parts, text), folded=True)


def _best(sweep: Sweep) -> html.Section | None:
    parts = [
        html.Pre(content)
        for name, text in sorted(sweep.best.items())
        for content in (f"prefrec train {quote(f'{sweep.uri}/{name}')} --output RUN", text)
    ]
    return html.section("Best settings", *parts, folded=True)


def _trials(sweep: Sweep) -> html.Section | None:
    keys = list(sweep.settings.search)
    wanted = [
        sweep.settings.metric,
        *(f"validation/{name}" for name in ("online", "model", "preference", "fqe", "ncis", "ess")),
        "time_total_s",
    ]
    columns = [c for c in dict.fromkeys(wanted) if c and any(t.figures.get(c) is not None for t in sweep.trials)]
    rows = [
        [
            *(trial.name, trial.status, trial.setting.method, trial.setting.recipe, trial.task, str(trial.seed)),
            *(short(trial.keys.get(key, "–")) for key in keys),
            *("–" if (value := trial.figures.get(column)) is None else value for column in columns),
        ]
        for trial in sweep.trials
    ]
    head = ["trial", "status", "method", "recipe", "task", "seed", *keys, *columns]
    failed = [html.Paragraph(f"{t.name} failed: {t.error}", "bad") for t in sweep.trials if t.status == FAILED]
    return html.section("Trials", *failed, html.details(f"All {len(rows)} trials", html.table(head, rows)))


def _settings(sweep: Sweep) -> html.Section | None:
    settings = sweep.settings.model_dump(mode="json", exclude={"dataset", "storage_path"}, exclude_defaults=True)
    rows = [["dataset", sweep.dataset_name]]
    for key, value in settings.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        rows += [[f"{key}.{name}" if name else key, _plain(one)] for name, one in inner]
    return html.section("Settings", html.table(["setting", "value"], rows), folded=True)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
