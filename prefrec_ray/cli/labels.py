"""Commands for labels from annotators: `prefrec pairs`, `import-labels` and `label`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from prefrec_ray.cli.console import Dataset, Host, OwnConfig, Port, console, made, pasteable, progress
from prefrec_ray.errors import UserError, nearest, need


def pairs(
    dataset: Dataset,
    output: Annotated[str, typer.Option(metavar="FOLDER", help="New folder for the pairs.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 1000,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of pairs of validation users, to measure accuracy.")
    ] = 0.1,
    pairing: Annotated[str, typer.Option(help="Segments to compare: within_user or any_users.")] = "within_user",
    length: Annotated[
        int | None, typer.Option(min=1, show_default="as in the data set", help="Impressions in a segment.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the draw.")] = 0,
) -> None:
    """Draw pairs of segments for annotators, as JSONL."""
    from prefrec_ray import runtime, storage
    from prefrec_ray.annotation.questions import write_pairs
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.settings import PAIRINGS

    if pairing not in PAIRINGS:
        raise UserError(f"--pairing: unknown value '{pairing}'; {nearest(pairing, list(PAIRINGS))}")
    prepared = PreparedDataset.open(storage.absolute(dataset))
    length = length or int(prepared.metadata.settings["preferences"]["length"])
    with progress(console()) as report:
        runtime.start_ray()
        write_pairs(prepared, output, count, held_out, pairing, length, seed, report)
    made(
        "pairs",
        output,
        pasteable("import-labels", "LABELS", "--pairs", output, "--dataset", dataset, "--name", "NAME"),
    )


def import_labels(
    labels: Annotated[str, typer.Argument(metavar="LABELS", help="File of votes: .jsonl or .csv.")],
    pairs: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of `prefrec pairs`.")],
    dataset: Dataset,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of these annotators as a teacher.")],
    aggregate: Annotated[
        str, typer.Option(help="Aggregation of the votes on a pair: majority, mean or one-coin.")
    ] = "majority",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the preferences that were imported as NAME.")
    ] = False,
) -> None:
    """Convert annotators' votes to preferences, and measure the agreement of annotators."""
    from prefrec_ray import storage
    from prefrec_ray.annotation.labels import import_labels
    from prefrec_ray.runtime.progress import step

    with progress(console()) as report, step(report, "import labels"):
        summary = import_labels(labels, pairs, storage.absolute(dataset), name, aggregate, replace)
    console().print(_table(summary))
    console().print(_line(summary))
    then = pasteable("train", "CONFIG", f"teachers=[{name}]", "--dataset", dataset)
    made("preferences", f"{dataset}/people/{name}", then)


def _table(summary: dict[str, Any]) -> Table:
    numbers = (Column(name, justify="right") for name in ("votes", "skips", "on another side than the label"))
    table = Table("annotator", *numbers, box=None, pad_edge=False)
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


def label(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Prepared data set: folder or URI.")],
    store: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of questions and votes; created if missing.")],
    port: Port = 8081,
    host: Host = "127.0.0.1",
    config: OwnConfig = None,
) -> None:
    """Serve the page on which annotators compare histories (token: PREFREC_LABEL_TOKEN)."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import open_section

    need("label", "starlette", "uvicorn", "httptools", "markdown_it", where="prefrec label")
    from prefrec_ray.annotation.page.app import TOKEN, serve
    from prefrec_ray.annotation.page.store import FILE
    from prefrec_ray.web.run import check_address, token_of_environment

    settings = open_section(config, "label")
    uri = storage.absolute(dataset)
    check_address(host, token_of_environment(TOKEN) is not None, TOKEN)  # before a store is drawn
    if not storage.exists(storage.join(store, FILE)):
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
