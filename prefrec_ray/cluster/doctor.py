"""Checks of a cluster before a run.

`python -m prefrec_ray.cluster.doctor [STORAGE]`, a job on the head, asks every node and prints the checks in one line.
"""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from prefrec_ray.errors import UserError

#: Seconds until all nodes must have replied, and for the whole job: a new Python on the head and on each node.
NODE_PATIENCE, JOB_PATIENCE = 20.0, 60.0
PACKAGES = ("ray", "torch", "numpy", "pyarrow", "prefrec-ray")
#: Prefix of the line with the checks in the log of the job.
_MARK = "prefrec-checks "


class Check(NamedTuple):
    """One line of the table: subject, result, and finding with advice."""

    name: str
    good: bool
    text: str


def examine(address: str, storage: str | None) -> list[Check]:
    """Run all checks of the cluster whose dashboard is at `address`.

    `storage`: a URI that every node must be able to write to. Raises `UserError` like `jobs.connect`, and if a check
    does not end.
    """
    from prefrec_ray.cluster import jobs

    client = jobs.connect(address)
    guarded = jobs.asks_for_token(address)
    text = (
        "required of every client"
        if guarded
        else "not required: anyone who reaches the address can run commands: set RAY_AUTH_MODE=token"
    )
    job = jobs.start(client, __name__, [storage] if storage else [])
    ends = time.monotonic() + JOB_PATIENCE
    while (info := client.get_job_info(job)).status.value not in jobs.ENDED:
        if time.monotonic() > ends:
            client.stop_job(job)
            raise UserError(
                f"job {job}: the check did not end in {JOB_PATIENCE:.0f} s (status {info.status.value}); "
                f"expected a head that runs jobs: see its dashboard"
            )
        time.sleep(0.5)
    lines = client.get_job_logs(job).strip().splitlines()
    for line in lines:
        if line.startswith(_MARK):
            return [Check("token", guarded, text), *(Check(*row) for row in json.loads(line.removeprefix(_MARK)))]
    last = lines[-1] if lines else info.message or "no log"
    raise UserError(f"job {job}: the check failed on the cluster ({last}); expected a cluster that runs jobs")


def main() -> None:
    """Print the checks, on the head."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    uri = sys.argv[1] if len(sys.argv) > 1 else None
    print(_MARK + json.dumps(check_nodes(_gather(uri), uri)), flush=True)


def _gather(uri: str | None) -> list[dict[str, Any]]:
    """Return the facts of every live node. Nodes without a reply have no `facts`."""
    import ray

    ends = time.monotonic() + NODE_PATIENCE
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    facts = _on_nodes(nodes, ends, _facts)
    problems = _try_storage(list(facts), ends, uri) if uri is not None and facts else {}
    return [
        {"address": node["NodeManagerAddress"], "facts": facts.get(number), "storage": problems.get(number)}
        for number, node in nodes.items()
    ]


def _on_nodes(ids: Iterable[str], ends: float, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Run a function on nodes, and return the results that arrive until `ends` by id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
        for node in ids
    }
    ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=max(0.1, ends - time.monotonic()))
    results = {}
    for node, call in calls.items():
        if call in ready:
            with suppress(ray.exceptions.RayError):
                results[node] = ray.get(call)
    return results


def _facts() -> dict[str, Any]:
    """Return the name of this node, and versions (None: not installed)."""
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(PACKAGES)}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {"host": socket.gethostname(), "versions": versions}


def _try_storage(nodes: list[str], ends: float, uri: str) -> dict[str, str | None]:
    """Return the storage problem of each node at `uri`, or None. Every node writes, and reads the first node's file."""
    from prefrec_ray import storage  # here: nodes without pyarrow are reported too

    folder = f"{uri.rstrip('/')}/.prefrec-doctor-{uuid.uuid4().hex[:8]}"
    unknown = dict.fromkeys(nodes, f"no reply of the storage within {NODE_PATIENCE:.0f} s")
    problems: dict[str, str | None] = {**unknown, **_on_nodes(nodes, ends, _try_file, folder, None)}
    writers = [node for node, problem in problems.items() if problem is None]
    if writers:
        read = _on_nodes(writers, ends, _try_file, folder, writers[0])
        problems |= {node: read.get(node, unknown[node]) for node in writers}
        # A folder that is not shared exists on every node.
        _on_nodes(writers, ends, storage.remove, folder)
    return problems


def _try_file(folder: str, writer: str | None) -> str | None:
    """Read the file of the node `writer`, else write and read the file of this node. Return the problem, or None."""
    import ray

    from prefrec_ray import storage

    name = writer or ray.get_runtime_context().get_node_id()
    try:
        if writer is None:
            storage.make_folder(folder)
            storage.write_text(f"{folder}/{name}", name)
        found = storage.read_text(f"{folder}/{name}")
    except Exception as error:  # any error of the filesystem is the result of the check
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return f"cannot read the file of another node ({reason})" if writer else reason
    return None if found == name else "reads other content than was written"


def check_nodes(nodes: Sequence[dict[str, Any]], uri: str | None) -> list[Check]:
    """Return all checks of the nodes' facts; storage if `uri` was tried."""
    known = [node for node in nodes if node["facts"] is not None]
    silent = [str(node["address"]) for node in nodes if node["facts"] is None]
    text = f"{len(known)} of {len(nodes)} reply"
    if silent:
        text += f"; no reply of {', '.join(silent)}: check its raylet's log, or end it"
    checks = [Check("nodes", not silent, text)]
    if known:
        checks += [_versions(known), *([_storage(known, uri)] if uri is not None else [])]
    return checks


def _versions(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that Python (to the minor version), Ray, PyTorch and so on are the same on all nodes."""
    wrong, installed = [], nodes[0]["facts"]["versions"]
    for package in installed:
        by_node = {_name(node): node["facts"]["versions"][package] or "none" for node in nodes}
        if package == "python":
            by_node = {name: value.rpartition(".")[0] for name, value in by_node.items()}
        common, _ = Counter(by_node.values()).most_common(1)[0]
        other = [f"{name} has {value}" for name, value in by_node.items() if value != common]
        if other:
            wrong.append(f"{package} is {common}, but {', '.join(other)}")
        elif package in ("torch", "pyarrow") and common == "none":
            wrong.append(f"{package} is installed nowhere")
    if wrong:
        return Check("versions", False, f"{'; '.join(wrong)}: use one image or one lock file on all nodes")
    return Check("versions", True, ", ".join(f"{name} {value}" for name, value in installed.items() if value))


def _storage(nodes: Sequence[dict[str, Any]], uri: str) -> Check:
    """Check that every node can write, and can read a file that another node wrote."""
    wrong = [f"{uri}: {_name(node)}: {node['storage']}" for node in nodes if node["storage"] is not None]
    if not wrong:
        return Check("storage", True, f"{uri}: written and read by {len(nodes)} nodes")
    more = f" (and {len(wrong) - 1} more nodes)" if len(wrong) > 1 else ""
    return Check("storage", False, f"{wrong[0]}{more}: give all nodes the right to write there, or the mount")


def _name(node: dict[str, Any]) -> str:
    return f"{node['facts']['host']} ({node['address']})"


if __name__ == "__main__":
    main()
