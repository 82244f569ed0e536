"""Checks of the facts that `probe` gathered: one line per requirement of a run on the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefrec_ray.cluster.placement import Bundle, Demand, unplaced

#: Largest difference of clocks in seconds, so that logs of several nodes stay comparable. S3 refuses requests at 15
#: minutes.
MAX_SKEW = 2.0
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the table: subject, result, and finding with advice."""

    name: str
    good: bool
    text: str


def judge(facts: dict[str, Any], uri: str | None, demands: Sequence[Demand]) -> list[Check]:
    """Return all checks of `probe.gather`'s facts; storage if `uri` was tried, placement for each of `demands`."""
    silent = [_name(node) for node in facts["nodes"] if node["facts"] is None]
    nodes = [node for node in facts["nodes"] if node["facts"] is not None]
    answered = f"{len(nodes)} of {len(facts['nodes'])} reply"
    if silent:
        answered += f"; no reply of {', '.join(silent)}: check its raylet's log, or end it"
    checks = [Check("nodes", not silent, answered)]
    if not nodes:
        return checks
    checks += [versions(nodes), clocks(nodes), head(facts["nodes"])]
    if uri is not None:
        checks.append(storage(nodes, uri))
    checks += [memory(nodes), spilling(nodes)]
    places = capacity(facts)
    return checks + [placement(demand, places, facts["nodes"]) for demand in demands]


def versions(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that Python (to the minor version), Ray, PyTorch and so on are the same on all nodes."""
    wrong = []
    packages = {package for node in nodes for package in node["facts"]["versions"]}
    for package in sorted(packages):
        by_node = {_name(node): _version(package, node["facts"]["versions"].get(package)) for node in nodes}
        common, _ = Counter(by_node.values()).most_common(1)[0]
        other = [f"{name} has {value}" for name, value in by_node.items() if value != common]
        if other:
            wrong.append(f"{package} is {common}, but {', '.join(other)}")
        elif package in ("torch", "pyarrow") and common == "none":
            wrong.append(f"{package} is installed nowhere")
    if wrong:
        return Check("versions", False, f"{'; '.join(wrong)}: use one image or one lock file on all nodes")
    first = nodes[0]["facts"]["versions"]
    return Check("versions", True, ", ".join(f"{name} {value}" for name, value in first.items() if value))


def _version(package: str, value: str | None) -> str:
    if value is None:
        return "none"
    return ".".join(value.split(".")[:2]) if package == "python" else value


def clocks(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that every clock is within `MAX_SKEW` of the job's clock."""
    off = [f"{_name(node)} by {node['skew']:+.1f} s" for node in nodes if abs(node["skew"]) > MAX_SKEW]
    if off:
        return Check("clocks", False, f"off: {', '.join(off)}: start chrony or ntpd there")
    largest = max(abs(node["skew"]) for node in nodes)
    return Check("clocks", True, f"within {1000 * largest:.0f} ms of each other")


def head(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the head runs no work if there are other nodes: if the head fails, so does the cluster."""
    for node in nodes:
        cpus = node["resources"].get("CPU", 0)
        if node["head"] and len(nodes) > 1 and cpus:
            return Check("head", False, f"takes work ({cpus:g} CPUs): start it with --num-cpus=0")
    return Check("head", True, "takes no work" if len(nodes) > 1 else "is the only node")


def storage(nodes: Sequence[dict[str, Any]], uri: str) -> Check:
    """Check that every node can write, and can read a file that another node wrote."""
    wrong = [f"{_name(node)}: {node['storage']}" for node in nodes if node["storage"] is not None]
    if wrong:
        more = f" (and {len(wrong) - 1} more nodes)" if len(wrong) > 1 else ""
        return Check(
            "storage", False, f"{uri}: {wrong[0]}{more}: give all nodes the right to write there, or the mount"
        )
    return Check("storage", True, f"{uri}: written and read by {len(nodes)} nodes")


def memory(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the object store fits into shared memory, since otherwise Ray uses the disk, ten times slower."""
    small = [
        f"{_name(node)} has {_gib(node['facts']['shm'])} for a store of {_gib(_store(node))}"
        for node in nodes
        if node["facts"]["shm"] is not None and node["facts"]["shm"] < _store(node)
    ]
    if small:
        return Check(
            "shared memory", False, f"{', '.join(small)}: enlarge /dev/shm (docker --shm-size) or make it smaller"
        )
    stores = sorted(_store(node) for node in nodes)
    return Check("shared memory", True, f"holds the object stores ({_range(stores)})")


def spilling(nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the disk has as much free space as the size of the object store."""
    small = [
        f"{_name(node)} has {_gib(node['facts']['spill_free'])} free in {node['facts']['spill_folder']}"
        for node in nodes
        if node["facts"]["spill_free"] < _store(node)
    ]
    if small:
        return Check(
            "spilling",
            False,
            f"{', '.join(small)}, less than its object store: --object-spilling-directory on a larger disk",
        )
    free = sorted(node["facts"]["spill_free"] for node in nodes)
    return Check("spilling", True, f"{_range(free)} free on disk")


def placement(demand: Demand, places: Sequence[Bundle], nodes: Sequence[dict[str, Any]]) -> Check:
    """Check that the nodes, including nodes that may be started, have the resources of `demand`."""
    missing = unplaced(demand, places)
    if missing is not None:
        return Check("resources", False, f"{demand.what}: {missing}: ask for less, or start such nodes")
    idle_head = any(node["head"] and not node["resources"].get("CPU", 0) for node in nodes)
    if demand.in_driver and idle_head:
        return Check(
            "resources",
            False,
            f"{demand.what}: would train on the head: set config.num_learners to 1, or submit it with --on RESOURCE",
        )
    return Check("resources", True, f"{demand.what}: has a place")


def capacity(facts: dict[str, Any]) -> list[Bundle]:
    """Return the running nodes, and the nodes that the autoscaler may add to each group."""
    places: list[Bundle] = [node["resources"] for node in facts["nodes"]]
    for group in facts["groups"]:
        running = sum(node["group"] == group["name"] for node in facts["nodes"])
        # Ray writes -1 for no limit; more than a few hundred nodes make no difference to one demand.
        most = 256 if group["most"] < 0 else min(group["most"], 256)
        places += [group["resources"]] * max(0, most - running)
    return places


def _name(node: dict[str, Any]) -> str:
    host = node["facts"]["host"] if node["facts"] else ""
    return f"{host} ({node['address']})" if host else str(node["address"])


def _store(node: dict[str, Any]) -> float:
    return float(node["resources"].get("object_store_memory", 0))


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB"


def _range(sizes: Sequence[float]) -> str:
    return _gib(sizes[0]) if sizes[0] == sizes[-1] else f"{_gib(sizes[0])} to {_gib(sizes[-1])}"
