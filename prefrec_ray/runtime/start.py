"""Start of Ray on this machine, or connection to a cluster, without Ray's own output.

A cluster that does not reply is reported within seconds; Ray would retry a dead address for minutes.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from prefrec_ray.errors import UserError

#: Exit status after SIGTERM, as in shells.
TERMINATED = 128 + signal.SIGTERM
#: Seconds to wait for a reply of a cluster's head, and then for a node on this machine.
PATIENCE = 8.0


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


def join(address: str) -> None:
    """Make this process a driver of the cluster at `address` (`HOST:PORT`, or `auto`: the cluster on this machine).

    Raises `UserError` within about 20 s: unknown address, no reply, another version of Ray, a missing or wrong token,
    no node of the cluster on this machine.
    """
    import ray
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    if address == "auto":  # as Ray does; an explicit address only gets a token if RAY_AUTH_MODE is set
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    place = resolve(address)
    knock(place)
    nodes = _nodes(place)
    ray.init(address=place, logging_level=logging.ERROR, log_to_driver=False)
    print(f"prefrec: joined the Ray cluster at {place}, {nodes} node{'s' * (nodes != 1)}", file=sys.stderr)


def resolve(address: str) -> str:
    """Return host and port of `address`. Raises `UserError` if it is invalid, or if `auto` finds no cluster."""
    from ray._private.services import canonicalize_bootstrap_address

    wanted = "expected HOST:PORT of a cluster with this machine as a node, auto or local"
    if "://" in address:
        raise UserError(f"Ray's address '{address}': a URL; {wanted} (prefrec submit takes a dashboard's URL)")
    try:
        place = canonicalize_bootstrap_address(address)
    except (ValueError, OSError) as error:  # ConnectionError is an OSError
        reason = "no cluster runs on this machine" if address == "auto" else "no address"
        raise UserError(f"Ray's address '{address}': {reason}; {wanted}") from error
    return str(place)


def knock(place: str) -> None:
    """Raise `UserError` unless the head of a Ray cluster of this version replies at `place` and accepts the token."""
    import grpc
    import ray
    from ray._private.gcs_utils import create_gcs_channel
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    try:
        with create_gcs_channel(place) as channel:
            answer = NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=PATIENCE)
    except (grpc.RpcError, ray.exceptions.AuthenticationError) as error:
        code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.UNAUTHENTICATED
        if code == grpc.StatusCode.UNAUTHENTICATED:
            raise UserError(
                f"{place}: the cluster requires its token, found a wrong token or none; "
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            ) from error
        raise UserError(
            f"{place}: no reply of a Ray cluster ({code.name.lower().replace('_', ' ')}); "
            "expected the address of a running cluster; without RAY_ADDRESS Ray is started on this "
            "machine"
        ) from error
    if answer.ray_version != ray.__version__:
        raise UserError(
            f"{place}: the cluster runs Ray {answer.ray_version}, this machine {ray.__version__}; "
            "expected the same version"
        )


def _nodes(place: str) -> int:
    """Wait until this machine is a node of the cluster, and return the number of nodes. Raises `UserError` if not."""
    import ray
    from ray._private.services import find_node_ids

    client = ray._raylet.GcsClient(address=place)
    ends = time.monotonic() + PATIENCE
    while True:
        nodes = client.get_all_node_info(timeout=PATIENCE)
        alive = [number.hex() for number, node in nodes.items() if node.state == node.ALIVE]
        if set(alive) & set(find_node_ids()):
            return len(alive)
        if time.monotonic() > ends:
            raise UserError(
                f"{place}: no node of this cluster runs on this machine; "
                "expected a command on one of its nodes: prefrec submit sends it there"
            )
        time.sleep(0.5)
