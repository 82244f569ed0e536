"""Checks of the doctor from given facts."""

from typing import Any

import pytest

from prefrec_ray.cluster.doctor import Check, check_nodes

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.8.0", "pyarrow": "21.0.0", "prefrec-ray": None}


def node(address: str) -> dict[str, Any]:
    facts = {"host": f"h{address}", "versions": dict(VERSIONS)}
    return {"address": address, "facts": facts, "storage": None}


def cluster() -> list[dict[str, Any]]:
    return [node("1"), node("2"), node("3")]


def judged(facts: list[dict[str, Any]]) -> dict[str, Check]:
    return {check.name: check for check in check_nodes(facts, "s3://b/runs")}


def test_a_good_cluster() -> None:
    checks = judged(cluster())
    assert [check.name for check in checks.values() if not check.good] == []
    assert list(checks) == ["nodes", "versions", "storage"]
    assert checks["nodes"].text == "3 of 3 reply"


WRONG = [
    ("versions", ["facts", "versions", "torch"], "2.7.1", "torch is 2.8.0, but h2 (2) has 2.7.1"),
    ("versions", ["facts", "versions", "python"], "3.12.1", "python is 3.11, but h2 (2) has 3.12"),
    ("versions", ["facts", "versions", "prefrec-ray"], "0.1.0", "prefrec-ray is none, but h2 (2) has 0.1.0"),
    ("storage", ["storage"], "Access Denied", "s3://b/runs: h2 (2): Access Denied"),
    ("nodes", ["facts"], None, "2 of 3 reply; no reply of 2"),
]


@pytest.mark.parametrize(("name", "path", "value", "text"), WRONG, ids=[f"{row[0]}-{row[1][-1]}" for row in WRONG])
def test_one_wrong_thing_is_one_cross(name: str, path: list[str], value: Any, text: str) -> None:
    facts = cluster()
    target = facts[1]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    checks = judged(facts)
    assert [check.name for check in checks.values() if not check.good] == [name]
    assert text in checks[name].text
    assert "\n" not in checks[name].text


def test_small_differences_are_none() -> None:
    facts = cluster()
    facts[1]["facts"]["versions"]["python"] = "3.11.9"
    assert all(check.good for check in judged(facts).values())


def test_no_node_answers() -> None:
    facts = cluster()
    for one in facts:
        one["facts"] = None
    (check,) = check_nodes(facts, "s3://b")
    assert not check.good
