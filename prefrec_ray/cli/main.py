"""The command `prefrec`: its subcommands, and errors as one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from prefrec_ray import __version__
from prefrec_ray.cli.bench import bench
from prefrec_ray.cli.cluster import doctor, submit
from prefrec_ray.cli.data import inspect, prepare, simulate
from prefrec_ray.cli.evaluation import constrain, evaluate, report
from prefrec_ray.cli.forget import forget
from prefrec_ray.cli.hub import pull, push
from prefrec_ray.cli.labels import import_labels, label, pairs
from prefrec_ray.cli.nightly import nightly, rollback, status
from prefrec_ray.cli.plan import plan
from prefrec_ray.cli.quickstart import plugins, quickstart, validate
from prefrec_ray.cli.serving import compare, plan_test, serve
from prefrec_ray.cli.training import export, train, tune
from prefrec_ray.errors import find_user_error
from prefrec_ray.runtime import TERMINATED, end_on_sigterm, terminated

app = typer.Typer(
    name="prefrec",
    help="Recommendation policies for long-term engagement, learned from preferences, trained on Ray.",
    epilog="Start with: prefrec quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
#: The commands of each panel of `prefrec --help`, with examples for the end of their help.
PANELS: dict[str, dict[Callable[..., Any], tuple[str, ...]]] = {
    "First steps": {
        quickstart: ("prefrec quickstart", "prefrec quickstart --output DIR"),
        validate: ("prefrec validate my.yaml",),
        plugins: ("prefrec plugins",),
    },
    "Data": {
        simulate: ("prefrec simulate my.yaml --output LOGS",),
        inspect: (
            "prefrec inspect ratings.csv movies.csv --output my.yaml",
            "prefrec inspect --config my.yaml",
        ),
        prepare: (
            "prefrec prepare my.yaml --output DATASET",
            "prefrec prepare my.yaml --output DATASET --on-error drop",
        ),
    },
    "Labels from annotators": {
        pairs: ("prefrec pairs --dataset DATASET --output PAIRS",),
        import_labels: ("prefrec import-labels answers.csv --pairs PAIRS --dataset DATASET --name A",),
        label: ("prefrec label DATASET --store STORE",),
    },
    "Training": {
        train: (
            "prefrec train my.yaml --dataset DATASET --output RUN",
            "prefrec train my.yaml task=depth gamma=0.95 --dataset DATASET",
            "prefrec train my.yaml --dataset DATASET --output RUN --resume",
        ),
        tune: (
            "prefrec tune sweep.yaml --dataset DATASET --output SWEEP",
            "prefrec tune sweep.yaml --dataset DATASET --output SWEEP --resume",
        ),
        export: (
            "prefrec export RUN/checkpoint_000012 --output POLICY",
            "prefrec export RUN/policy --format onnx --output FOLDER",
        ),
    },
    "Evaluation": {
        evaluate: (
            "prefrec evaluate RUN/policy --dataset DATASET",
            "prefrec evaluate RUN/policy --dataset DATASET --config my.yaml --strict",
        ),
        constrain: ("prefrec constrain RUN/policy --dataset DATASET --output RUN/constrained",),
        report: ("prefrec report RUN", "prefrec report RUN OTHER --output page.html"),
    },
    "Serving": {
        serve: ("prefrec serve RUN/policy --state STATE",),
        compare: ("prefrec compare STATE", "prefrec compare STATE --config loop.yaml --output comparison.json"),
        plan_test: ("prefrec plan-test DATASET", "prefrec plan-test DATASET --gains 0.3 --shares 0.05,0.1 --days 7"),
        nightly: ("prefrec nightly loop.yaml",),
        status: ("prefrec status FOLDER",),
        rollback: ("prefrec rollback FOLDER",),
        forget: ("prefrec forget STATE LOOP --user 42", "prefrec forget STATE LOOP STORE --users ids.txt"),
    },
    "Hugging Face Hub": {
        push: ("prefrec push RUN/policy hf://NAME/REPO", "prefrec push DATASET hf://datasets/NAME/REPO"),
        pull: ("prefrec pull hf://NAME/REPO --output POLICY",),
    },
    "Cluster": {
        submit: (
            "prefrec submit my.yaml --command prepare --output s3://BUCKET/data",
            "prefrec submit my.yaml --output s3://BUCKET/sweep -- --resume",
        ),
        plan: (
            "prefrec plan my.yaml --calibrate costs.json",
            "prefrec plan my.yaml --costs costs.json --nodes 4,16,64",
        ),
        doctor: ("prefrec doctor --address http://HOST:8265",),
    },
}
for panel, commands in PANELS.items():
    for command, examples in commands.items():
        # Typer prints paragraphs as lines.
        epilog = "\n\n".join(["examples:", *examples])
        app.command(command.__name__.replace("_", "-"), rich_help_panel=panel, epilog=epilog)(command)
app.add_typer(
    bench,
    name="bench",
    rich_help_panel="Evaluation",
    epilog="examples:\n\nprefrec bench run OUTPUT --submission popular\n\nprefrec bench table OUTPUT",
)

INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prefrec {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # The help of `app` stands above the list of commands.
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Exit status: 0 if successful, 2 after a user error (one line on stderr), 130 or 143 after a signal.
    """
    end_on_sigterm()
    # A command that does not start Ray itself must fail instead of joining a cluster that runs on this machine.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    status = run(arguments)
    # Ray may print lines to standard error as it ends, and after Ctrl-C a stack.
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command like `main`, and return its exit status. Raises all errors except user errors."""
    # Waiting threads of PyTorch sleep: if runs share cores, spinning makes training ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        status = app(args=arguments, standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except SystemExit as error:
        if not terminated() and error.code != signal.SIGTERM:  # from Ray's own handler, while Ray starts
            raise
        return _stop("terminated", TERMINATED)
    except Exception as error:
        user_error = find_user_error(error)
        if user_error is not None:
            return _stop(str(user_error), 2)
        # Typer's own errors (an unknown option, a missing argument) share this method and no public base class.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _stop(message(), 2) if message() else 2
    # Typer turns Ctrl-C into this status by itself.
    return _stop("interrupted", INTERRUPTED) if status == INTERRUPTED else int(status)


def _stop(message: str, status: int) -> int:
    line = " ".join(message.split())
    print(f"prefrec: error: {line}" if status == 2 else f"prefrec: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
