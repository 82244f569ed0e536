"""`prefrec export`: a policy bundle from a checkpoint, or ONNX files from a policy bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import made, pasteable
from prefrec_ray.errors import UserError, need

FORMATS = ("bundle", "onnx")


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="Checkpoint of a run, as RUN/checkpoint_000012; for onnx a POLICY."),
    ],
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="New folder for the result.")],
    kind: Annotated[str, typer.Option("--format", metavar="bundle|onnx", help="Format of the result.")] = "bundle",
) -> None:
    """Make a policy bundle from a training checkpoint, or ONNX files from a policy bundle."""
    if kind not in FORMATS:
        raise UserError(f"--format: found '{kind}'; expected one of {', '.join(FORMATS)}")
    if kind == "onnx":
        _export_onnx(checkpoint, output)
        return
    from prefrec_ray.runs.export import export_policy

    policy = export_policy(checkpoint, output)
    made("policy", output, pasteable("evaluate", output, "--dataset", policy.provenance["dataset"]))


def _export_onnx(policy: str, output: str) -> None:
    need("onnx", "onnx", where="--format onnx")
    from prefrec_ray.policy import Policy
    from prefrec_ray.policy.onnx_export import export_onnx

    files = export_onnx(Policy.load(policy), output)
    made(" and ".join(files), output, "docs/deploy.md describes inputs and outputs")
