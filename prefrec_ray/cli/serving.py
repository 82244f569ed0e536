"""Commands for serving: `prefrec serve` and `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prefrec_ray.cli.console import Host, OwnConfig, Port, console, made, pasteable
from prefrec_ray.errors import need

if TYPE_CHECKING:
    from prefrec_ray.serving.experiment.estimates import ArmEstimate


def serve(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Policy bundle: RUN/policy, or an alias of one.")],
    state: Annotated[
        str, typer.Option("--state", metavar="FOLDER", help="Folder of the event log and of user states.")
    ],
    port: Port = 8080,
    host: Host = "127.0.0.1",
    config: OwnConfig = None,
) -> None:
    """Serve a policy over HTTP, and log impressions and feedback (token: PREFREC_SERVE_TOKEN)."""
    from prefrec_ray.cli.config import open_section

    need("serve", "starlette", "uvicorn", "prometheus_client", where="prefrec serve")
    from prefrec_ray.serving.http import serve

    settings = open_section(config, "serve")
    serve(policy, state, settings, host, port, console().print)


def compare(
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
    by_canary = comparison.canaries
    first = next(iter(by_canary.values()))
    table.add_column(f"{MAIN} ({first.users[MAIN]:,} users)")
    for arm, one in by_canary.items():
        table.add_column(f"{arm} ({one.users[arm]:,} users)")
        table.add_column("difference")
    for rows in zip(*(one.outcomes for one in by_canary.values()), strict=True):
        cells = [rows[0].name, _cell(rows[0].main)]
        for row in rows:
            cells += [_cell(row.canary), f"{_cell(row.difference, '+')} {row.difference.verdict}"]
        table.add_row(*cells)
    console().print(table)
    console().print(f"{comparison.waiting:,} users wait for the end of their {days:g} days and for late feedback")
    if comparison.moved:
        console().print(f"{comparison.moved:,} users do not count, as their arm changed in their days")
    if output:
        storage.write_json(output, comparison.to_dict())
        made("comparison", output, pasteable("serve", "POLICY", "--state", events[0]))


def _cell(estimate: ArmEstimate, sign: str = "") -> str:
    if not estimate.users:
        return "no users yet"
    return f"{estimate.value:{sign}.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
