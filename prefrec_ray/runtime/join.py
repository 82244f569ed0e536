"""Join a running Ray cluster, or fail quickly with the reason. Ray retries a dead address for minutes."""

from __future__ import annotations

import logging
import sys
import time

from prefrec_ray.errors import UserError

#: Seconds to wait for a reply of the head, and then for a node on this machine.
PATIENCE = 8.0


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
            "expected the address of a running cluster; without RAY_ADDRESS and --address Ray is started on this "
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
