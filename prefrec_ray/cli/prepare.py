"""`prefrec prepare`: a data set of states, transitions and preferences from logs."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefrec_ray.cli.console import Config, console, made
from prefrec_ray.cli.progress import loading, progress
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.dataset.metadata import Fatigue

ON_ERROR = ("fail", "drop")


def command(
    config: Config,
    output: Annotated[str, typer.Option("--output", metavar="DATASET", help="New folder for the data set.")],
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error", metavar="fail|drop", help="On a bad row: fail, or drop it and write it to DATASET/dropped."
        ),
    ] = "fail",
) -> None:
    """Make a data set from logs (section `prepare`)."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section

    if on_error not in ON_ERROR:
        raise UserError(f"--on-error: found '{on_error}'; expected one of {', '.join(ON_ERROR)}")
    settings = open_section(config, "prepare")

    with loading(console()):
        from prefrec_ray.dataset.prepare.run import prepare
    with progress(console()) as report:
        dataset = prepare(settings, output, report, on_error)  # type: ignore[arg-type]  # checked above
    for line in summary(storage.read_json(storage.join(output, "dropped.json"))):
        console().print(line)
    console().print(of_tiring(dataset.metadata.tiring))
    made("data set", output, f"prefrec train {quote(config)} --dataset {quote(output)} --output RUN")


def summary(report: dict[str, Any]) -> list[str]:
    """Describe dropped.json: rows kept, rows dropped, and the reasons."""
    kept, bad = report["kept"], report["bad_rows"]
    lines = [f"kept: {kept['rows']:,} impressions of {kept['users']:,} users in {kept['sessions']:,} sessions"]
    for reason, rows in report["left_out"].items():
        lines.append(f"excluded: {rows:,} rows ({reason.replace('_', ' ')})")
    if bad:
        lines.append(f"dropped: {bad:,} bad rows (DATASET/dropped)")
    for reason in report["reasons"]:
        column = f"column '{reason['column']}', " if reason["column"] else ""
        first = f"first in {reason['file']}, row {reason['row']} ({reason['found']})"
        lines.append(f"  {reason['rows']:,}: {column}expected {reason['expected']}; {first}")
    return lines


def of_tiring(tiring: Fatigue | None) -> str:
    """Describe the fatigue in the log."""
    from prefrec_ray.mdp.serving import UNSAID

    if tiring is None or tiring.variety is None:
        return f"fatigue with similar items: unknown, the log is too small; serving.variety `auto` is {UNSAID:g}"
    tire = "visible" if tiring.variety > 1 + 2 * tiring.error else "not visible"
    auto = f"serving.variety `auto` is {tiring.variety:g} (standard error {tiring.error:g})"
    return f"fatigue with similar items: {tire}; {auto}"
