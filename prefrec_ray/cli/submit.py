"""`prefrec submit`: runs a command on a cluster and follows its log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from prefrec_ray.cli.console import Config, console
from prefrec_ray.errors import UserError

COMMANDS = ("simulate", "prepare", "train", "tune")
Address = Annotated[
    str,
    typer.Option(
        "--address", metavar="URL", help="Address of the cluster's dashboard.", envvar="RAY_API_SERVER_ADDRESS"
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="Environment variable to pass on (no secret); may be repeated."),
]


def command(
    config: Config,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- ARGUMENTS]", help="Arguments of the command, as in -- --dataset DATASET gamma=0.95."
        ),
    ] = None,
    address: Address = "http://127.0.0.1:8265",
    name: Annotated[str, typer.Option("--command", metavar="COMMAND", help=f"One of {', '.join(COMMANDS)}.")] = "tune",
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="URI", help="Output of the command: a URI, or a folder on a shared disk."),
    ] = None,
    env: Env = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", metavar="RESOURCE", help="Run the command on a node with this resource instead of the head."
        ),
    ] = None,
) -> int:
    """Run simulate, prepare, train or tune on a cluster, and follow its log."""
    if name not in COMMANDS:
        raise UserError(f"--command: unknown command '{name}'; expected one of {', '.join(COMMANDS)}")
    command_arguments = list(arguments or ())
    check(config, name, command_arguments, output)

    from prefrec_ray.cluster import head, job

    variables = job.environment(env or ())
    client = head.connect(address)
    command_arguments += ["--output", output] if output else []
    number = job.submit(client, config, name, command_arguments, variables, on)
    console().print(f"job {number}: prefrec {name} {config}", markup=False)
    try:
        status = job.follow(client, number, _write)
    except KeyboardInterrupt:
        console().print(f"\n{_goes_on(number, address)}", markup=False)
        raise
    except UserError:
        console().print(_goes_on(number, address), markup=False)
        raise
    console().print(f"job {number}: {'done' if status == 0 else f'failed (exit status {status})'}", markup=False)
    return status


def check(config: str, name: str, arguments: Sequence[str], output: str | None) -> None:
    """Raises `UserError` for what would fail on the cluster: a bad section, or folders that its nodes do not share."""
    from prefrec_ray.cli.config import load_sections, open_section, parse_section

    overrides = [text for text in arguments if "=" in text and not text.startswith("-")] if name == "train" else []
    settings = open_section(config, name, overrides)
    for section, value in load_sections(config).items():
        if section != name:
            parse_section(section, value, config)
    chosen = output or _value(arguments, "--output") or getattr(settings, "storage_path", None)
    if chosen is None:
        raise UserError("--output is missing; expected a URI, or a folder of a disk that all nodes share")
    shared = {"--output": chosen, "--dataset": _value(arguments, "--dataset") or getattr(settings, "dataset", None)}
    for option, path in shared.items():
        if path is not None and "://" not in path and not path.startswith("/"):
            raise UserError(
                f"{option}: '{path}' is relative; expected a URI, or a folder of a disk that all nodes share"
            )


def _value(arguments: Sequence[str], option: str) -> str | None:
    for number, text in enumerate(arguments):
        if text == option and number + 1 < len(arguments):
            return arguments[number + 1]
        if text.startswith(f"{option}="):
            return text.partition("=")[2]
    return None


def _write(text: Any) -> None:
    sys.stdout.write(str(text))
    sys.stdout.flush()


def _goes_on(number: str, address: str) -> str:
    ray = "RAY_AUTH_MODE=token ray job"
    return (
        f"job {number} keeps running\n"
        f"  follow it: {ray} logs --follow {number} --address {address}\n"
        f"  stop it:   {ray} stop {number} --address {address}"
    )
