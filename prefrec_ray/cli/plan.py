"""Command `prefrec plan`: time, memory and disk of a run on a cluster before it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from prefrec_ray.cli.console import Config, console, loading, made, pasteable, progress
from prefrec_ray.errors import UserError
from prefrec_ray.memory import text

if TYPE_CHECKING:
    from prefrec_ray.planning.stages import Outcome

_GB = 1e9


def plan(
    config: Config,
    impressions: Annotated[float, typer.Option(min=1, max=1e12, help="Impressions of the log.")] = 1e9,
    nodes: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of nodes; the stages are those of the cheapest.")
    ] = "4,16,64,256",
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="CPUs per node.")] = 16,
    memory: Annotated[float, typer.Option(min=1, help="Memory per node, GB.")] = 64,
    disk: Annotated[
        float, typer.Option(min=0, help="Disk per node, GB, that all nodes share; 0: an object store.")
    ] = 0,
    bandwidth: Annotated[float, typer.Option(min=0.01, help="Network per node, Gbit/s.")] = 10,
    latency: Annotated[float, typer.Option(min=0, help="Time of a request to the storage, ms.")] = 20,
    within: Annotated[float, typer.Option(min=0, help="Hours that the run may take; 0: any number.")] = 0,
    costs: Annotated[str, typer.Option(metavar="FILE", help="Costs that --calibrate has written.")] = "costs.json",
    calibrate: Annotated[
        str | None, typer.Option(metavar="FILE", help="Measure the costs on this machine, and write them.")
    ] = None,
) -> None:
    """Plan `prepare`, `train` and `evaluate` on clusters: time, memory, network, and the first limit that breaks."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import load_sections, open_section, parse_section
    from prefrec_ray.settings import parse

    present = load_sections(config)
    names = ("simulate", "prepare", "train", "evaluate")
    world, prepared, train, evaluation = (
        open_section(config, name) if name in present or name == "prepare" else parse_section(name, None, config)
        for name in names
    )
    with loading(console()):
        from prefrec_ray.planning.cluster import Cluster, Costs
        from prefrec_ray.planning.stages import Run, outcome, width_of
    if calibrate is not None:
        with loading(console()):
            from prefrec_ray.planning.calibration import calibrate as measure
        with progress(console()) as report:
            measured = measure(world, prepared, train, evaluation, report)
        storage.write_json(calibrate, measured.model_dump())
        made("costs", calibrate, pasteable("plan", config, "--costs", calibrate))
        return
    known = parse(Costs, storage.read_json(costs), costs)
    width = width_of(prepared, known)
    run = Run(round(impressions), width, prepared, train, evaluation, known)
    outcomes = [
        outcome(run, Cluster(n, cpus, memory * _GB, disk * _GB, bandwidth * _GB / 8, latency / 1e3, known.dispatch))
        for n in _counts(nodes)
    ]
    possible = [one for one in outcomes if not one.broken and (not within or one.hours <= within)]
    chosen = min(possible, key=lambda one: one.node_hours) if possible else outcomes[-1]
    out = console()
    out.print(f"{run.impressions:,} impressions of {width} numbers, {chosen.cluster.nodes} nodes of {cpus} CPUs")
    out.print(_stages(chosen))
    out.print()
    out.print(_clusters(outcomes))
    if possible:
        limit = f" within {within:g} h" if within else ""
        out.print(f"cheapest{limit}: {chosen.cluster.nodes} nodes, {chosen.node_hours:,.0f} node-hours")
    else:
        out.print("none of these clusters completes the run within the limits")


def _counts(words: str) -> list[int]:
    counts = [int(word) if word.strip().isdecimal() else 0 for word in words.split(",")]
    if not all(0 < count <= 4096 for count in counts):
        raise UserError(f"--nodes: found {words}; expected whole numbers from 1 to 4096, as in 4,16,64")
    return counts


def _stages(outcome: Outcome) -> Table:
    names = ("tasks", "time", "share", "CPU hours", "moved", "node memory")
    table = Table("stage", *(Column(name, justify="right") for name in names), "bound by", box=None, pad_edge=False)
    for command, stages in outcome.commands.items():
        for stage in stages:
            table.add_row(
                f"{command}: {stage.stage}",
                f"{stage.tasks:,}",
                _time(stage.seconds),
                f"{stage.seconds / outcome.hours / 36:.0f} %",
                f"{stage.work / 3600:,.1f}",
                text(stage.moved),
                text(stage.memory),
                stage.bound,
            )
    return table


def _clusters(outcomes: list[Outcome]) -> Table:
    numbers = (Column(name, justify="right") for name in ("nodes", "hours", "node-hours"))
    table = Table(*numbers, "slowest stage", "breaks", box=None, pad_edge=False)
    for one in outcomes:
        slowest = f"{one.slowest.stage} ({one.slowest.bound})"
        broken = one.broken[0] if one.broken else ""
        table.add_row(f"{one.cluster.nodes}", f"{one.hours:,.1f}", f"{one.node_hours:,.0f}", slowest, broken)
    return table


def _time(seconds: float) -> str:
    if seconds < 6000:
        return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
