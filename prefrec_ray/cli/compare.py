"""`prefrec compare`: comparison of the arms of a server, from its event log."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from prefrec_ray.cli.console import console, made

if TYPE_CHECKING:
    from prefrec_ray.serving.experiment.compare import ArmEstimate


def command(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS", help="Folders of `prefrec serve --state`, one per server.")
    ],
    days: Annotated[
        float, typer.Option("--days", min=0.01, max=366, help="Days of a user that count, from the first session on.")
    ] = 7.0,
    output: Annotated[str | None, typer.Option("--output", metavar="FILE", help="JSON file to write as well.")] = None,
) -> None:
    """Compare canaries with the main arm: levels, depth and return, with intervals that are valid at any time."""
    from rich.table import Table

    from prefrec_ray import storage
    from prefrec_ray.serving.experiment.compare import compare
    from prefrec_ray.serving.settings import MAIN

    comparison = compare(events, days)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for arm, users in comparison.users.items():
        table.add_column(f"{arm} ({users:,} users)")
        if arm != MAIN:
            table.add_column("difference")
    for outcome, means in comparison.means.items():
        cells = [outcome]
        for arm, mean in means.items():
            cells.append(_cell(mean))
            if arm != MAIN:
                difference = comparison.differences[outcome][arm]
                cells.append("" if difference is None else f"{_cell(difference, '+')} {difference.verdict}")
        table.add_row(*cells)
    console().print(table)
    console().print(f"{comparison.waiting:,} users wait for the end of their {days:g} days")
    for shadow, share in comparison.shadows.items():
        console().print(f"{shadow} (shadow): {share:.0%} of its items were shown")
    if output:
        storage.write_json(output, comparison.to_dict())
        made("comparison", output, f"prefrec serve POLICY --state {quote(events[0])}")


def _cell(estimate: ArmEstimate | None, sign: str = "") -> str:
    if estimate is None:
        return "too few users"
    return f"{estimate.value:{sign}.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
