"""Commands for clusters: `prefrec submit` runs a command there, and `doctor` checks one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from prefrec_ray.cli.console import console
from prefrec_ray.errors import UserError

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
