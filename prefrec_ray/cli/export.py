"""`prefrec export`: makes a policy bundle from a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import made


def command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Checkpoint of a run, as RUN/checkpoint_000012.")
    ],
    output: Annotated[str, typer.Option("--output", metavar="POLICY", help="New folder for the policy bundle.")],
) -> None:
    """Make a policy bundle from a training checkpoint."""
    from prefrec_ray.runs.export import export_policy

    policy = export_policy(checkpoint, output)
    made("policy", output, f"prefrec evaluate {output} --dataset {policy.provenance['dataset']}")
