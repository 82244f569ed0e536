"""The figures of a sweep: learning curves (Fig. 5), a score against one key (Fig. 8), combinations of keys (Fig. 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefrec_ray.evaluation.names import BEHAVIOUR, subject_title
from prefrec_ray.reports.load import Run
from prefrec_ray.reports.style import COLOURS, FAINT, GREY, INK, LINES, label_ends, note, panel
from prefrec_ray.reports.sweep.load import Setting, Sweep
from prefrec_ray.reports.sweep.names import labels, names
from prefrec_ray.reports.sweep.scores import Measure
from prefrec_ray.reports.sweep.table import cell

#: Combinations of keys that one figure holds.
MOST_COMBINATIONS = 16


def learning_curves(sweep: Sweep, task: str, column: str, unit: str) -> Figure | None:
    """Fig. 5: a column over updates, a line a setting: the mean over seeds, the band from the lowest to the highest.

    Of more settings than there are lines that stay apart, the best at the end are named and the others grey. None where
    fewer than two scores were made on the way.
    """
    label = labels(sweep)
    curves = {}
    for setting in sweep.chosen:
        runs = [sweep.runs[trial.name] for trial in sweep.group(setting, task)]
        updates, values = seed_curves(runs, column)
        if len(updates) > 1:
            curves[setting] = (updates, values)
    if not curves:
        return None
    figure, axes = panel(task, "updates", unit, width=4.5, height=3.4)
    ranked = sorted(curves, key=lambda setting: -curves[setting][1].mean(axis=0)[-1])
    named = [setting for setting in curves if setting in ranked[: len(LINES)]]
    ends = []
    for setting, (updates, values) in curves.items():
        mean = values.mean(axis=0)
        if setting not in named:
            axes.plot(updates, mean, color=FAINT, lw=1, zorder=1)
            continue
        colour, dashes = LINES[named.index(setting)]
        axes.fill_between(updates, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.1, lw=0)
        axes.plot(updates, mean, color=colour, ls=dashes, lw=1.8)
        ends.append((updates[-1], mean[-1], label[setting], colour))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    label_ends(axes, ends)
    return figure


def seed_curves(runs: Sequence[Run], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates [n] at which all runs have a value of the column, and the values [runs, n]."""
    curves: list[dict[float, float]] = []
    for run in runs:
        updates, values = run.curve("updates", "train"), run.curve(column, "train")
        curves.append({u: v for u, v in zip(updates.tolist(), values.tolist(), strict=True) if np.isfinite(v)})
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    return np.array(shared), np.array([[curve[update] for update in shared] for curve in curves])


def single_number(sweep: Sweep) -> str | None:
    """The searched key, where there is one only, and that a grid of numbers (Fig. 8)."""
    if len(sweep.settings.search) != 1:
        return None
    key, space = next(iter(sweep.settings.search.items()))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in space.values)
    return key if space.kind == "grid" and numbers and len(space.values) > 1 else None


def against_key(sweep: Sweep, measure: Measure, task: str, key: str) -> Figure | None:
    """Fig. 8: the score against a key, a line a method and recipe: mean and 95 % interval over seeds, seeds as dots."""
    lines: dict[Setting, list[tuple[float, Setting]]] = {}
    for setting in sweep.chosen:
        if key in dict(setting.keys) and measure.of(sweep.group(setting, task)):
            line = Setting(setting.method, setting.recipe, ())
            lines.setdefault(line, []).append((dict(setting.keys)[key], setting))
    if not lines:
        return None
    figure, axes = panel(task, key, measure.name, width=4.2, height=2.9)
    label = names(list(lines))
    ends = []
    for (line, points), (colour, dashes) in zip(lines.items(), LINES, strict=False):
        points = sorted(points, key=lambda point: point[0])
        means = []
        for value, setting in points:
            summary = cell(scores := measure.of(sweep.group(setting, task)))
            assert summary is not None
            means.append(summary.mean)
            axes.plot([value] * len(scores), [s.value for s in scores], "o", color=INK, ms=2.5, alpha=0.6, zorder=5)
            if summary.low is not None and summary.high is not None:
                axes.plot([value, value], [summary.low, summary.high], color=colour, lw=1.6, alpha=0.8)
        axes.plot([value for value, _ in points], means, color=colour, ls=dashes, marker="o", ms=6)
        ends.append((points[-1][0], means[-1], label[line], colour))
    axes.set_xticks(sorted({value for points in lines.values() for value, _ in points}))
    _logging(axes, measure, task, upright=False)
    if len(lines) > 1:
        label_ends(axes, ends)
    return figure


def has_combinations(sweep: Sweep) -> bool:
    """Whether the sweep is a grid over one or two keys with few values (Fig. 9)."""
    search = sweep.settings.search
    grids = all(space.kind == "grid" for space in search.values())
    return bool(search) and grids and len(search) <= 2 and 1 < len(sweep.chosen) <= MOST_COMBINATIONS


def combinations(sweep: Sweep, measure: Measure, task: str) -> Figure | None:
    """Fig. 9: the score of each combination of keys: mean and 95 % interval over seeds, seeds as dots."""
    groups = {setting: measure.of(sweep.group(setting, task)) for setting in sweep.chosen}
    groups = {setting: scores for setting, scores in groups.items() if scores}
    if not groups:
        return None
    label = labels(sweep)
    figure, axes = panel(task, measure.name, "", width=4.4, height=1.3 + 0.42 * len(groups))
    for row, scores in enumerate(groups.values()):
        summary = cell(scores)
        assert summary is not None
        if summary.low is not None and summary.high is not None:
            axes.plot([summary.low, summary.high], [row, row], color=COLOURS[0], lw=2.2, solid_capstyle="butt")
        axes.plot([s.value for s in scores], [row + 0.22] * len(scores), "o", color=COLOURS[0], ms=3, alpha=0.5)
        axes.plot([summary.mean], [row], "o", color=COLOURS[0], ms=7, zorder=4)
        note(axes, measure.text(summary.mean), (summary.mean, row), (0, 5), color=INK, ha="center")
    axes.set_yticks(range(len(groups)), [label[setting] for setting in groups])
    axes.set_ylim(len(groups) - 0.4, -0.9)
    axes.grid(axis="y", visible=False)
    _logging(axes, measure, task, upright=True)
    return figure


def _logging(axes: Axes, measure: Measure, task: str, upright: bool) -> None:
    """A dashed line at the level of the logging policy, where it is known."""
    controls = measure.controls.get(task, {})
    if BEHAVIOUR not in controls:
        return
    level, name = controls[BEHAVIOUR].value, subject_title(BEHAVIOUR)
    if upright:
        axes.axvline(level, color=GREY, lw=1, ls="--", zorder=1)
        note(axes, name, (level, axes.get_ylim()[1]), (3, -2), color=GREY, va="top")
    else:
        axes.axhline(level, color=GREY, lw=1, ls="--", zorder=1)
        note(axes, name, (axes.get_xlim()[0], level), (3, 3), color=GREY)
