"""The option `--address` of every command that starts Ray."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="RAY_ADDRESS",
        help="Join this Ray cluster (auto: the one on this machine) instead of starting Ray.",
    ),
]


def on_ray(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return `command` with the option `--address`.

    RAY_ADDRESS passes it to `runtime.start_ray` and to child processes.
    """

    @wraps(command)
    def with_address(*arguments: Any, address: str | None = None, **options: Any) -> Any:
        if address:
            os.environ["RAY_ADDRESS"] = address
        return command(*arguments, **options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("address", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Address)
    parameters = [*signature.parameters.values(), option]
    with_address.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_address.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_address
