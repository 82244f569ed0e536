"""Probe of all nodes, run as a job on the cluster. It prints one line of JSON.

`python -m prefrec_ray.cluster.probe [STORAGE]`
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Prefix of the line of facts.
MARK = "prefrec-facts "
#: Seconds until all nodes must have replied.
PATIENCE = 20.0
PACKAGES = ("ray", "torch", "numpy", "pyarrow", "prefrec-ray")
_PINGS = 5


class Node:
    """Actor on one node that reports its properties."""

    def facts(self) -> dict[str, Any]:
        """Return name, versions (None: not installed), bytes of shared memory and of free disk for spilled objects."""
        versions: dict[str, str | None] = {"python": platform.python_version()}
        for package in PACKAGES:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = None
        folder = spill_folder()
        shared = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
        return {
            "host": socket.gethostname(),
            "versions": versions,
            "shm": shared.f_blocks * shared.f_frsize if shared else None,
            "spill_folder": folder,
            "spill_free": shutil.disk_usage(folder).free,
        }

    def now(self) -> float:
        """Return seconds since 1970 by this node's clock."""
        return time.time()

    def write(self, uri: str, text: str) -> str | None:
        """Write `text` to a file and read it again; return the problem, or None."""
        from prefrec_ray import storage

        try:
            storage.make_folder(uri.rpartition("/")[0])
            storage.write_text(uri, text)
            if storage.read_text(uri) != text:
                return "reads other content than it wrote"
        except Exception as error:  # any error of the filesystem is the result of the check
            return " ".join(str(error).split())[:300] or type(error).__name__
        return None

    def read(self, uri: str, text: str) -> str | None:
        """Read the file of another node; return the problem, or None."""
        from prefrec_ray import storage

        try:
            return None if storage.read_text(uri) == text else "reads other content than another node wrote"
        except Exception as error:
            return f"cannot read the file of another node ({' '.join(str(error).split())[:200]})"

    def remove(self, uri: str) -> None:
        """Delete the folder at `uri`."""
        from prefrec_ray import storage

        storage.remove(uri)


def spill_folder() -> str:
    """Return the folder to which this node spills objects, from the arguments of its raylet, the worker's parent."""
    try:
        with open(f"/proc/{os.getppid()}/cmdline", encoding="utf-8") as stream:
            for part in stream.read().split("\0"):
                if part.startswith("--fallback_directory="):
                    return part.partition("=")[2]
    except OSError:
        pass
    return "/tmp"


def gather(uri: str | None) -> dict[str, Any]:
    """Return the facts of every live node, for `checks`. Nodes without a reply have no `facts`."""
    import ray
    from ray._private.state import state
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ends = time.monotonic() + PATIENCE
    actor = ray.remote(num_cpus=0)(Node)
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    there = {
        number: actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(number, soft=False)).remote()
        for number in nodes
    }

    def answers(calls: dict[str, Any]) -> dict[str, Any]:
        """Return the results by node that arrive in time."""
        results = {}
        ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=max(0.1, ends - time.monotonic()))
        for number, reference in calls.items():
            if reference in ready:
                try:
                    results[number] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    results[number] = {"error": str(error).strip().splitlines()[-1]}
        return results

    facts = answers({number: node.facts.remote() for number, node in there.items()})
    alive = [number for number in nodes if "versions" in facts.get(number, {})]
    skews = {number: _skew(there[number]) for number in alive}
    stored: dict[str, str | None] = {}
    if uri is not None and alive:
        stored = _try_storage({number: there[number] for number in alive}, uri, answers)
    config = state.get_cluster_config()
    groups = [] if config is None else config.node_group_configs
    return {
        "nodes": [
            {
                "address": node["NodeManagerAddress"],
                "head": "node:__internal_head__" in node["Resources"],
                "group": node.get("Labels", {}).get("ray.io/node-group"),
                "resources": {k: v for k, v in node["Resources"].items() if not k.startswith("node:")},
                "facts": facts.get(number) if number in alive else None,
                "skew": skews.get(number),
                "storage": stored.get(number),
            }
            for number, node in nodes.items()
        ],
        # Nodes that an autoscaler may start.
        "groups": [
            {"name": group.name, "resources": dict(group.resources), "most": group.max_count} for group in groups
        ],
    }


def _skew(node: Any) -> float:
    """Return the seconds by which the node's clock is ahead of this one, from the fastest of a few pings."""
    import ray

    tries = []
    for _ in range(_PINGS):
        sent = time.time()
        theirs = ray.get(node.now.remote())
        came = time.time()
        tries.append((came - sent, theirs - (sent + came) / 2))
    return min(tries)[1]


def _try_storage(there: dict[str, Any], uri: str, answers: Any) -> dict[str, str | None]:
    """Return the storage problem of each node at `uri`, or None. Every node writes, and reads the first node's file."""
    folder, word = f"{uri.rstrip('/')}/.prefrec-doctor-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    silent = f"no reply of the storage within {PATIENCE:.0f} s"
    wrote = answers({number: node.write.remote(f"{folder}/{number}", word) for number, node in there.items()})
    problems: dict[str, str | None] = {number: wrote.get(number, silent) for number in there}
    first = next((number for number, problem in problems.items() if problem is None), None)
    if first is not None:
        sees = {
            n: there[n].read.remote(f"{folder}/{first}", word) for n, problem in problems.items() if problem is None
        }
        problems |= {number: answers(sees).get(number, silent) for number in sees}
        # A folder that is not shared exists on every node.
        answers({number: node.remove.remote(folder) for number, node in there.items() if wrote.get(number, "") is None})
    return problems


def main() -> None:
    """Print the facts."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    print(MARK + json.dumps(gather(sys.argv[1] if len(sys.argv) > 1 else None)), flush=True)


if __name__ == "__main__":
    main()
