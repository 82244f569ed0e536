"""The view of a search: every trial as a line through its drawn keys, and the metric against each key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from prefrec_ray.reports.style import COLOURS, FAINT, GREY, INK, note, panel
from prefrec_ray.reports.sweep.load import FINISHED, STOPPED, Sweep, Trial
from prefrec_ray.reports.sweep.names import is_drawn, short
from prefrec_ray.reports.sweep.scores import ESTIMATORS
from prefrec_ray.runs.tuning.settings import Space

BEST = COLOURS[1]
#: Better is darker; the lightest yellows of the map are left out.
MAP = matplotlib.colormaps["viridis_r"]


@dataclass(frozen=True)
class Search:
    """The trials of one method on one task that have the metric, and where it stands in trials.csv."""

    method: str
    task: str
    metric: str
    sign: int
    spaces: dict[str, Space]
    trials: Sequence[Trial]

    def value(self, trial: Trial) -> float:
        """The trial's metric."""
        value = trial.figures[self.metric]
        assert value is not None
        return value

    @property
    def best(self) -> Trial | None:
        """The finished trial with the best metric."""
        finished = [trial for trial in self.trials if trial.status == FINISHED]
        return max(finished, key=lambda trial: self.sign * self.value(trial), default=None)


def searches(sweep: Sweep) -> list[Search]:
    """One for each method and task, where a key is drawn and there is a metric: the sweep's, or a validation score."""
    if not is_drawn(sweep):
        return []
    columns = [sweep.settings.metric] if sweep.settings.metric else [f"validation/{key}" for key in ESTIMATORS]
    metric = next((c for c in columns if any(t.figures.get(c) is not None for t in sweep.trials)), None)
    if metric is None:
        return []
    sign = 1 if sweep.settings.mode == "max" else -1
    groups = []
    for task in sweep.settings.task:
        for method in sweep.settings.method:
            trials = [
                trial
                for trial in sweep.trials
                if (trial.task, trial.setting.method) == (task, method)
                and trial.status in (FINISHED, STOPPED)
                and trial.figures.get(metric) is not None
            ]
            spaces = {k: s for k, s in sweep.settings.search.items() if trials and all(k in t.keys for t in trials)}
            if len(trials) > 1 and spaces:
                groups.append(Search(method, task, metric, sign, spaces, trials))
    return groups


def positions(space: Space, values: Sequence[Any]) -> np.ndarray:
    """Where values stand between the ends of their space, 0 to 1: on a logarithm's scale for loguniform, choices in
    even steps."""
    if space.values:
        order = [str(value) for value in space.values]
        texts = [str(list(value)) if isinstance(value, tuple) else str(value) for value in values]
        return np.array([order.index(text) for text in texts]) / max(1, len(order) - 1)
    low, high, _ = space.bounds
    numbers = np.array(values, dtype=np.float64)
    if space.kind == "loguniform":
        return (np.log(numbers) - np.log(low)) / (np.log(high) - np.log(low))
    return (numbers - low) / (high - low)


def ticks(space: Space) -> list[tuple[float, str]]:
    """(position, text) of an axis: choices, powers of ten within a loguniform, else the ends and the middle."""
    if space.values:
        return [
            (float(at), short(value)) for at, value in zip(positions(space, space.values), space.values, strict=True)
        ]
    low, high, _ = space.bounds
    if space.kind == "loguniform":
        powers = range(int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9)) + 1)
        numbers = [10.0**power for power in powers]
        shown = numbers if len(numbers) > 1 else [low, *numbers, high]
    else:
        shown = [low, (low + high) / 2, high]
    return [(float(at), f"{number:.3g}") for at, number in zip(positions(space, shown), shown, strict=True)]


def parallel(search: Search) -> Figure:
    """Parallel coordinates: an axis a key and one for the metric; colour is the metric, stopped trials are grey."""
    keys = list(search.spaces)
    worth = np.array([search.value(trial) for trial in search.trials])
    low, high = _limits(worth)
    columns = [positions(search.spaces[key], [trial.keys[key] for trial in search.trials]) for key in keys]
    paths = np.stack([*columns, (worth - low) / (high - low)], axis=1)
    figure, axes = panel(f"{search.method}, {search.task}", "", "", width=max(5.6, 1.55 * (len(keys) + 1)), height=3.6)
    scale = Normalize(low, high) if search.sign > 0 else Normalize(-high, -low)
    x = np.arange(len(keys) + 1)
    for trial, path, value in sorted(zip(search.trials, paths, worth, strict=True), key=lambda t: search.sign * t[2]):
        if trial is search.best:
            axes.plot(x, path, color=BEST, lw=3, zorder=5)
        elif trial.status == STOPPED:
            axes.plot(x, path, color=FAINT, lw=1, zorder=1)
        else:
            axes.plot(x, path, color=MAP(0.1 + 0.9 * scale(search.sign * value)), lw=1.4, alpha=0.85, zorder=3)
    marks = [
        *(ticks(search.spaces[key]) for key in keys),
        [(at, f"{low + at * (high - low):.3g}") for at in (0, 0.5, 1)],
    ]
    for column, axis in enumerate(marks):
        axes.axvline(column, color=GREY, lw=1, zorder=2)
        for at, text in axis:
            note(axes, text, (column, at), (4, 0), color=INK, va="center", zorder=6)
    axes.set_xticks(x, [*keys, search.metric])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=8)
    axes.set_xlim(-0.15, len(keys) + 0.45)
    axes.set_ylim(-0.06, 1.06)
    return figure


def scatter(search: Search, key: str) -> Figure:
    """The metric of every trial against one key."""
    figure, axes = panel(key, "", search.metric, width=3.6, height=2.7)
    space = search.spaces[key]
    at = positions(space, [trial.keys[key] for trial in search.trials])
    for trial, x in zip(search.trials, at, strict=True):
        colour = GREY if trial.status == STOPPED else COLOURS[0]
        axes.plot([x], [search.value(trial)], "o", ms=5, mec="none", color=colour, alpha=0.6)
        if trial is search.best:
            axes.plot([x], [search.value(trial)], "o", ms=10, mfc="none", mec=BEST, mew=2, zorder=5)
    shown = ticks(space)
    axes.set_xticks([x for x, _ in shown], [text for _, text in shown])
    axes.set_xlim(-0.06, 1.06)
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
