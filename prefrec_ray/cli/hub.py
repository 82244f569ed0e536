"""Commands for the Hugging Face Hub: `prefrec push` and `pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import made, pasteable

_Repository = Annotated[str, typer.Argument(metavar="REPO", help="hf://NAME/REPO or hf://datasets/NAME/REPO.")]


def push(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Policy bundle or data set: a local folder.")],
    target: _Repository,
) -> None:
    """Upload a policy or a data set to the Hugging Face Hub, with a card; a new repository is private."""
    from prefrec_ray.hub import push as upload

    upload(source, target)
    made("repository", target, pasteable("pull", target, "--output", "FOLDER"))


def pull(
    source: _Repository,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="New folder for the files.")],
) -> None:
    """Download a policy or a data set from the Hugging Face Hub."""
    from prefrec_ray.hub import pull as download

    download(source, output)
    made("files", output, f"{output}/README.md describes them")
