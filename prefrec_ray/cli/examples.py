"""Examples of every command, for the end of its help."""

from __future__ import annotations

EXAMPLES = {
    "quickstart": ("prefrec quickstart", "prefrec quickstart --output DIR"),
    "validate": ("prefrec validate my.yaml",),
    "simulate": ("prefrec simulate my.yaml --output LOGS",),
    "inspect": (
        "prefrec inspect ratings.csv movies.csv --output my.yaml",
        "prefrec inspect --config my.yaml",
        "prefrec inspect DATASET --run RUN",
    ),
    "prepare": (
        "prefrec prepare my.yaml --output DATASET",
        "prefrec prepare my.yaml --output DATASET --on-error drop",
    ),
    "pairs": ("prefrec pairs --dataset DATASET --output PAIRS",),
    "import-labels": ("prefrec import-labels answers.csv --pairs PAIRS --dataset DATASET --name A",),
    "label": ("prefrec label DATASET --store STORE",),
    "train": (
        "prefrec train my.yaml --dataset DATASET --output RUN",
        "prefrec train my.yaml task=depth gamma=0.95 --dataset DATASET",
        "prefrec train my.yaml --dataset DATASET --output RUN --resume",
    ),
    "tune": (
        "prefrec tune sweep.yaml --dataset DATASET --output SWEEP",
        "prefrec tune sweep.yaml --dataset DATASET --output SWEEP --resume",
    ),
    "export": (
        "prefrec export RUN/checkpoint_000012 --output POLICY",
        "prefrec export RUN/policy --format onnx --output FOLDER",
    ),
    "evaluate": (
        "prefrec evaluate RUN/policy --dataset DATASET",
        "prefrec evaluate RUN/policy --dataset DATASET --config my.yaml --strict",
    ),
    "constrain": ("prefrec constrain RUN/policy --dataset DATASET --output RUN/constrained",),
    "report": ("prefrec report RUN", "prefrec report RUN OTHER --output page.html"),
    "serve": ("prefrec serve RUN/policy --state STATE",),
    "compare": ("prefrec compare STATE",),
    "nightly": ("prefrec nightly loop.yaml",),
    "rollback": ("prefrec rollback FOLDER",),
    "submit": (
        "prefrec submit my.yaml --command prepare --output s3://BUCKET/data",
        "prefrec submit my.yaml --command train --output RUN -- --dataset DATASET",
    ),
    "doctor": ("prefrec doctor --address HOST:PORT",),
}


def epilog(command: str) -> str:
    """Return the examples of a command for the end of its help, as paragraphs, which Typer prints as lines."""
    return "\n\n".join(["examples:", *EXAMPLES[command]])
