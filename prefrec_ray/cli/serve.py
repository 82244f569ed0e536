"""`prefrec serve`: a policy as an HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console
from prefrec_ray.errors import need


def command(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Policy bundle: RUN/policy, or an alias of one.")],
    state: Annotated[
        str, typer.Option("--state", metavar="FOLDER", help="Folder of the event log and of user states.")
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free port.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address; a token is required except on loopback.")] = "127.0.0.1",
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section `serve`.")
    ] = None,
) -> None:
    """Serve a policy over HTTP, and log impressions and feedback (token: PREFREC_SERVE_TOKEN)."""
    from prefrec_ray.cli.config import open_section

    need("serve", "fastapi", "uvicorn", "prometheus_client", where="prefrec serve")
    from prefrec_ray.serving.http import serve
    from prefrec_ray.serving.settings import ServeSettings

    settings = open_section(config, "serve") if config else ServeSettings()
    serve(policy, state, settings, host, port, console().print)
