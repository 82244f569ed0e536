"""`prefrec export`: a checkpoint becomes the policy bundle that a user takes away."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import made


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A run's checkpoint: RUN/checkpoint_000012.")],
    output: Annotated[str, typer.Option("--output", metavar="POLICY", help="New folder for the policy.")],
) -> None:
    """Make a policy bundle of a training checkpoint."""
    from prefrec_ray.runs.export import export_policy

    policy = export_policy(checkpoint, output)
    made("policy", output, f"prefrec evaluate {output} --dataset {policy.provenance['dataset']}")
