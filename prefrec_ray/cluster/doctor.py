"""Examination of a cluster before a run: runs `probe` on its head as a job, and checks the facts of its nodes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prefrec_ray.cluster import jobs, probe
from prefrec_ray.errors import UserError

#: Seconds for the whole job: a new Python on the head and on each node, and `probe.PATIENCE`.
PATIENCE = 60.0
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the table: subject, result, and finding with advice."""

    name: str
    good: bool
    text: str


def examine(address: str, storage: str | None, env: dict[str, str]) -> list[Check]:
    """Run all checks of the cluster whose dashboard is at `address`.

    `storage`: a URI that every node must be able to write to. `env`: variables for the nodes' access to the storage.
    Raises `UserError` like `jobs.connect`, and if a check does not end.
    """
    client = jobs.connect(address)
    guarded = jobs.asks_for_token(address)
    text = (
        "required of every client"
        if guarded
        else "not required: anyone who reaches the address can run commands: set RAY_AUTH_MODE=token"
    )
    return [Check("token", guarded, text), *judge(_facts(client, storage, env), storage)]


def _facts(client: Any, storage: str | None, env: dict[str, str]) -> dict[str, Any]:
    number = jobs.start(client, "prefrec_ray.cluster.probe", [storage] if storage else [], env)
    ends = time.monotonic() + PATIENCE
    while (info := client.get_job_info(number)).status.value not in jobs.ENDED:
        if time.monotonic() > ends:
            client.stop_job(number)
            raise UserError(
                f"job {number}: the check did not end in {PATIENCE:.0f} s (status {info.status.value}); "
                f"expected a head that runs jobs: see its dashboard"
            )
        time.sleep(0.5)
    lines = client.get_job_logs(number).strip().splitlines()
    for line in lines:
        if line.startswith(probe.MARK):
            return json.loads(line.removeprefix(probe.MARK))
    last = lines[-1] if lines else info.message or "no log"
    raise UserError(f"job {number}: the check failed on the cluster ({last}); expected a cluster that runs jobs")


def judge(facts: dict[str, Any], uri: str | None) -> list[Check]:
    """Return all checks of `probe.gather`'s facts; storage if `uri` was tried."""
    nodes = [node for node in facts["nodes"] if node["facts"] is not None]
    silent = [str(node["address"]) for node in facts["nodes"] if node["facts"] is None]
    answered = f"{len(nodes)} of {len(facts['nodes'])} reply"
    if silent:
        answered += f"; no reply of {', '.join(silent)}: check its raylet's log, or end it"
    checks = [Check("nodes", not silent, answered)]
    if not nodes:
        return checks
    checks += [_versions(nodes), _head(facts["nodes"])]
    if uri is not None:
        checks.append(_storage(nodes, uri))
    return [*checks, _memory(nodes)]


def _check(name: str, wrong: Sequence[str], advice: str, good: str) -> Check:
    """Return a check that fails if something is `wrong`."""
    return Check(name, False, f"{', '.join(wrong)}{advice}") if wrong else Check(name, True, good)


def _versions(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that Python (to the minor version), Ray, PyTorch and so on are the same on all nodes."""
    installed = nodes[0]["facts"]["versions"]
    wrong = [problem for package in sorted(installed) for problem in _version_problems(nodes, package)]
    text = ", ".join(f"{name} {value}" for name, value in installed.items() if value)
    return _check("versions", wrong and ["; ".join(wrong)], ": use one image or one lock file on all nodes", text)


def _version_problems(nodes: Sequence[dict[str, Any]], package: str) -> Iterator[str]:
    by_node = {_name(node): node["facts"]["versions"][package] or "none" for node in nodes}
    if package == "python":
        by_node = {name: ".".join(value.split(".")[:2]) for name, value in by_node.items()}
    common, _ = Counter(by_node.values()).most_common(1)[0]
    other = [f"{name} has {value}" for name, value in by_node.items() if value != common]
    if other:
        yield f"{package} is {common}, but {', '.join(other)}"
    elif package in ("torch", "pyarrow") and common == "none":
        yield f"{package} is installed nowhere"


def _head(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the head runs no work if there are other nodes: if the head fails, so does the cluster."""
    if len(nodes) == 1:
        return Check("head", True, "is the only node")
    cpus = sum(node["resources"].get("CPU", 0) for node in nodes if node["head"])
    wrong = [f"takes work ({cpus:g} CPUs)"] if cpus else []
    return _check("head", wrong, ": start it with --num-cpus=0", "takes no work")


def _storage(nodes: Sequence[dict[str, Any]], uri: str) -> Check:
    """Check that every node can write, and can read a file that another node wrote."""
    wrong = [f"{uri}: {_name(node)}: {node['storage']}" for node in nodes if node["storage"] is not None]
    more = f" (and {len(wrong) - 1} more nodes)" if len(wrong) > 1 else ""
    advice = f"{more}: give all nodes the right to write there, or the mount"
    return _check("storage", wrong[:1], advice, f"{uri}: written and read by {len(nodes)} nodes")


def _memory(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the object store fits into shared memory, since otherwise Ray uses the disk, ten times slower."""
    small = [
        f"{_name(node)} has {_gib(node['facts']['shm'])} for a store of {_gib(_store(node))}"
        for node in nodes
        if node["facts"]["shm"] is not None and node["facts"]["shm"] < _store(node)
    ]
    largest = max(map(_store, nodes))
    advice = ": enlarge /dev/shm (docker --shm-size) or make it smaller"
    return _check("shared memory", small, advice, f"holds the object stores (at most {_gib(largest)})")


def _name(node: dict[str, Any]) -> str:
    return f"{node['facts']['host']} ({node['address']})"


def _store(node: dict[str, Any]) -> float:
    return float(node["resources"].get("object_store_memory", 0))


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB"
