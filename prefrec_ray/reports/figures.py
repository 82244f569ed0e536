"""Figures of a report: data in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.case import Case
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.reports.cards import DAYS_FROM, effects, in_unit
from prefrec_ray.reports.load import Run
from prefrec_ray.reports.style import COLOURS, FAINT, GREY, INK, legend, note, panel, wrapped

#: Pairs on which reward accuracy and loss are measured: column suffix and label.
KINDS = (("train", "training"), ("within_user", "held out, within users"), ("any_users", "held out, across users"))
ROLES = {"policy": COLOURS[0], "control": COLOURS[1], "placebo": GREY}


@dataclass(frozen=True)
class Point:
    """One row of a figure of intervals."""

    title: str
    value: float
    interval: tuple[float, float]
    colour: str


def levels(shares: np.ndarray, name: str) -> Figure:
    """Draw Fig. 4: the share of sessions at each level, `shares` [6], of "depth" or "frequency"."""
    figure, axes = panel(
        f"Level of session {name}" if name == "depth" else "Level of session frequency", "level", "share of sessions"
    )
    bars = axes.bar(range(len(shares)), shares, color=COLOURS[0], width=0.7)
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2, fontsize=9, color=INK)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(0, 1.12 * shares.max() + 1e-9)
    axes.grid(axis="x", visible=False)
    return figure


def reward_accuracy(run: Run) -> Figure:
    """Draw Fig. 6: share of pairs whose preferred segment the reward scores higher, without ties."""
    figure, axes = panel(f"Reward accuracy: {run.label}", "iteration", "pairs predicted right")
    axes.yaxis.set_major_formatter("{x:.0%}")
    _over_training(axes, run, {label: f"reward/accuracy_{kind}" for kind, label in KINDS}, chance=0.5)
    return figure


def reward_loss(run: Run) -> Figure:
    """Draw Fig. 7: cross-entropy of the reward's preferences (Eq. 4)."""
    figure, axes = panel(f"Reward loss: {run.label}", "iteration", "cross-entropy (nats a pair)")
    columns = {label: f"reward/loss_{kind}" for kind, label in KINDS} | {KINDS[0][1]: "losses/reward_loss"}
    _over_training(axes, run, columns, chance=np.log(2))
    return figure


def _over_training(axes: Axes, run: Run, columns: dict[str, str], chance: float) -> None:
    iteration = run.curve("training_iteration")
    pretraining = run.curve("training_iteration", "pretrain")
    first = iteration.min() - 0.5
    axes.set_xlim(first, iteration.max() + 0.5)
    if len(pretraining):
        axes.axvspan(first, pretraining.max() + 0.5, color=FAINT, alpha=0.6, lw=0)
    for (label, column), colour in zip(columns.items(), COLOURS, strict=False):
        values = run.curve(column)
        seen = np.isfinite(values)
        if seen.any():
            axes.plot(iteration[seen], values[seen], color=colour, marker="o", ms=3, label=label)
    axes.axhline(chance, color=GREY, ls=":", lw=1, label="chance")
    if len(pretraining):
        axes.annotate("pre-training", (0.01, 0.98), xycoords="axes fraction", fontsize=8, color=GREY, va="top")
    legend(axes)


def learning_curve(runs: Sequence[Run], column: str, title: str, unit: str) -> Figure | None:
    """Draw one number over the updates on transitions, one line per run; None if no run has it."""
    figure, axes = panel(title, "updates", unit)
    for number, run in enumerate(runs):
        updates, values = run.curve("updates", "train"), run.curve(column, "train")
        seen = np.isfinite(values)
        if seen.any():
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(updates[seen], values[seen], color=colour, marker="o", ms=2.5, label=run.label)
    if not axes.lines:
        return None
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    if max(abs(limit) for limit in axes.get_ylim()) >= 1000:
        axes.yaxis.set_major_formatter("{x:,.0f}")
    legend(axes)
    return figure


def forest(records: Sequence[Record], title: str, unit: str) -> Figure:
    """Draw levels with their 95 % intervals, one row per subject, and the logging policy as a line through all rows.

    An interval ends at 0 and at 5, the range of a level.
    """
    points = [
        Point(record.title, record.value, in_range(record.ci_low, record.ci_high), ROLES[record.role])
        for record in records
    ]
    return _rows(points, records[0].behaviour, title, unit)


def own_units(cases: Sequence[Case]) -> list[tuple[Figure, str]]:
    """Draw hours and items of the policies that have them, with their alternative texts; one figure per measure."""
    drawn = []
    for key, title, axis in (
        ("mean_revisit_hours", "Time until users come back (shorter is better)", "{unit}, average over users"),
        ("mean_depth", "Items per session (more is better)", "items per session, average over users"),
    ):
        found = [(case.policy, one) for case in cases for one in effects(case) if one.key == key]
        if found:
            values = [value for _, one in found for value in (one.value, one.logged, *(one.interval or ()))]
            days = key == "mean_revisit_hours" and max(values) >= DAYS_FROM
            size = 24.0 if days else 1.0
            points = []
            for name, one in found:
                low, high = one.interval or (one.value, one.value)
                points.append(Point(name, one.value / size, (low / size, high / size), COLOURS[0]))
            text = f"{title}: {'; '.join(f'{name} {in_unit(key, one.value)}' for name, one in found)}"
            unit = axis.format(unit="days" if days else "hours")
            drawn.append((_rows(points, found[0][1].logged / size, title, unit, from_zero=True), text))
    return drawn


def in_range(low: float, high: float) -> tuple[float, float]:
    """Return the part of an interval of a level between 0 and 5."""
    return min(max(low, 0.0), float(MAX_LEVEL)), min(max(high, 0.0), float(MAX_LEVEL))


def _rows(points: Sequence[Point], logging: float, title: str, unit: str, from_zero: bool = False) -> Figure:
    figure, axes = panel("", unit, "", width=4.8 if from_zero else 6.4, height=1.3 + 0.32 * len(points))
    # Over the whole figure, because the panel is narrow next to the names of the rows.
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11, color=INK)
    for row, point in enumerate(points):
        axes.plot(point.interval, [row, row], color=point.colour, lw=2.2, solid_capstyle="butt")
        axes.plot([point.value], [row], "o", color=point.colour, ms=6, zorder=4)
        number = f"{point.value:.{1 if from_zero else 2}f}"
        note(axes, number, (point.value, row), (0, 5), color=point.colour, ha="center")
    axes.axvline(logging, color=INK, lw=1, ls="--")
    if from_zero:
        axes.set_xlim(0, 1.1 * max(logging, *(point.interval[1] for point in points)))
    side, shift = ("right", -3) if logging > sum(axes.get_xlim()) / 2 else ("left", 3)
    note(axes, "logging policy", (logging, -1.2), (shift, -2), color=INK, va="top", ha=side)
    axes.set_yticks(range(len(points)), [wrapped(point.title) if from_zero else point.title for point in points])
    for text, point in zip(axes.get_yticklabels(), points, strict=True):
        text.set_color(point.colour)
    axes.set_ylim(len(points) - 0.4, -1.2)
    axes.grid(axis="y", visible=False)
    return figure
