"""Figures of a sweep: learning curves, and a score by the searched keys as lines or dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefrec_ray.evaluation.results.names import LOGGING_POLICY, subject_title
from prefrec_ray.reports.load import Run
from prefrec_ray.reports.style import COLOURS, GREY, INK, LINES, legend, note, panel
from prefrec_ray.reports.sweep.load import FINISHED, STOPPED, Sweep, Trial, grouped, short
from prefrec_ray.reports.sweep.scores import Measure, metric_of
from prefrec_ray.reports.sweep.table import seed_mean

BEST = COLOURS[1]
Drawn = tuple[Figure, str]  # with its alternative text


def learning_curves(sweep: Sweep, task: str, column: str) -> Figure | None:
    """Draw Fig. 5: a column over updates, one line per setting: mean over seeds, band from the lowest to the highest.

    Of many settings the best at the end are drawn. None if fewer than two values were reported during training.
    """
    curves = {}
    for setting, trials in sweep.groups.items():
        updates, values = seed_curves([sweep.runs[trial.name] for trial in trials if trial.task == task], column)
        if len(updates) > 1:
            curves[setting] = (updates, values)
    if not curves:
        return None
    figure, axes = panel(task, "updates", metric_of(column).axis, width=4.5, height=3.4)
    ranked = sorted(curves, key=lambda setting: -curves[setting][1].mean(axis=0)[-1])
    shown = [setting for setting in curves if setting in ranked[: len(LINES)]]
    for setting, (colour, dashes) in zip(shown, LINES, strict=False):
        updates, values = curves[setting]
        axes.fill_between(updates, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.1, lw=0)
        axes.plot(updates, values.mean(axis=0), color=colour, ls=dashes, lw=1.8, label=sweep.label(setting))
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

    One or two gridded keys: a line over the first key per method, recipe and value of the second. More, or drawn keys:
    the trials as dots, one figure per key.
    """
    scored = [trial for trial in sweep.trials if trial.task == task and trial.name in measure.scores]
    by_recipe = grouped(scored, lambda trial: (sweep.method_name(trial.method), trial.recipe))
    several_recipes = len({recipe for _, recipe in by_recipe}) > 1
    drawn: list[Drawn] = []
    lines: dict[str, dict[str, list[Trial]]] = {}
    for (method, recipe), trials in by_recipe.items():
        label = f"{method} {recipe}" if several_recipes else method
        title = f"{label}, {task}" if len(by_recipe) > 1 else task
        keys = [key for key in trials[0].keys if len({trial.keys[key] for trial in trials}) > 1]
        grids = all(sweep.settings.search[key].kind == "grid" for key in keys)
        if grids and len(keys) in (1, 2):
            for trial in trials:
                name = " ".join([label, *(f"{key}={short(trial.keys[key])}" for key in keys[1:])])
                lines.setdefault(keys[0], {}).setdefault(name, []).append(trial)
        else:
            drawn += [(_dots(sweep, measure, title, trials, key), f"{title}, by {key}") for key in keys]
    return [(_lines(measure, task, key, by_label), f"{task}, by {key}") for key, by_label in lines.items()] + drawn


def _lines(measure: Measure, task: str, key: str, by_label: dict[str, list[Trial]]) -> Figure:
    """Draw Fig. 8: means and 95 % intervals over seeds, seeds as dots."""
    figure, axes = panel(task, key, measure.metric.axis, width=4.5, height=3.1)
    at = _scale(axes, [trial.keys[key] for trials in by_label.values() for trial in trials])
    for (label, trials), (colour, dashes) in zip(by_label.items(), LINES * len(by_label), strict=False):
        means = {}
        for x, seeds in sorted(grouped(trials, lambda trial: at[trial.keys[key]]).items()):
            scores = measure.select(seeds)
            if (cell := seed_mean(scores, measure)) is None:
                continue
            means[x] = cell.mean
            if cell.interval is not None:
                axes.plot([x] * cell.seeds, [s.value for s in scores], "o", color=INK, ms=2.5, alpha=0.6, zorder=5)
                axes.plot([x, x], cell.interval, color=colour, lw=1.6, alpha=0.8)
        axes.plot(list(means), list(means.values()), color=colour, ls=dashes, marker="o", ms=6, label=label)
    if (level := measure.controls.get(task, {}).get(LOGGING_POLICY)) is not None:
        axes.axhline(level.value, color=GREY, lw=1, ls="--", zorder=1)
        note(axes, subject_title(LOGGING_POLICY), (axes.get_xlim()[0], level.value), (3, 3), color=GREY)
    if len(by_label) > 1:
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


def _dots(sweep: Sweep, measure: Measure, title: str, trials: Sequence[Trial], key: str) -> Figure:
    """Draw the scores of all trials of a method and recipe by one key."""
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
