"""Costs of the stages on one machine; a simulated run on processors, a network link per node and one driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from prefrec_ray.settings import Settings

#: Name of the tasks that read the log. Ray Data names them after several functions.
READ = "read"
#: Functions of the tasks of `prepare` with one task per bucket of users.
BUCKET_TASKS = (READ, "_write", "_bucket_scores", "_bucket_items", "_bucket_gram", "_state_moments", "_write_requests")
#: Functions with one task per data set.
SINGLE_TASKS = ("_embeddings", "feedback_network_of", "repeats_of")
#: Function with one task per shard of transitions.
SHARD_TASK = "write_shard"
#: Function of `evaluate` with one task per file of impressions.
SCORE_TASK = "_score"
#: Functions of every `prepare`. Learned embeddings and expected feedback have further ones.
ALWAYS_PLANNED = (READ, "_write", "_bucket_scores", "_state_moments", "_write_requests", "repeats_of", SHARD_TASK)
#: Folders of a data set, the log, and the narrow rows of `prepare`.
STORED = ("narrow", "sessions", "transitions", "requests", "log")


class Cost(Settings):
    """Processor seconds of a task and private memory of its process in bytes, each at the start and per impression."""

    start: NonNegativeFloat
    row: NonNegativeFloat
    memory: NonNegativeFloat
    row_memory: NonNegativeFloat


class Costs(Settings):
    """Costs for states of `width` numbers and users with `requests` impressions on average.

    tasks: by the name of the task's function. evaluate: processor seconds per model of users, without the pass over the
    split. dispatch: seconds of the driver per task. overhead: processors that Ray itself uses on a node. pair, update,
    label: processor seconds per pair of pre-training, per transition and per look-ahead label. driver, learner: bytes
    of memory. stored: bytes per impression, by folder of the data set, of the log, and of the narrow rows of `prepare`.
    """

    cores: PositiveInt
    width: PositiveInt
    requests: PositiveFloat
    tasks: dict[str, Cost]
    evaluate: NonNegativeFloat
    dispatch: NonNegativeFloat
    overhead: NonNegativeFloat
    pair: NonNegativeFloat
    update: NonNegativeFloat
    label: NonNegativeFloat
    driver: NonNegativeFloat
    learner: NonNegativeFloat
    stored: dict[str, NonNegativeFloat]

    @model_validator(mode="after")
    def _has_all(self) -> Self:
        for key, needed in (("tasks", (*ALWAYS_PLANNED, SCORE_TASK)), ("stored", STORED)):
            missing = [name for name in needed if name not in getattr(self, key)]
            if missing:
                raise ValueError(f"{key}: {missing[0]} is missing; expected {', '.join(needed)}")
        return self


@dataclass(frozen=True)
class Cluster:
    """Equal nodes: `memory` and `disk` in bytes per node, `bandwidth` in bytes/s per node.

    latency: seconds of a request to the storage. dispatch: seconds of the driver per task. overhead: processors of a
    node that Ray itself uses, so that tasks take longer.
    """

    nodes: int
    cpus: int
    memory: float
    disk: float
    bandwidth: float
    latency: float
    dispatch: float
    overhead: float


@dataclass(frozen=True)
class Phase:
    """Equal tasks of a stage, between two barriers.

    seconds: processor time of a task. moved: bytes that it reads from the storage and writes. memory: bytes of its
    process. store: bytes in the object stores of all nodes. requests: to the storage, per task. waits: False if the
    next phases run at the same time.
    """

    stage: str
    tasks: int
    seconds: float
    moved: float = 0.0
    memory: float = 0.0
    store: float = 0.0
    requests: int = 0
    waits: bool = True


@dataclass
class StagePlan:
    """Sums over the phases of a stage. work: processor seconds. waiting: seconds of requests to the storage.

    memory: bytes on the fullest node at the peak. bound: the cause of the time.
    """

    stage: str
    seconds: float = 0.0
    tasks: int = 0
    phases: int = 0
    work: float = 0.0
    waiting: float = 0.0
    moved: float = 0.0
    memory: float = 0.0
    bound: str = ""


def simulate(phases: Sequence[Phase], cluster: Cluster) -> tuple[list[StagePlan], float]:
    """Return the stages in order, and the seconds of all.

    The driver starts the tasks one after another, each on the processor that is free first. A task moves its bytes over
    the link of its node, which the node's tasks share, and then computes.
    """
    processors = [(0.0, number) for number in range(cluster.nodes * cluster.cpus)]
    links = [0.0] * cluster.nodes
    stages: dict[str, StagePlan] = {}
    barrier = last = 0.0
    slowdown = 1 + cluster.overhead / cluster.cpus
    for phase in phases:
        plan = stages.setdefault(phase.stage, StagePlan(phase.stage))
        driver = ended = barrier
        for _ in range(phase.tasks):
            free, number = heappop(processors)
            driver += cluster.dispatch
            node = number % cluster.nodes
            links[node] = max(links[node], free, driver) + phase.moved / cluster.bandwidth
            end = links[node] + slowdown * phase.seconds + phase.requests * cluster.latency
            heappush(processors, (end, number))
            ended = max(ended, end)
        _add(plan, phase, ended - barrier, cluster)
        last = max(last, ended)
        if phase.waits:
            barrier = ended
    for plan in stages.values():
        plan.bound = _bound(plan, cluster)
    return list(stages.values()), last


def _add(plan: StagePlan, phase: Phase, seconds: float, cluster: Cluster) -> None:
    plan.seconds += seconds
    plan.tasks += phase.tasks
    plan.phases += 1
    plan.work += phase.tasks * phase.seconds
    plan.waiting += phase.tasks * phase.requests * cluster.latency
    plan.moved += phase.tasks * phase.moved
    at_once = min(cluster.cpus, -(-phase.tasks // cluster.nodes))
    plan.memory = max(plan.memory, at_once * phase.memory + phase.store / cluster.nodes)


def _bound(plan: StagePlan, cluster: Cluster) -> str:
    """Return the cause of the time of a stage; `requests` are to the storage.

    It is `barriers` if a phase has too few tasks for the processors.
    """
    causes = {
        "processors": plan.work / (cluster.nodes * cluster.cpus),
        "requests": plan.waiting / (cluster.nodes * cluster.cpus),
        "network": plan.moved / (cluster.nodes * cluster.bandwidth),
        "driver": plan.tasks * cluster.dispatch,
    }
    if plan.tasks <= 1:
        return "one task"
    cause = max(causes, key=lambda name: causes[name])
    return cause if 2 * causes[cause] >= plan.seconds else "barriers" if plan.phases > 1 else "few tasks"
