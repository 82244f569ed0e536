"""Start of Ray on this machine, or connection to a cluster, without Ray's own output."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from prefrec_ray.errors import UserError

#: Exit status after SIGTERM, as in shells.
TERMINATED = 128 + signal.SIGTERM
#: Variable of the environment of a job that `prefrec submit` starts.
SUBMITTED = "PREFREC_SUBMITTED"
#: Seconds in which a process must be able to join a cluster. Ray itself retries a dead address for minutes.
PATIENCE = 25.0
#: Joins the cluster at its argument, or prints the reason why this failed.
_TRIAL = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
except Exception as error:
    print(error.__cause__ or error)
    sys.exit(1)
"""


def end_on_sigterm() -> None:
    """Let SIGTERM raise `SystemExit` in the main thread, so that unfinished work is removed as after Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def terminated() -> bool:
    """Return True after SIGTERM. While Ray waits, it replaces the raised `SystemExit` by its own exception."""
    return bool(_came)


_came: list[int] = []


def _terminate(number: int, frame: Any) -> NoReturn:
    _came.append(number)
    raise SystemExit(TERMINATED)


def start_ray(num_cpus: int | None = None) -> None:
    """Start Ray on this machine, or join the cluster of `RAY_ADDRESS`. Does nothing if this process already uses Ray.

    A cluster that happens to run on this machine, perhaps of another user, is only joined if `RAY_ADDRESS` is "auto".
    Joining is reported on standard error, starting only on a terminal. Ray's progress bars and informational log are
    off, because the commands print their own progress. Raises `UserError` like `join`, and if a busy machine does not
    start Ray within Ray's limit of half a minute.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # Otherwise tracebacks of abandoned tasks follow the error line.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    warnings.filterwarnings("ignore", module=r"ray|gymnasium")
    import ray
    import ray.data

    for name in ("ray", "ray.tune", "ray.rllib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # These log every exception that they raise.
    for name in ("ray.data", "ray.rllib.utils.actor_manager"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":
            _start(num_cpus)
        else:
            join(address)
        end_on_sigterm()  # Ray's own handler prints a C++ stack
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    # A hash shuffle would let the order of rows, and so the bytes of a data set, depend on blocks.
    context.shuffle_strategy = "sort_shuffle_pull_based"
    # Otherwise a UserError of a task reaches the driver as a text in another exception.
    context.raise_original_map_exception = True


def _start(num_cpus: int | None) -> None:
    import ray

    # Ray would write a token to ~/.ray, readable by everyone with access to the home, and fail if it is not writable.
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray has no specific class for it
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start within 30 s: this machine is busy or short of memory; try again later, or start"
            " Ray before (`export RAY_AUTH_MODE=token; ray get-auth-token --generate; ray start --head`)"
            " and join it by RAY_ADDRESS=auto"
        ) from error
    if sys.stderr.isatty():
        print("prefrec: started Ray on this machine", file=sys.stderr)


def check_fits(required: Mapping[str, float], who: str, keys: str) -> None:
    """Raise `UserError`, prefixed by `who`, if more resources are `required` than Ray on this machine has.

    Ray would wait for missing resources forever. A cluster may have an autoscaler, which adds nodes: for a cluster the
    missing resources are reported on standard error. `keys`: the settings that request them.
    """
    import ray

    there = ray.cluster_resources()
    for kind, amount in required.items():
        if amount > there.get(kind, 0.0):
            lack = f"{who} asks for {amount:g} {kind}, the cluster has {there.get(kind, 0.0):g}"
            if os.environ.get("RAY_ADDRESS") in (None, "", "local"):
                raise UserError(f"{lack}; expected less ({keys}) or a larger cluster")
            print(
                f"prefrec: {lack}; waiting for its autoscaler. If it has none, stop this and ask for less ({keys})",
                file=sys.stderr,
            )


def join(address: str) -> None:
    """Make this process a driver of the cluster at `address` (`HOST:PORT`, or `auto`: the cluster on this machine).

    Another process tries it first, which can be ended. Raises `UserError` within `PATIENCE`, with the reason: an
    invalid address, no reply, another version of Ray, a missing or wrong token, no node of the cluster on this machine.
    """
    import ray

    host, _, port = address.rpartition(":")
    reason = f"no reply of a Ray cluster in {PATIENCE:.0f} s"
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, address], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        reason = "" if trial.returncode == 0 else trial.stdout or f"Ray's process ended with {trial.returncode}"
    except subprocess.TimeoutExpired:
        pass
    except (OSError, UnicodeError, OverflowError) as error:  # the last two: a host or port that cannot exist
        reason = f"no reply of a Ray cluster: {getattr(error, 'strerror', error)}"
    if reason:
        raise UserError(
            f"RAY_ADDRESS {address}: {' '.join(reason.split()).partition('. ')[0]}; expected HOST:PORT of a cluster of"
            f" Ray {ray.__version__}, or auto, with this machine as a node (prefrec submit sends a command to a node),"
            " and the cluster's token (RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH);"
            " without RAY_ADDRESS Ray is started on this machine"
        )
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    place, nodes = ray.get_runtime_context().gcs_address, sum(node["Alive"] for node in ray.nodes())
    print(f"prefrec: joined the Ray cluster at {place}, {nodes} node{'s' * (nodes != 1)}", file=sys.stderr)
