"""Figures of a sweep: learning curves, and a score by the searched keys as a line, heat maps or dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from prefrec_ray.evaluation.results.names import LOGGING_POLICY, subject_title
from prefrec_ray.reports.load import Run
from prefrec_ray.reports.style import COLOURS, FAINT, GREY, INK, LINES, RC, legend, note, panel, wrapped
from prefrec_ray.reports.sweep.load import FINISHED, STOPPED, Setting, Sweep, names, short
from prefrec_ray.reports.sweep.scores import Measure, metric_of
from prefrec_ray.reports.sweep.table import seed_mean

BEST = COLOURS[1]
#: Numbers on a heat map, whose colors are the same on a white and a dark page.
ON_BRIGHT, ON_DEEP = "#101010", "#FDFDFD"
Drawn = tuple[Figure, str]  # with its alternative text


def learning_curves(sweep: Sweep, task: str, column: str) -> Figure | None:
    """Draw Fig. 5: a column over updates, one line per setting: mean over seeds, band from the lowest to the highest.

    With too many settings for distinct lines, the best at the end are named and the others are grey. None if fewer than
    two values were reported during training.
    """
    curves = {}
    for setting in sweep.chosen:
        updates, values = seed_curves([sweep.runs[trial.name] for trial in sweep.group(setting, task)], column)
        if len(updates) > 1:
            curves[setting] = (updates, values)
    if not curves:
        return None
    figure, axes = panel(task, "updates", metric_of(column).axis, width=4.5, height=3.4)
    ranked = sorted(curves, key=lambda setting: -curves[setting][1].mean(axis=0)[-1])
    style = dict(zip([setting for setting in curves if setting in ranked[: len(LINES)]], LINES, strict=False))
    label = sweep.labels
    for setting, (updates, values) in curves.items():
        mean = values.mean(axis=0)
        if setting not in style:
            axes.plot(updates, mean, color=FAINT, lw=1, zorder=1)
            continue
        colour, dashes = style[setting]
        axes.fill_between(updates, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.1, lw=0)
        axes.plot(updates, mean, color=colour, ls=dashes, lw=1.8, label=label[setting])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    legend(axes)
    return figure


def seed_curves(runs: Sequence[Run], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return updates [n] at which all runs have a value of the column, and the values [runs, n]."""
    curves: list[dict[float, float]] = []
    for run in runs:
        updates, values = run.curve("updates", "train"), run.curve(column, "train")
        curves.append({u: v for u, v in zip(updates.tolist(), values.tolist(), strict=True) if np.isfinite(v)})
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    return np.array(shared), np.array([[curve[update] for update in shared] for curve in curves])


def by_keys(sweep: Sweep, measure: Measure, task: str) -> list[Drawn]:
    """Return the figures of a score by the searched keys.

    One gridded key: a line per method and recipe. Two: a heat map. Three: a heat map per value of the third. More, or
    drawn keys: the trials as dots, one figure per key.
    """
    lines: dict[Setting, list[Setting]] = {}
    for setting in sweep.chosen:
        if measure.select(sweep.group(setting, task)):
            lines.setdefault(Setting(setting.method, setting.recipe, ()), []).append(setting)
    label = names(list(lines))
    drawn: list[Drawn] = []
    single: dict[str, dict[str, list[Setting]]] = {}
    for line, settings in lines.items():
        keys = [key for key, _ in settings[0].keys if len({dict(setting.keys)[key] for setting in settings}) > 1]
        grids = all(sweep.settings.search[key].kind == "grid" for key in keys)
        title = f"{label[line]}, {task}" if len(lines) > 1 else task
        if grids and len(keys) == 1:
            single.setdefault(keys[0], {})[label[line]] = settings
        elif grids and len(keys) in (2, 3):
            drawn += _heat_maps(sweep, measure, task, title, keys, settings)
        else:
            drawn += [(_dots(sweep, measure, task, title, line, key), f"{title}, by {key}") for key in keys]
    return [(_lines(sweep, measure, task, key, by), f"{task}, by {key}") for key, by in single.items()] + drawn


def _lines(sweep: Sweep, measure: Measure, task: str, key: str, by_name: dict[str, list[Setting]]) -> Figure:
    """Draw Fig. 8: means and 95 % intervals over seeds, seeds as dots."""
    figure, axes = panel(task, key, measure.metric.axis, width=4.5, height=3.1)
    at = _scale(axes, [dict(setting.keys)[key] for settings in by_name.values() for setting in settings])
    for (name, settings), (colour, dashes) in zip(by_name.items(), LINES * len(by_name), strict=False):
        points = {at[dict(setting.keys)[key]]: measure.select(sweep.group(setting, task)) for setting in settings}
        means = {x: seed_mean(points[x], measure) for x in sorted(points)}
        for x, cell in means.items():
            if cell is not None and cell.interval is not None:
                axes.plot([x] * cell.seeds, [s.value for s in points[x]], "o", color=INK, ms=2.5, alpha=0.6, zorder=5)
                axes.plot([x, x], cell.interval, color=colour, lw=1.6, alpha=0.8)
        ys = [cell.mean for cell in means.values() if cell is not None]
        axes.plot(list(means), ys, color=colour, ls=dashes, marker="o", ms=6, label=name)
    if (level := measure.controls.get(task, {}).get(LOGGING_POLICY)) is not None:
        axes.axhline(level.value, color=GREY, lw=1, ls="--", zorder=1)
        note(axes, subject_title(LOGGING_POLICY), (axes.get_xlim()[0], level.value), (3, 3), color=GREY)
    if len(by_name) > 1:
        legend(axes)
    return figure


def _scale(axes: Axes, values: Sequence[Any]) -> dict[Any, float]:
    """Label the x axis with `values` and return their places: numbers at their own, others in even steps."""
    unique = ordered(values)
    if not _numeric(unique):
        at = {value: float(place) for place, value in enumerate(unique)}
    else:
        at = {value: float(value) for value in unique}
        if unique[0] > 0 and unique[-1] / unique[0] >= 50:
            axes.set_xscale("log")
            axes.minorticks_off()
    axes.set_xticks(list(at.values()), [short(value) for value in unique])
    return at


def ordered(values: Sequence[Any]) -> list[Any]:
    """Return each of the values once: numbers ascending, others as they come."""
    unique = list(dict.fromkeys(values))
    return sorted(unique) if _numeric(unique) else unique


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _heat_maps(
    sweep: Sweep, measure: Measure, task: str, title: str, keys: Sequence[str], settings: Sequence[Setting]
) -> list[Drawn]:
    """Draw means over seeds by the first two keys, one figure per value of the third key, on one scale of colours."""
    cells = {setting: seed_mean(measure.select(sweep.group(setting, task))) for setting in settings}
    means = {setting: cell.mean for setting, cell in cells.items() if cell is not None}
    x, y, *third = ((key, ordered([dict(setting.keys)[key] for setting in settings])) for key in keys)
    drawn = []
    for value in third[0][1] if third else [None]:
        grid = np.full((len(y[1]), len(x[1])), np.nan)
        for setting, mean in means.items():
            by_key = dict(setting.keys)
            if not third or by_key[third[0][0]] == value:
                grid[y[1].index(by_key[y[0]]), x[1].index(by_key[x[0]])] = mean
        name = f"{title}, {third[0][0]}={short(value)}" if third else title
        drawn.append((_heat_map(measure, name, x, y, grid, list(means.values())), f"{name}, by {x[0]} and {y[0]}"))
    return drawn


def _heat_map(
    measure: Measure,
    title: str,
    x: tuple[str, Sequence[Any]],
    y: tuple[str, Sequence[Any]],
    grid: np.ndarray,
    all_means: Sequence[float],
) -> Figure:
    figure, axes = panel(title, x[0], y[0], width=4.5, height=2.0 + 0.5 * len(y[1]))
    low, high = min(all_means), max(all_means)
    image = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(grid):
        if np.isnan(value):
            axes.text(column, row, "–", ha="center", va="center", color=GREY)
            continue
        colour = ON_BRIGHT if 2 * value > low + high else ON_DEEP
        axes.text(column, row, measure.text(value), ha="center", va="center", color=colour, fontsize=9)
        if value == measure.best(all_means):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=BEST, lw=3, clip_on=False))
    axes.set_xticks(range(len(x[1])), [short(value) for value in x[1]])
    axes.set_yticks(range(len(y[1])), [short(value) for value in y[1]])
    axes.grid(visible=False)
    with matplotlib.rc_context(RC):
        figure.colorbar(image, ax=axes).set_label(wrapped(measure.metric.axis), size=9)
    return figure


def _dots(sweep: Sweep, measure: Measure, task: str, title: str, line: Setting, key: str) -> Figure:
    """Draw the scores of all trials of a method and recipe by one key."""
    of_line = (task, line.method, line.recipe)
    trials = [t for t in sweep.trials if (t.task, t.setting.method, t.setting.recipe) == of_line]
    trials = [trial for trial in trials if trial.name in measure.scores]
    figure, axes = panel(title, key, measure.metric.axis, width=4.5, height=3.1)
    space, values = sweep.settings.search[key], [trial.keys[key] for trial in trials]
    at = _scale(axes, values) if space.values else {value: value for value in values}
    if space.kind == "loguniform":
        axes.set_xscale("log")
    best = measure.best([measure.scores[trial.name].value for trial in trials if trial.status == FINISHED])
    for trial, value in zip(trials, values, strict=True):
        score, stopped = measure.scores[trial.name].value, trial.status == STOPPED
        axes.plot([at[value]], [score], "o", ms=5, mec="none", color=GREY if stopped else COLOURS[0], alpha=0.6)
        if score == best and not stopped:
            axes.plot([at[value]], [score], "o", ms=10, mfc="none", mec=BEST, mew=2, zorder=5)
    return figure
