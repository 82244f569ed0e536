"""`prefrec label`: comparison of histories by annotators in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console
from prefrec_ray.cli.progress import progress
from prefrec_ray.errors import need


def command(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Prepared data set: folder or URI.")],
    store: Annotated[
        str, typer.Option("--store", metavar="FOLDER", help="Folder of questions and votes; created if missing.")
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free port.")] = 8081,
    host: Annotated[str, typer.Option("--host", help="Address; a token is required except on loopback.")] = "127.0.0.1",
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section `label`.")
    ] = None,
) -> None:
    """Serve the page on which annotators compare histories (token: PREFREC_LABEL_TOKEN)."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section

    need("label", "fastapi", "uvicorn", "httptools", "itsdangerous", "markdown_it", where="prefrec label")
    from prefrec_ray.annotation.page.run import serve
    from prefrec_ray.annotation.page.settings import LabelSettings

    settings = open_section(config, "label") if config else LabelSettings()
    uri = storage.absolute(dataset)
    if not storage.exists(store):
        import ray

        from prefrec_ray import runtime
        from prefrec_ray.annotation.page.create import create_store
        from prefrec_ray.dataset import PreparedDataset

        prepared = PreparedDataset.open(uri)
        with progress(console()) as report:
            runtime.start_ray()
            create_store(prepared, store, settings, report)
        ray.shutdown()  # the page does not need Ray
    serve(store, uri, settings, host, port, console().print)
