"""Figures of a report and their style: colours for color-blind readers, quiet axes, named lines."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.reports.load import Run

# Okabe and Ito's palette, with lighter colours last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")
INK, GREY = "#222222", "#767676"

#: Letters of a line of a name: a third of a panel.
_LETTERS = 24
_NO_METADATA: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}

#: Quiet axes, and equal bytes for equal figures.
STYLE = Path(__file__).with_suffix(".mplstyle")
ROLES = {"policy": COLOURS[0], "control": COLOURS[1], "placebo": GREY}


def panel(title: str, x: str, y: str, width: float = 5.0, height: float = 3.1) -> tuple[Figure, Axes]:
    """Return an empty figure with one panel; sizes are in inches."""
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    return figure, axes


def note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a small text `offset` points away from the point `at`, readable over lines."""
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=8, bbox=behind, **style)


def legend(axes: Axes) -> None:
    """Name the lines of a panel to its right, in the order in which they were drawn. Long names are wrapped."""
    lines, names = axes.get_legend_handles_labels()
    if lines:
        wrapped = [textwrap.fill(name, _LETTERS) for name in names]
        axes.legend(lines, wrapped, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)


def svg(figure: Figure) -> bytes:
    """Return the figure as SVG: equal bytes for equal figures."""
    for text in figure.findobj(Text):
        if "$" in text.get_text():  # in the name of a folder or method, not a formula
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with matplotlib.rc_context(fname=STYLE):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return buffer.getvalue()


def learning_curve(runs: Sequence[Run], column: str, title: str, unit: str) -> Figure | None:
    """Draw one number over the iterations, one line per run; None if no run has it."""
    figure, axes = panel(title, "iteration", unit)
    for number, run in enumerate(runs):
        iteration, values = run.curve("training_iteration"), run.curve(column)
        seen = np.isfinite(values)
        if seen.any():
            colour = COLOURS[number % len(COLOURS)]
            style = STYLES[number // len(COLOURS) % len(STYLES)]
            # Matplotlib does not name lines whose label begins with "_".
            label = run.label.replace("_", "\u200b_", 1) if run.label.startswith("_") else run.label
            axes.plot(iteration[seen], values[seen], color=colour, ls=style, marker="o", ms=2.5, label=label)
    if not axes.lines:
        return None
    if max(abs(limit) for limit in axes.get_ylim()) >= 1000:
        axes.yaxis.set_major_formatter("{x:,.0f}")
    legend(axes)
    return figure


def forest(records: Sequence[Record], title: str, unit: str) -> Figure:
    """Draw levels with their intervals, one row per subject, and the logging policy as a line through all rows.

    An interval ends at 0 and at 5, the range of a level.
    """
    figure, axes = panel("", unit, "", width=6.4, height=1.3 + 0.32 * len(records))
    # Over the whole figure, because the panel is narrow next to the names of the rows.
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11, color=INK)
    for row, record in enumerate(records):
        colour = ROLES[record.role]
        axes.plot(in_range(record.ci_low, record.ci_high), [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot([record.value], [row], "o", color=colour, ms=6, zorder=4)
        note(axes, f"{record.value:.2f}", (record.value, row), (0, 5), color=colour, ha="center")
    logging = records[0].behaviour
    axes.axvline(logging, color=INK, lw=1, ls="--")
    side, shift = ("right", -3) if logging > sum(axes.get_xlim()) / 2 else ("left", 3)
    note(axes, "logging policy", (logging, -1.2), (shift, -2), color=INK, va="top", ha=side)
    axes.set_yticks(range(len(records)), [record.title for record in records])
    for text, record in zip(axes.get_yticklabels(), records, strict=True):
        text.set_color(ROLES[record.role])
    axes.set_ylim(len(records) - 0.4, -1.2)
    axes.grid(axis="y", visible=False)
    return figure


def in_range(low: float, high: float) -> tuple[float, float]:
    """Return the part of an interval of a level between 0 and 5."""
    return min(max(low, 0.0), float(MAX_LEVEL)), min(max(high, 0.0), float(MAX_LEVEL))
