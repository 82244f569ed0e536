"""The simulation of a cluster against bounds that hold for any order of tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.planning.cluster import Cluster, Phase, simulate

SECONDS = st.floats(0.01, 100)


def cluster(nodes: int = 1, cpus: int = 1, **changes: float) -> Cluster:
    limits = {"bandwidth": 1e9, "latency": 0, "dispatch": 0, "overhead": 0, **changes}
    return Cluster(nodes, cpus, memory=1e9, disk=0, **limits)


@given(st.integers(1, 5), st.integers(1, 4), st.lists(st.tuples(st.integers(0, 40), SECONDS), min_size=1, max_size=5))
def test_a_run_takes_no_longer_than_graham_s_bound_and_no_shorter_than_its_work(
    nodes: int, cpus: int, sizes: list[tuple[int, float]]
) -> None:
    phases = [Phase(str(number), tasks, seconds) for number, (tasks, seconds) in enumerate(sizes)]
    stages, seconds = simulate(phases, cluster(nodes, cpus))
    work = [tasks * each / (nodes * cpus) for tasks, each in sizes]
    longest = [each if tasks else 0.0 for tasks, each in sizes]
    assert seconds >= sum(map(max, zip(work, longest, strict=True))) - 1e-6
    assert seconds <= sum(work) + sum(longest) + 1e-6
    assert sum(stage.seconds for stage in stages) == pytest.approx(seconds)
    assert sum(stage.work for stage in stages) == pytest.approx(sum(work) * nodes * cpus)


@given(st.integers(1, 4), st.integers(1, 60), st.floats(1, 1e6))
def test_the_tasks_of_a_node_share_its_link(nodes: int, tasks: int, moved: float) -> None:
    (stage,), seconds = simulate([Phase("move", tasks, 0.0, moved)], cluster(nodes, 8, bandwidth=1e3))
    assert seconds == pytest.approx(-(-tasks // nodes) * moved / 1e3)
    assert stage.moved == pytest.approx(tasks * moved)


def test_processors_that_ray_uses_are_not_there_for_tasks() -> None:
    (stage,), seconds = simulate([Phase("x", 8, 3.0)], cluster(cpus=2, overhead=0.5))
    assert (seconds, stage.work) == (15, 24)  # 1.25 times 12


def test_a_stage_names_its_bound() -> None:
    def bound(*phases: Phase, **of_cluster: float) -> str:
        return simulate(phases, cluster(4, 4, **of_cluster))[0][0].bound

    assert bound(Phase("x", 160, 1.0)) == "processors"
    assert bound(Phase("x", 160, 0.01, 1e9)) == "network"
    assert bound(Phase("x", 160, 0.01), dispatch=1.0) == "driver"
    assert bound(Phase("x", 160, 0.0, requests=100), latency=0.1) == "requests"
    assert bound(Phase("x", 1, 5.0)) == "one task"
    assert bound(Phase("x", 2, 5.0)) == "few tasks"
    assert bound(*[Phase("x", 2, 5.0)] * 10) == "barriers"


def test_a_stage_that_does_not_wait_runs_beside_the_next_ones() -> None:
    phases = [Phase("long", 1, 10.0, waits=False), Phase("short", 3, 2.0)]
    stages, seconds = simulate(phases, cluster(cpus=2))
    assert seconds == 10
    assert [stage.seconds for stage in stages] == [10, 6]


def test_memory_is_the_memory_of_the_tasks_on_the_fullest_node_and_of_its_share_of_the_object_store() -> None:
    (stage,), _ = simulate([Phase("x", 5, 1.0, memory=10.0, store=400.0)], cluster(nodes=4, cpus=8))
    assert stage.memory == 2 * 10 + 100
