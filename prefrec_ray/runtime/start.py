"""Start of Ray, or connection to a cluster, without Ray's own output."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from prefrec_ray.errors import UserError
from prefrec_ray.runtime.join import join

#: Exit status after SIGTERM, as in shells.
TERMINATED = 128 + signal.SIGTERM


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
    # Ray Data logs every exception that it raises.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
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
    # Otherwise a UserError of a task reaches the driver as a text in another exception.
    context.raise_original_map_exception = True


def _start(num_cpus: int | None) -> None:
    import ray

    # Ray would write a token to ~/.ray, readable by everyone with access to the home, and fail if it is not writable.
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
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
            " and join it: --address auto"
        ) from error
    if sys.stderr.isatty():
        print("prefrec: started Ray on this machine", file=sys.stderr)


def check_fits(required: Mapping[str, float], who: str, keys: str) -> None:
    """Raise `UserError`, prefixed by `who`, if more resources are `required` than the cluster has or may add.

    Ray would wait for missing resources forever. `keys`: the settings that request them.
    """
    import ray
    from ray._private.state import state

    there: Counter[str] = Counter(ray.cluster_resources())
    # Ray's public calls list running nodes, not nodes that the autoscaler may start.
    there |= Counter(state.get_max_resources_from_cluster_config() or {})
    for kind, amount in required.items():
        if amount > there[kind]:
            raise UserError(
                f"{who} asks for {amount:g} {kind}, the cluster has {there[kind]:g}; "
                f"expected less ({keys}) or a larger cluster"
            )
