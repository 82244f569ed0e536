"""Figures of value and effective sample size over kernel width and cap."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrec_ray import storage
from prefrec_ray.evaluation.results.records import Evaluation, Record
from prefrec_ray.reports import html
from prefrec_ray.reports.style import COLOURS, GREY, INK, RC, legend

NAMES = {"ncis": "NCIS", "dr": "doubly robust"}
#: Policies drawn, best first; controls come on top.
POLICIES = 5
NOTE = (
    "A narrow kernel keeps few sessions (effective sample size). With a wide kernel every policy has the logging "
    "policy's "
    "value. Colours: policies. Grey: negative controls, which ignore the user, and behavior cloning. Dashed: the "
    "logging policy. Do not trust an order that changes with the width, or a gain that negative controls share."
)


def write_sensitivity(evaluation: Evaluation, output: str) -> None:
    """Write the page of an evaluation's sensitivity analysis."""
    title = "Sensitivity to kernel width and cap"
    storage.write_text(output, html.document(title, [sensitivity(evaluation.records)]))


def sensitivity(records: Sequence[Record], folded: bool = False) -> Markup | None:
    """Return a section with one figure per task and estimator; None without an analysis."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.sensitivity:
            groups.setdefault((record.task, record.estimator), []).append(record)
    drawn = [(figure(lines, task, NAMES[name]), f"{task}, {NAMES[name]}") for (task, name), lines in groups.items()]
    if not drawn:
        return None
    return html.section("Sensitivity", html.paragraph(NOTE, "note"), html.figures(drawn, wide=True), folded=folded)


def figure(records: Sequence[Record], task: str, estimator: str) -> Figure:
    """Draw values above effective sample sizes, over kernel width, with one column per cap."""
    lines = _chosen(records)
    caps = list(dict.fromkeys(point.cap for point in lines[0][0].sensitivity))
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(3.2 * len(caps) + 2.6, 6.0), layout="constrained")
        grid = drawn.subplots(2, len(caps), sharex=True, sharey="row", squeeze=False)
        drawn.suptitle(f"{task}: {estimator} over kernel width and cap", x=0.01, ha="left", weight="bold", size=11)
        for column, cap in enumerate(caps):
            for row, key in enumerate(("value", "ess")):
                axes = grid[row, column]
                for record, colour in lines:
                    points = [point for point in record.sensitivity if point.cap == cap]
                    widths, values = [point.sigma for point in points], [getattr(point, key) for point in points]
                    order = 2 if colour == GREY else 3
                    axes.plot(widths, values, color=colour, marker="o", ms=3, zorder=order, label=record.title)
                axes.set_xscale("log", base=2)
                axes.set_xticks(widths, [f"{width:g}" for width in widths])
                axes.tick_params(labelleft=column == 0)
            grid[0, column].axhline(lines[0][0].sensitivity[0].behaviour, color=INK, lw=1, ls="--")
            grid[0, column].set_title("no cap" if cap is None else f"cap {cap:g}", weight="normal")
            grid[1, column].set_xlabel("kernel width (residual rms)")
            grid[1, column].set_ylim(0, 1.03)
            grid[1, column].yaxis.set_major_formatter("{x:.0%}")
        grid[0, 0].set_ylabel("mean level (0 to 5)")
        grid[1, 0].set_ylabel("effective sample size")
        legend(grid[0, -1])
    return drawn


def _chosen(records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Return the best policies in colours, and in grey behavior cloning and negative controls without a policy."""
    policies = sorted((r for r in records if r.role == "policy"), key=lambda r: -r.value)[:POLICIES]
    shared = [r for r in records if r.role != "policy" and r.bundle is None]
    return [*zip(policies, COLOURS, strict=False), *((record, GREY) for record in shared)]
