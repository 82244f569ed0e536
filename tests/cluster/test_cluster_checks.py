"""Checks of the doctor from given facts, and placement of bundles."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.cli.config import parse_section
from prefrec_ray.cluster.doctor import Check, capacity, judge
from prefrec_ray.cluster.placement import Demand, demands, unplaced

GIB = 2**30
VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.8.0", "pyarrow": "21.0.0", "prefrec-ray": None}


def node(address: str, head: bool = False, **resources: float) -> dict[str, Any]:
    return {
        "address": address,
        "head": head,
        "group": None,
        "resources": {"object_store_memory": 4 * GIB, **resources},
        "facts": {
            "host": f"h{address}",
            "versions": dict(VERSIONS),
            "shm": 5 * GIB,
        },
        "storage": None,
    }


def cluster() -> dict[str, Any]:
    return {"nodes": [node("1", head=True), node("2", CPU=4, data=4), node("3", GPU=1, train=4)], "groups": []}


def judged(facts: dict[str, Any], *needs: Demand) -> dict[str, Check]:
    return {check.name: check for check in judge(facts, "s3://b/runs", needs)}


def test_a_good_cluster() -> None:
    checks = judged(cluster(), Demand("tune", ({"GPU": 0.25, "train": 1.0},)))
    assert [check.name for check in checks.values() if not check.good] == []
    assert list(checks) == ["nodes", "versions", "head", "storage", "shared memory", "resources"]
    assert checks["nodes"].text == "3 of 3 reply"


WRONG = [
    ("versions", ["facts", "versions", "torch"], "2.7.1", "torch is 2.8.0, but h2 (2) has 2.7.1"),
    ("versions", ["facts", "versions", "python"], "3.12.1", "python is 3.11, but h2 (2) has 3.12"),
    ("versions", ["facts", "versions", "prefrec-ray"], "0.1.0", "prefrec-ray is none, but h2 (2) has 0.1.0"),
    ("storage", ["storage"], "Access Denied", "s3://b/runs: h2 (2): Access Denied"),
    ("shared memory", ["facts", "shm"], 1 * GIB, "h2 (2) has 1.0 GiB for a store of 4.0 GiB"),
    ("nodes", ["facts"], None, "2 of 3 reply; no reply of 2"),
]


@pytest.mark.parametrize(("name", "path", "value", "text"), WRONG, ids=[f"{row[0]}-{row[1][-1]}" for row in WRONG])
def test_one_wrong_thing_is_one_cross(name: str, path: list[str], value: Any, text: str) -> None:
    facts = cluster()
    target = facts["nodes"][1]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    checks = judged(facts)
    assert [check.name for check in checks.values() if not check.good] == [name]
    assert text in checks[name].text
    assert "\n" not in checks[name].text


def test_small_differences_are_none() -> None:
    facts = cluster()
    facts["nodes"][1]["facts"]["versions"]["python"] = "3.11.9"
    assert all(check.good for check in judged(facts).values())


def test_work_on_the_head() -> None:
    facts = cluster()
    facts["nodes"][0]["resources"]["CPU"] = 8
    assert "takes work (8 CPUs)" in judged(facts)["head"].text
    facts["nodes"] = facts["nodes"][:1]
    assert judged(facts)["head"].good


def test_no_node_answers() -> None:
    facts = cluster()
    for one in facts["nodes"]:
        one["facts"] = None
    (check,) = judge(facts, "s3://b", [])
    assert not check.good


def test_missing_resources() -> None:
    def text(*bundles: dict[str, float]) -> str:
        check = judged(cluster(), Demand("tune", bundles))["resources"]
        assert not check.good
        return check.text

    assert "no single node has 1 CPU + 1 GPU" in text({"CPU": 1.0, "GPU": 1.0})
    assert "the most GPU of one node is 1" in text({"GPU": 2.0})
    assert "the most wings of one node is 0" in text({"wings": 1.0})
    assert "2 times 1 GPU do not fit on the nodes at once" in text({"GPU": 1.0}, {"GPU": 1.0})


def test_what_the_autoscaler_may_start_counts() -> None:
    facts = cluster()
    demand = Demand("train", ({"GPU": 1.0},) * 3)
    assert not judged(facts, demand)["resources"].good
    facts["groups"] = [{"name": "gpu", "resources": {"GPU": 1, "train": 4}, "most": 3}]
    facts["nodes"][2]["group"] = "gpu"
    assert len(capacity(facts)) == 5
    assert judged(facts, demand)["resources"].good
    assert not judged(facts, Demand("train", ({"GPU": 1.0},) * 4))["resources"].good
    facts["groups"][0]["most"] = -1
    assert judged(facts, Demand("train", ({"GPU": 1.0},) * 4))["resources"].good


def test_training_in_the_driver_does_not_belong_on_the_head() -> None:
    demand = Demand("train", ({"CPU": 1.0},), in_driver=True)
    assert "would train on the head" in judged(cluster(), demand)["resources"].text
    alone = {"nodes": [node("1", head=True, CPU=4)], "groups": []}
    assert judged(alone, demand)["resources"].good


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(0, 3)}), min_size=1, max_size=3),
    st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.integers(0, 2)}),
    st.integers(1, 4),
)
def test_equal_bundles_fit_where_a_search_of_all_places_finds_one(
    nodes: list[dict[str, int]], bundle: dict[str, int], number: int
) -> None:
    resources = {kind: float(amount) for kind, amount in bundle.items() if amount}

    def fits(places: tuple[int, ...]) -> bool:
        left = copy.deepcopy(nodes)
        for place in places:
            for kind, amount in resources.items():
                left[place][kind] -= amount
        return all(value >= 0 for one in left for value in one.values())

    possible = any(fits(places) for places in itertools.product(range(len(nodes)), repeat=number))
    assert (unplaced(Demand("x", (resources,) * number), nodes) is None) == possible


def test_demands_of_a_yaml() -> None:
    sections = {
        "prepare": {"source": {"kind": "simulator", "path": "logs"}},
        "train": {
            "config": {"num_learners": 2, "num_gpus_per_learner": 1, "custom_resources_per_learner": {"train": 1}}
        },
        "tune": {
            "resources": {"cpus": 0, "gpus": 0.25, "custom": {"train": 1}},
            "search": {"num_learners": {"grid": [0, 2]}, "num_cpus_per_learner": {"grid": [1, 3]}},
        },
    }
    needs = demands({name: parse_section(name, value, "a.yaml") for name, value in sections.items()})
    assert [(demand.what.split(" ")[0], demand.bundles) for demand in needs] == [
        ("prepare", ({"CPU": 1.0},)),
        ("train", ({"GPU": 1.0, "train": 1.0},) * 2),
        ("tune", ({"GPU": 0.25, "train": 1.0}, {"CPU": 3.0}, {"CPU": 3.0})),
    ]
    (plain,) = demands({"train": parse_section("train", {}, "a.yaml")})
    assert plain.in_driver
    (on_a_gpu,) = demands({"train": parse_section("train", {"config": {"num_gpus_per_learner": 1}}, "a.yaml")})
    assert unplaced(on_a_gpu, [{"CPU": 4.0}]) == "no single node has 1 GPU (the most GPU of one node is 0)"
    assert unplaced(on_a_gpu, [{"CPU": 4.0, "GPU": 1.0}]) is None
