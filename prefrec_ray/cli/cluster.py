"""Commands for clusters: `prefrec submit` runs a command there, `doctor` checks one, `plan` predicts a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from prefrec_ray.cli.console import Config, console, loading
from prefrec_ray.errors import UserError
from prefrec_ray.memory import text

_GB = 1e9
#: Commands that run on a cluster -> their section of the YAML; None: without a YAML.
COMMANDS = {
    **{name: name for name in ("simulate", "prepare", "train", "tune", "evaluate")},
    "nightly": "loop",
    **dict.fromkeys(("constrain", "export", "report")),
}
#: Command -> its parameter with paths that the command reads.
READS = {"evaluate": "policies", "constrain": "policy", "export": "checkpoint", "report": "runs"}
Address = Annotated[
    str,
    typer.Option(
        "--address", metavar="URL", help="Address of the cluster's dashboard.", envvar="RAY_API_SERVER_ADDRESS"
    ),
]


def submit(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONFIG] [-- ARGUMENTS]",
            help="YAML of the command (constrain, export and report take none), then its arguments, as in"
            " my.yaml -- --dataset DATASET gamma=0.95.",
        ),
    ],
    address: Address = "http://127.0.0.1:8265",
    name: Annotated[str, typer.Option("--command", metavar="COMMAND", help=f"One of {', '.join(COMMANDS)}.")] = "tune",
    output: Annotated[
        str | None, typer.Option(metavar="URI", help="Output of the command: a URI, or a folder on a shared disk.")
    ] = None,
    wait: Annotated[bool, typer.Option(" /--no-wait", help="End once the job has started.", show_default=False)] = True,
) -> int:
    """Run a command on a cluster, and follow its log."""
    if name not in COMMANDS:
        raise UserError(f"--command: unknown command '{name}'; expected one of {', '.join(COMMANDS)}")
    config, arguments = (words[0], words[1:]) if COMMANDS[name] else (None, words)
    arguments += ["--output", output] if output else []
    check(context.find_root().command.commands[name], name, config, arguments)  # type: ignore[attr-defined]

    from prefrec_ray.cluster import jobs

    client = jobs.connect(address)
    number = jobs.start(client, "prefrec_ray.cli.main", job_line(name, config, arguments), config)
    console().print(f"job {number}: prefrec {name}{f' {config}' if config else ''}")
    if not wait:
        console().print(_goes_on(number, address))
        return 0
    try:
        status = jobs.follow(client, number, lambda text: print(text, end="", flush=True))
    except (KeyboardInterrupt, UserError):
        console().print(f"\n{_goes_on(number, address)}")
        raise
    console().print(f"job {number}: {'done' if status == 0 else f'failed (exit status {status})'}")
    return status


def job_line(name: str, config: str | None, arguments: Sequence[str]) -> list[str]:
    """Return the words of the command on the cluster, with the name of the YAML in the working folder there."""
    yaml = [] if config is None else [config.rpartition("/")[2]]
    if name == "evaluate":  # its YAML is an option
        return [name, *arguments, "--config", *yaml]
    return [name, *yaml, *arguments]


def check(program: Any, name: str, config: str | None, arguments: Sequence[str]) -> None:
    """Check a command before it is sent to the cluster; `program` is Typer's command of this name.

    Raises `UserError` for a wrong or missing option, key or section, and for a path that the nodes do not share.
    """
    from prefrec_ray.cli.config import dataset_of

    words = job_line(name, config, arguments)[1:]
    given = program.make_context(program.name, words).params  # raises Typer's own errors
    sections = {} if config is None else _sections(name, config, given.get("overrides") or ())
    settings = sections.get(str(COMMANDS[name]))
    output, dataset = given.get("output"), given.get("dataset")
    if name in ("train", "tune"):
        dataset = dataset_of(dataset, settings, f"{config}: {name}")
    places = [("--output", output), ("--dataset", dataset)]
    if name == "nightly":
        places.append(("loop: key 'folder'", sections["loop"].folder))
    if name in ("prepare", "nightly") and "prepare" in sections:
        places += _logs(sections["prepare"])
    if name not in (*READS, "nightly") and output is None:
        raise UserError("--output is missing; expected a URI, or a folder of a disk that all nodes share")
    places += [(name, one) for one in _paths(given.get(READS.get(name, "")))]
    for option, path in places:
        if path is not None and "://" not in path and not path.startswith("/"):
            raise UserError(
                f"{option}: '{path}' is relative; expected a URI, or a folder of a disk that all nodes share"
            )


def _logs(settings: Any) -> Iterator[tuple[str, str | None]]:
    """Yield key and path of the files that a section `prepare` reads."""
    from prefrec_ray.logs.sources import parts_of

    yield "prepare: key 'like'", settings.like
    for log in parts_of(settings.source):
        for key, table in (("", log), ("users.", getattr(log, "users", None)), ("items.", getattr(log, "items", None))):
            for one in _paths(getattr(table, "path", None)):  # Complete Journey has none
                yield f"prepare: key 'source.{key}path'", one


def _paths(value: str | Sequence[str] | None) -> Sequence[str]:
    """Return one path, several or none as a sequence."""
    return [value] if isinstance(value, str) else value or ()


def _sections(name: str, config: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of all sections by name. The command's own section is required, except by `evaluate`."""
    from prefrec_ray.cli.config import load_sections, open_section, parse_section

    section = str(COMMANDS[name])
    sections = load_sections(config)
    settings = {other: parse_section(other, value, config) for other, value in sections.items() if other != section}
    if name == "evaluate" and name not in sections:
        return {**settings, name: parse_section(name, None, config)}
    return {**settings, section: open_section(config, section, overrides)}


def _goes_on(number: str, address: str) -> str:
    ray = "RAY_AUTH_MODE=token ray job"
    return (
        f"job {number} keeps running\n"
        f"  follow it: {ray} logs --follow {number} --address {address}\n"
        f"  stop it:   {ray} stop {number} --address {address}"
    )


def doctor(
    address: Address = "http://127.0.0.1:8265",
    storage: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Storage of data sets and runs; every node writes a test file there."),
    ] = None,
) -> int:
    """Check a cluster before a run: token, nodes, versions, storage."""
    from prefrec_ray.cluster.doctor import examine

    checks = examine(address, storage)
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = ("✓", "green") if check.good else ("✗", "red")
        console().print(Text.assemble(mark, f" {check.name:<{width}}  {check.text}"))
    return 0 if all(check.good for check in checks) else 2


def plan(
    config: Config,
    impressions: Annotated[
        float | None,
        typer.Option(min=1, max=1e12, help="Impressions of the planned log; omitted: of the log in CONFIG."),
    ] = None,
    nodes: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of nodes; the stages are those of the cheapest.")
    ] = "4,16,64,256",
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="CPUs per node.")] = 16,
    memory: Annotated[float, typer.Option(min=1, max=1e6, help="Memory per node, GB.")] = 64,
    bandwidth: Annotated[float, typer.Option(min=0.01, help="Network per node, Gbit/s.")] = 10,
    within: Annotated[float, typer.Option(min=0, help="Hours that the run may take; 0: any number.")] = 0,
) -> None:
    """Plan `prepare`, `train` and `evaluate` on clusters: time, memory, and the first limit that breaks."""
    from prefrec_ray.cli.config import load_sections, open_section, parse_section

    present, counts = load_sections(config), _counts(nodes)
    prepared, train, evaluation = (
        open_section(config, name) if name in present or name == "prepare" else parse_section(name, None, config)
        for name in ("prepare", "train", "evaluate")
    )
    with loading(console()):
        from prefrec_ray import planning
    run = planning.open_run(prepared, train, evaluation, round(impressions) if impressions else None)
    plans = [planning.plan(run, planning.Cluster(n, cpus, memory * _GB, bandwidth * _GB / 8)) for n in counts]
    possible = [each for each in plans if not each.broken and (not within or each.hours <= within)]
    chosen = min(possible, key=lambda each: each.node_hours) if possible else plans[-1]
    out = console()
    out.print(f"{run.impressions:,} impressions of {run.width} numbers, {chosen.cluster.nodes} nodes of {cpus} CPUs")
    names = ("time", "share", "CPU hours", "moved", "node memory")
    table = Table("stage", *(Column(name, justify="right") for name in names), "bound by", box=None, pad_edge=False)
    for stage in chosen.stages:
        share, hours = f"{stage.seconds / chosen.hours / 36:.0f} %", f"{stage.work / 3600:,.1f}"
        table.add_row(
            stage.name, _time(stage.seconds), share, hours, text(stage.moved), text(stage.memory), stage.bound
        )
    out.print(table)
    out.print()
    numbers = (Column(name, justify="right") for name in ("nodes", "hours", "node-hours"))
    table = Table(*numbers, "breaks", box=None, pad_edge=False)
    for each in plans:
        table.add_row(f"{each.cluster.nodes}", f"{each.hours:,.1f}", f"{each.node_hours:,.0f}", *each.broken[:1])
    out.print(table)
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


def _time(seconds: float) -> str:
    if seconds < 6000:
        return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
