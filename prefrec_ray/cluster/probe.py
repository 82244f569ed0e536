"""Probe of all nodes, run as a job on the cluster. It prints one line of JSON.

`python -m prefrec_ray.cluster.probe [STORAGE]`
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Prefix of the line of facts.
MARK = "prefrec-facts "
#: Seconds until all nodes must have replied.
PATIENCE = 20.0
PACKAGES = ("ray", "torch", "numpy", "pyarrow", "prefrec-ray")
#: Run a function on nodes, with arguments made from each node's id; return the results that arrive in time by id.
_OnNodes = Callable[..., dict[str, Any]]


def gather(uri: str | None) -> dict[str, Any]:
    """Return the facts of every live node, for `doctor`. Nodes without a reply have no `facts`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ends, head = time.monotonic() + PATIENCE, ray.get_runtime_context().get_node_id()  # jobs run on the head
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}

    def on_nodes(ids: Iterable[str], function: Callable[..., Any], *arguments: Callable[[str], Any]) -> dict[str, Any]:
        task = ray.remote(num_cpus=0, max_retries=0)(function)
        calls = {}
        for node in ids:
            there = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            calls[node] = there.remote(*(argument(node) for argument in arguments))
        ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=max(0.1, ends - time.monotonic()))
        results = {}
        for node, call in calls.items():
            if call in ready:
                with suppress(ray.exceptions.RayError):
                    results[node] = ray.get(call)
        return results

    facts = on_nodes(nodes, _facts)
    problems = _try_storage(on_nodes, list(facts), uri) if uri is not None and facts else {}
    return {
        "nodes": [
            {
                "address": node["NodeManagerAddress"],
                "head": number == head,
                "resources": {k: v for k, v in node["Resources"].items() if not k.startswith("node:")},
                "facts": facts.get(number),
                "storage": problems.get(number),
            }
            for number, node in nodes.items()
        ]
    }


def _facts() -> dict[str, Any]:
    """Return name, versions (None: not installed) and bytes of shared memory."""
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(PACKAGES)}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    shared = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    return {
        "host": socket.gethostname(),
        "versions": versions,
        "shm": shared.f_blocks * shared.f_frsize if shared else None,
    }


def _try_storage(on_nodes: _OnNodes, nodes: list[str], uri: str) -> dict[str, str | None]:
    """Return the storage problem of each node at `uri`, or None. Every node writes, and reads the first node's file."""
    from prefrec_ray import storage  # here: nodes without pyarrow are reported too

    folder, word = f"{uri.rstrip('/')}/.prefrec-doctor-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    unknown = dict.fromkeys(nodes, f"no reply of the storage within {PATIENCE:.0f} s")
    wrote = on_nodes(nodes, _write, lambda node: f"{folder}/{node}", lambda node: word)
    problems: dict[str, str | None] = {**unknown, **wrote}
    writers = [node for node, problem in problems.items() if problem is None]
    if writers:
        read = on_nodes(writers, _read, lambda node: f"{folder}/{writers[0]}", lambda node: word)
        problems |= {node: read.get(node, unknown[node]) for node in writers}
        # A folder that is not shared exists on every node.
        on_nodes(writers, storage.remove, lambda node: folder)
    return problems


def _write(uri: str, text: str) -> str | None:
    """Write `text` to a file and read it again; return the problem, or None."""
    from prefrec_ray import storage

    try:
        storage.make_folder(uri.rpartition("/")[0])
        storage.write_text(uri, text)
        return None if storage.read_text(uri) == text else "reads other content than it wrote"
    except Exception as error:  # any error of the filesystem is the result of the check
        return " ".join(str(error).split())[:300] or type(error).__name__


def _read(uri: str, text: str) -> str | None:
    """Read the file of another node; return the problem, or None."""
    from prefrec_ray import storage

    try:
        return None if storage.read_text(uri) == text else "reads other content than another node wrote"
    except Exception as error:
        return f"cannot read the file of another node ({' '.join(str(error).split())[:200]})"


def main() -> None:
    """Print the facts."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    print(MARK + json.dumps(gather(sys.argv[1] if len(sys.argv) > 1 else None)), flush=True)


if __name__ == "__main__":
    main()
