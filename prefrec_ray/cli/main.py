"""The command `prefrec`: its subcommands, and errors as one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Annotated, Any

import typer

from prefrec_ray import __version__
from prefrec_ray.cli.cluster import doctor, submit
from prefrec_ray.cli.data import forget, inspect, prepare, pull, push, simulate
from prefrec_ray.cli.evaluation import bench, constrain, evaluate, report
from prefrec_ray.cli.labels import import_labels, label, pairs
from prefrec_ray.cli.quickstart import plugins, quickstart, validate
from prefrec_ray.cli.serving import compare, nightly, plan_test, repair, rollback, serve, status
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
#: The commands of each panel of `prefrec --help`.
PANELS: dict[str, tuple[Callable[..., Any], ...]] = {
    "First steps": (quickstart, validate, plugins),
    "Data": (simulate, inspect, prepare),
    "Labels from annotators": (pairs, import_labels, label),
    "Training": (train, tune, export),
    "Evaluation": (evaluate, constrain, report),
    "Serving": (serve, compare, plan_test, nightly, status, rollback, repair, forget),
    "Hugging Face Hub": (push, pull),
    "Cluster": (submit, doctor),
}
#: Lines for the end of the help of their commands.
EXAMPLES = files("prefrec_ray.cli").joinpath("examples.txt").read_text("utf-8").splitlines()


def _examples(command: str) -> str:
    # Typer prints paragraphs as lines.
    return "\n\n".join(["examples:", *(line for line in EXAMPLES if line.split()[1] == command)])


for panel, commands in PANELS.items():
    for command in commands:
        name = command.__name__.replace("_", "-")
        app.command(name, rich_help_panel=panel, epilog=_examples(name))(command)
app.add_typer(bench, name="bench", rich_help_panel="Evaluation", epilog=_examples("bench"))

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
