"""`prefrec report SWEEP`: verdicts, best settings, a table of scores and two figures on one page that works offline.

Curves of the trials are in TensorBoard (`tensorboard --logdir SWEEP`), all their metrics in trials.csv.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import TITLES
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.scores import mean_error
from prefrec_ray.reports import html
from prefrec_ray.reports.figures import COLOURS, legend, panel
from prefrec_ray.reports.first import first_screen, items_shown
from prefrec_ray.reports.load import dataset_name, item_titles, read_judged
from prefrec_ray.runs.checkpoints import read_description
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.settings import parse

#: Policies that the first screen shows unfolded: the table of scores is the point of the page.
SHOWN = 3
#: Searched keys with a figure.
FIGURES = 2
#: Columns that trials.csv always has, in addition to the searched keys.
COLUMNS = ("trial", "status", "method", "recipe", "task", "seed", "error")

#: A row of trials.csv.
Trial = Mapping[str, str]


@dataclass(frozen=True)
class Sweep:
    """The folder of a sweep. evaluation: empty without evaluation.json."""

    uri: str
    dataset: str
    settings: TuneSettings
    trials: Sequence[Trial]
    evaluation: Evaluation

    def setting(self, trial: Trial) -> str:
        """Return what the seeds of a trial share: method and recipe if several are in the sweep, and searched keys."""
        keys = [f"{key}={_short(trial[key])}" for key in self.settings.spaces_of(trial["method"])]
        method = [trial["method"]] if len(self.settings.method) > 1 or not keys else []
        recipe = [trial["recipe"]] if len(self.settings.recipe) > 1 else []
        return " ".join([*method, *recipe, *keys])


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
    judged = read_judged(evaluation) if storage.exists(evaluation) else Evaluation(records=())
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


def scores_of(sweep: Sweep) -> dict[str, dict[str, float]]:
    """Return title -> trial -> score: on evaluated users, else on validation users, else the metric of the sweep.

    Raises `UserError` for an evaluation of other policies, and for a score that is not a number.
    """
    if sweep.evaluation.records:
        names, titles = {trial["trial"] for trial in sweep.trials}, {}
        for estimator, title in TITLES.items():
            records = (record for record in sweep.evaluation.records if record.estimator == estimator)
            policies = ((record.bundle or "", record.value) for record in records if record.role == "policy")
            scores = {uri.rstrip("/").rpartition("/")[2]: value for uri, value in policies}
            titles[title] = {name: value for name, value in scores.items() if name in names}
        if not any(titles.values()):
            raise UserError(
                f"{sweep.uri}/evaluation.json: none of its policies is a trial of this sweep; "
                f"evaluate them by: prefrec evaluate {sweep.uri} --dataset {sweep.dataset}"
            )
    else:
        columns = {f"{title} on validation users": f"validation/{name}" for name, title in TITLES.items()}
        titles = {title: _column(sweep, column) for title, column in columns.items()}
        if not any(titles.values()) and sweep.settings.ranking is not None:
            column = sweep.settings.ranking[0]
            titles = {f"{column} at the end of training": _column(sweep, column)}
    return {title: scores for title, scores in titles.items() if scores}


def _column(sweep: Sweep, column: str) -> dict[str, float]:
    values = {trial["trial"]: trial.get(column) for trial in sweep.trials if trial["status"] != "failed"}
    try:
        return {name: float(value) for name, value in values.items() if value}
    except ValueError as error:
        raise UserError(f"{sweep.uri}/trials.csv: column '{column}': {error}; expected numbers") from error


def render(sweep: Sweep) -> str:
    """Return the page as HTML."""
    scored = scores_of(sweep)
    failed = [f"{trial['trial']} failed: {trial['error']}" for trial in sweep.trials if trial["status"] == "failed"]
    parts = [
        _first(sweep),
        _best(sweep.uri),
        _scores(sweep, scored),
        html.section("Failed trials", *(html.render("paragraph", text, "bad") for text in failed)),
    ]
    return html.document(f"Sweep {sweep.uri.rpartition('/')[2]}", parts)


def _first(sweep: Sweep) -> Markup:
    states = [trial["status"] for trial in sweep.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    facts = [("Trained", f"{len(states)} trials: {counts}"), ("Data set", dataset_name(sweep.dataset))]
    if sweep.evaluation.records:
        facts.append(("Evaluated on", f"{sweep.evaluation.split or 'held-out'} users, not used in training"))
    finished = [trial["trial"] for trial in sweep.trials if trial["status"] == "finished"]
    places = [*(f"{sweep.uri}/policies/{name}" for name in finished[:1]), sweep.dataset]
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


def _scores(sweep: Sweep, scored: Mapping[str, Mapping[str, float]]) -> Markup | None:
    parts: list[Markup | None] = []
    if not sweep.evaluation.records:
        parts.append(html.render("paragraph", "Not evaluated on test users yet, and so without controls. To evaluate:"))
        parts.append(html.render("pre", f"prefrec evaluate {quote(sweep.uri)} --dataset DATASET"))
    if not scored:
        text = "No finished trial has a score: set validation or metric in the sweep, or evaluate it."
        return html.section("Scores", *parts, html.render("paragraph", text, "note"))
    drawn = [
        (figure, f"{next(iter(scored))} by {key}")
        for key in list(sweep.settings.search)[:FIGURES]
        if (figure := draw_key(sweep, scored, key)) is not None
    ]
    figures = html.figures(drawn) if drawn else None
    notes = [html.render("note", name) for name in ("scores", "level")]
    return html.section("Scores", _table(sweep, scored), *notes, *parts, figures)


def _table(sweep: Sweep, scored: Mapping[str, Mapping[str, float]]) -> Markup:
    """Return the table of scores: per task the best settings and controls first, means over seeds."""
    cells: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for trial in sweep.trials:
        for title in scored if trial["status"] == "finished" else ():
            row = cells.setdefault((trial["task"], sweep.setting(trial), "policy"), {title: [] for title in scored})
            row[title] += [scored[title][trial["trial"]]] if trial["trial"] in scored[title] else []
    for record in sweep.evaluation.records:
        title = TITLES.get(record.estimator, "")
        if record.role != "policy" and record.bundle is None and title in scored:
            name = (record.task, f"{record.title} ({record.kind})", "control")
            cells.setdefault(name, {title: [] for title in scored})[title].append(record.value)
    least = not sweep.evaluation.records and sweep.settings.ranking is not None and sweep.settings.ranking[1] < 0

    def order(name: tuple[str, str, str]) -> tuple[str, float]:
        first = cells[name][next(iter(scored))]
        mean = float(np.mean(first)) if first else np.inf
        return name[0], mean if least or not first else -mean

    names = sorted(cells, key=order)
    rows = [
        [html.Cell(setting, "keys"), task, max(map(len, cells[task, setting, role].values()))]
        + [_mean(values) for values in cells[task, setting, role].values()]
        for task, setting, role in names
    ]
    return html.table(["settings", "task", "seeds", *scored], rows, [role for *_, role in names])


def _mean(values: Sequence[float]) -> html.Cell:
    """Return the mean of one value per seed, and the half-width of its 95 % interval by Student's t."""
    if not values:
        return html.Cell("–")
    half = f" ± {float(mean_error(np.asarray(values))):.2g}" if len(values) > 1 else ""
    return html.Cell(f"{np.mean(values):z.4g}{half}", "score")


def draw_key(sweep: Sweep, scored: Mapping[str, Mapping[str, float]], key: str) -> Figure | None:
    """Draw the first score of all trials by a searched key, one color per method and task; None without two values."""
    title, scores = next(iter(scored.items()))
    groups: dict[str, list[Trial]] = {}
    for trial in sweep.trials:
        if trial["trial"] in scores and trial[key]:
            groups.setdefault(f"{trial['method']}, {trial['task']}", []).append(trial)
    values = list(dict.fromkeys(trial[key] for trials in groups.values() for trial in trials))
    if len(values) < 2:
        return None
    figure, axes = panel("", key, title, width=4.5, height=3.1)
    try:
        places = {value: float(value) for value in values}
    except ValueError:  # words have even steps
        places = {value: float(place) for place, value in enumerate(values)}
        axes.set_xticks(list(places.values()), values)
    if min(places.values()) > 0 and max(places.values()) >= 50 * min(places.values()):
        axes.set_xscale("log")
    for number, (name, trials) in enumerate(groups.items()):
        at, levels = [places[trial[key]] for trial in trials], [scores[trial["trial"]] for trial in trials]
        axes.plot(at, levels, "o", ms=5, mec="none", color=COLOURS[number % len(COLOURS)], alpha=0.6, label=name)
    if len(groups) > 1:
        legend(axes)
    return figure


def _short(text: str) -> str:
    """Return a value of trials.csv with at most four digits."""
    try:
        return text if text.isdecimal() else f"{float(text):.4g}"
    except ValueError:
        return text
