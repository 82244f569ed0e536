"""Time and memory of `prepare`, `train` and `evaluate` on a cluster, by the rates of docs/results/scale.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prefrec_ray import runtime
from prefrec_ray.dataset.prepare.items import items_of_log
from prefrec_ray.dataset.prepare.run import define_state
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.memory import text
from prefrec_ray.runs.settings import TrainSettings

#: Numbers in a state for which `WORK` and `TASK_MEMORY` were measured.
WIDTH = 245
#: Stage -> core seconds per million impressions, transitions, pairs or fits of `WIDTH` numbers.
WORK = {
    "read the log": 0.21,
    "group by user": 0.28,
    "label preferences": 0.09,
    "scale states": 1.9,
    "compute states": 9.5,
    "shuffle transitions": 6.6,
    "pretrain the reward": 3900,
    "train": 126,
    "score logged sessions": 143,
}
#: Core seconds of the models of users, for any log: a rough inference, like the last three rates above.
MODELS_WORK = 300
#: Bytes of a task of `prepare`, of a learner, and of a learner per transition.
TASK_MEMORY, LEARNER_MEMORY, REWARD_MEMORY = 0.9e9, 2e9, 20
#: Bytes per impression of the log, and of its columns without states.
LOG_BYTES, NARROW_BYTES = 30, 80
#: Cores that a learner uses.
LEARNER_CORES = 2


@dataclass(frozen=True)
class Cluster:
    """Equal nodes. memory: bytes per node. bandwidth: bytes/s per node."""

    nodes: int
    cpus: int
    memory: float
    bandwidth: float


@dataclass(frozen=True)
class PlannedRun:
    """Size and settings of a run. width: numbers in a state."""

    impressions: int
    width: int
    prepare: PrepareSettings
    train: TrainSettings
    evaluate: EvaluateSettings

    @property
    def transitions(self) -> float:
        """Return the number of transitions of training users."""
        return self.impressions * self.prepare.train_fraction


@dataclass(frozen=True)
class Stage:
    """A stage on a cluster. work: core seconds. moved: bytes read and written. bound: cause of the time."""

    name: str
    seconds: float
    work: float
    moved: float
    memory: float
    bound: str


@dataclass(frozen=True)
class Plan:
    """The stages on a cluster; `broken`: the limits that do not hold."""

    cluster: Cluster
    stages: list[Stage]
    broken: list[str]

    @property
    def hours(self) -> float:
        """Return the time of all stages."""
        return sum(stage.seconds for stage in self.stages) / 3600

    @property
    def node_hours(self) -> float:
        """Return the price of the run."""
        return self.hours * self.cluster.nodes


def open_run(
    prepare: PrepareSettings, train: TrainSettings, evaluate: EvaluateSettings, impressions: int | None
) -> PlannedRun:
    """Return the run of a log, which is opened for the width of its states; None: with the log's impressions.

    Raises `UserError` for a log that `prepare` would refuse to open.
    """
    runtime.start_ray()
    log = prepare.source.open_log(prepare.seed)
    width = define_state(log, prepare, items_of_log(log, None)).width
    return PlannedRun(impressions or log.rows, width, prepare, train, evaluate)


def plan(run: PlannedRun, cluster: Cluster) -> Plan:
    """Return the stages one after another, each as slow as the slower of its processors and its network."""
    stages = list(_stages(run, cluster))
    broken = [
        f"memory in {stage.name}: {text(stage.memory)} of {text(cluster.memory)}"
        for stage in stages
        if stage.memory > cluster.memory
    ]
    return Plan(cluster, stages, broken)


def _stages(run: PlannedRun, cluster: Cluster) -> Iterator[Stage]:
    cores, wider, settings = cluster.nodes * cluster.cpus, run.width / WIDTH, run.train.training()
    states, transitions = 4 * run.width, 4 * (2 * run.width + run.prepare.action_dim)

    def stage(
        command: str, name: str, count: float, moved: float, processors: int, memory: float, wide: float = 1.0
    ) -> Stage:
        work = WORK[name] * wide * count / 1e6
        nodes = min(cluster.nodes, processors)
        times = {"processors": work / processors, "network": moved * count / (nodes * cluster.bandwidth)}
        bound = max(times, key=lambda cause: times[cause])
        learners = "learners" if command == "train" and bound == "processors" else bound
        return Stage(f"{command}: {name}", times[bound], work, moved * count, memory, learners)

    memory = cluster.cpus * TASK_MEMORY * max(1.0, wider)
    for name, moved, wide in (
        ("read the log", LOG_BYTES + NARROW_BYTES, 1.0),
        ("group by user", 2 * NARROW_BYTES, 1.0),
        ("label preferences", NARROW_BYTES, 1.0),
        ("scale states", NARROW_BYTES, wider),
        ("compute states", NARROW_BYTES + states, wider),
        ("shuffle transitions", 2 * transitions, wider),
    ):
        yield stage("prepare", name, run.impressions, moved, cores, memory, wide)
    learners = max(1, settings.num_learners)
    busy = min(cores, LEARNER_CORES * learners)
    used = min(run.transitions, settings.replay_buffer_size or run.transitions)
    memory = LEARNER_MEMORY + REWARD_MEMORY * used / learners
    if settings.uses_preferences:
        pairs = settings.pretrain_epochs * run.prepare.preferences.pairs * len(settings.teacher_names)
        if settings.pretrain_updates is not None:
            pairs = min(pairs, settings.pretrain_updates * settings.preference_batch_size)
        yield stage("train", "pretrain the reward", pairs, 0, busy, memory, wider)
    yield stage("train", "train", settings.num_epochs * used, transitions, busy, memory, wider)
    test = 1 - run.prepare.train_fraction - run.prepare.validation_fraction
    share = test if run.evaluate.split == "test" else run.prepare.validation_fraction
    memory = cluster.cpus * TASK_MEMORY
    yield stage("evaluate", "score logged sessions", share * run.impressions, states, cores, memory, wider)
    if "model" in run.evaluate.estimators:
        processors = min(cores, run.evaluate.model.models)
        yield Stage("evaluate: models of users", MODELS_WORK / processors, MODELS_WORK, 0, memory, "models")
