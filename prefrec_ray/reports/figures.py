"""The figures of a report: data in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefrec_ray.evaluation.records import Record
from prefrec_ray.reports.load import Run
from prefrec_ray.reports.style import COLOURS, FAINT, GREY, INK, label_ends, note, panel

#: What reward accuracy and loss are measured on: column suffix and label.
KINDS = (("train", "training"), ("within_user", "held out,\nwithin users"), ("any_users", "held out,\nacross users"))
ROLES = {"policy": COLOURS[0], "control": COLOURS[1], "placebo": GREY}


def levels(shares: np.ndarray, name: str) -> Figure:
    """Fig. 4: the share of sessions at each level, `shares` [6], of "depth" or "frequency"."""
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
    """Fig. 6: share of pairs whose preferred segment the reward scores higher; ties are left out."""
    figure, axes = panel(f"Reward accuracy: {run.label}", "iteration", "pairs predicted right")
    axes.yaxis.set_major_formatter("{x:.0%}")
    _over_training(axes, run, {label: f"reward/accuracy_{kind}" for kind, label in KINDS}, chance=0.5)
    return figure


def reward_loss(run: Run) -> Figure:
    """Fig. 7: cross-entropy of the reward's preferences (Eq. 4)."""
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
    ends = []
    for (label, column), colour in zip(columns.items(), COLOURS, strict=False):
        values = run.curve(column)
        seen = np.isfinite(values)
        if seen.any():
            axes.plot(iteration[seen], values[seen], color=colour, marker="o", ms=3)
            ends.append((iteration[seen][-1], values[seen][-1], label, colour))
    axes.axhline(chance, color=GREY, ls=":", lw=1)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.02 * (high - low), high + 0.14 * (high - low))
    note(axes, "chance", (iteration.max() + 0.5, chance), (-3, 2), color=GREY, ha="right")
    if len(pretraining):
        axes.annotate("pre-training", (0.01, 0.98), xycoords="axes fraction", fontsize=8, color=GREY, va="top")
    label_ends(axes, ends)


def learning_curve(runs: Sequence[Run], column: str, title: str, unit: str) -> Figure | None:
    """One number over the updates on transitions, a line a run; None where no run has it."""
    figure, axes = panel(title, "updates", unit)
    ends = []
    for number, run in enumerate(runs):
        updates, values = run.curve("updates", "train"), run.curve(column, "train")
        seen = np.isfinite(values)
        if seen.any():
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(updates[seen], values[seen], color=colour, marker="o", ms=2.5)
            ends.append((updates[seen][-1], values[seen][-1], run.label, colour))
    if not ends:
        return None
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    if max(abs(limit) for limit in axes.get_ylim()) >= 1000:
        axes.yaxis.set_major_formatter("{x:,.0f}")
    label_ends(axes, ends)
    return figure


def forest(records: Sequence[Record], title: str, unit: str) -> Figure:
    """Values with their 95 % intervals, one row a subject; the logging policy as a line through all of them."""
    figure, axes = panel("", unit, "", width=6.4, height=1.3 + 0.32 * len(records))
    # Over the whole figure: the names of the rows leave the panel little room.
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
    for row, record in enumerate(records):
        colour = ROLES[record.role]
        axes.plot([record.ci_low, record.ci_high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot([record.value], [row], "o", color=colour, ms=6, zorder=4)
        note(axes, f"{record.value:.2f}", (record.value, row), (0, 5), color=colour, ha="center")
    axes.axvline(records[0].behaviour, color=INK, lw=1, ls="--")
    note(axes, "logging policy", (records[0].behaviour, -1.2), (3, -2), color=INK, va="top")
    axes.set_yticks(range(len(records)), [record.title for record in records])
    for text, record in zip(axes.get_yticklabels(), records, strict=True):
        text.set_color(ROLES[record.role])
    axes.set_ylim(len(records) - 0.4, -1.2)
    axes.grid(axis="y", visible=False)
    return figure
