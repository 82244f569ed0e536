"""`prefrec pairs`: pairs of segments of a data set for annotators."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from prefrec_ray.cli.console import Dataset, console, made
from prefrec_ray.cli.progress import progress
from prefrec_ray.errors import UserError, nearest


def command(
    dataset: Dataset,
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="New folder for the pairs.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of pairs.")] = 1000,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out", min=0, max=0.9, help="Share of pairs of validation users, held out to measure accuracy."
        ),
    ] = 0.1,
    pairing: Annotated[
        str, typer.Option("--pairing", help="Segments to compare: within_user or any_users.")
    ] = "within_user",
    length: Annotated[
        int | None, typer.Option("--length", min=1, show_default="as in the data set", help="Impressions in a segment.")
    ] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", help="Choice of pairs: uniform, or disagreement of the reward models.")
    ] = "uniform",
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward", metavar="RUN", help="Run or checkpoint of a reward model for `disagreement`; may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the draw.")] = 0,
) -> None:
    """Draw pairs of segments for annotators, as JSONL and as tasks of Label Studio."""
    from prefrec_ray import runtime, storage
    from prefrec_ray.annotation.ask import STRATEGIES, write_pairs
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.settings import PAIRINGS

    for option, value, valid in (("pairing", pairing, list(PAIRINGS)), ("strategy", strategy, list(STRATEGIES))):
        if value not in valid:
            raise UserError(f"--{option}: unknown value '{value}'; {nearest(value, valid)}")
    prepared = PreparedDataset.open(storage.absolute(dataset))
    length = length or int(prepared.metadata.settings["preferences"]["length"])
    with progress(console()) as report:
        runtime.start_ray()
        write_pairs(prepared, output, count, held_out, pairing, length, strategy, tuple(reward or ()), seed, report)
    made(
        "pairs", output, f"prefrec import-labels LABELS --pairs {quote(output)} --dataset {quote(dataset)} --name NAME"
    )
