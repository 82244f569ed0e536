"""`prefrec import-labels`: preferences from the votes of annotators."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from prefrec_ray.cli.console import Dataset, console, made
from prefrec_ray.cli.progress import progress


def command(
    labels: Annotated[
        str, typer.Argument(metavar="LABELS", help="File of votes: .jsonl, .csv, or a .json export of Label Studio.")
    ],
    pairs: Annotated[str, typer.Option("--pairs", metavar="FOLDER", help="Folder of `prefrec pairs`.")],
    dataset: Dataset,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of these annotators as a teacher.")],
    aggregate: Annotated[
        str,
        typer.Option(
            "--aggregate",
            help="Aggregation of the votes on a pair: majority, mean, dawid-skene or one-coin.",
        ),
    ] = "majority",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the preferences imported before as NAME.")
    ] = False,
) -> None:
    """Make preferences from votes of annotators, and measure their agreement."""
    from prefrec_ray import runtime, storage
    from prefrec_ray.annotation.store import import_labels

    uri = storage.absolute(dataset)
    with progress(console()) as report:
        runtime.start_ray()
        summary = import_labels(labels, pairs, uri, name, aggregate, replace, report)
    console().print(_table(summary))
    console().print(_line(summary))
    then = f"prefrec train CONFIG teachers=[{name}] --dataset {quote(dataset)}"
    made("preferences", f"{dataset}/people/{name}", then)


def _table(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("annotator", "votes", "skips", "on another side than the label"):
        table.add_column(column, justify="left" if column == "annotator" else "right")
    for row in summary["annotators"]:
        share = "" if row["disagreement"] is None else f"{row['disagreement']:.1%}"
        table.add_row(Text(row["annotator"]), str(row["votes"]), str(row["skips"]), share)
    return table


def _line(summary: dict[str, Any]) -> str:
    alpha = summary["krippendorff_alpha"]
    agreement = "not defined (all votes are equal, or no pair has two)" if alpha is None else f"{alpha:.3f}"
    pairs = summary["pairs"]
    return (
        f"{pairs['train']:,} pairs to learn from, {pairs['validation']:,} held out; {summary['votes']:,} votes, "
        f"{summary['ties']:.1%} of them ties, {summary['skips']:,} skips; Krippendorff's alpha {agreement}"
    )
