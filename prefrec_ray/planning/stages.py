"""Phases of `prepare`, `train` and `evaluate` for a number of impressions, with the costs of a calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prefrec_ray import runtime
from prefrec_ray.dataset.prepare.items import items_of_log
from prefrec_ray.dataset.prepare.run import count_buckets, define_state
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.dataset.prepare.shuffle import Destinations, waves_at_once
from prefrec_ray.dataset.prepare.states import COUNTED, FITTED, NUMBER_BYTES
from prefrec_ray.dataset.prepare.users import GROUPS, ROWS_OF_FILE
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.logs.fragments import READ_TASKS
from prefrec_ray.logs.sources import SimulatorSource
from prefrec_ray.memory import text
from prefrec_ray.planning.cluster import READ, SCORE_TASK, SHARD_TASK, Cluster, Costs, Phase, StagePlan, simulate
from prefrec_ray.runs.settings import TrainSettings

#: Share of a node's memory that Ray takes for the object store.
_STORE_SHARE = 0.3
#: Bytes of a piece (bucket, file, place, size) and of a user in the tables of the driver, each also in a sorted copy.
_PIECE_BYTES, _USER_BYTES = 2 * 76, 2 * 57


@dataclass(frozen=True)
class PlannedRun:
    """Size and settings of a run. `width`: numbers in a state."""

    impressions: int
    width: int
    prepare: PrepareSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    costs: Costs

    @property
    def buckets(self) -> int:
        return count_buckets(self.prepare, self.impressions, self.width)

    @property
    def transitions(self) -> int:
        """Return the number of transitions of training users."""
        return round(self.impressions * self.prepare.train_fraction)

    @property
    def wider(self) -> float:
        """Return the width of a state, in widths of the calibration."""
        return self.width / self.costs.width

    @property
    def disk(self) -> float:
        """Return the bytes of the log and the data set, and of the files of `prepare` before they are removed."""
        stored = self.costs.stored
        wide = self.wider * (stored["requests"] + stored["transitions"])
        return self.impressions * (stored["log"] + stored["sessions"] + wide + stored["narrow"])

    def of_bucket(
        self, stage: str, name: str, wide: bool = False, moved: float = 0.0, tasks: int = 0, requests: int = 1
    ) -> Phase:
        """Return a phase with one task per bucket, or `tasks` of several buckets. `moved`: bytes per impression."""
        cost, tasks = self.costs.tasks[name], tasks or self.buckets
        rows = self.impressions / tasks
        own = rows * (self.wider if wide else 1.0)
        seconds = cost.start * self.buckets / tasks + cost.row * own
        return Phase(stage, tasks, seconds, moved * rows, cost.memory + cost.row_memory * own, requests=requests)

    def single(self, stage: str, name: str, most: float = 0.0, waits: bool = False) -> Phase:
        """Return a phase with one task, which reads at most `most` training impressions. 0: it has a fixed size."""
        cost = self.costs.tasks[name]
        return Phase(stage, 1, cost.start + cost.row * min(most, self.impressions), memory=cost.memory, waits=waits)


def width_of(settings: PrepareSettings, costs: Costs) -> int:
    """Return the numbers in a state of the log; the log of a simulator has the states of the calibration."""
    if isinstance(settings.source, SimulatorSource):
        return costs.width
    runtime.start_ray()
    log = settings.source.open_log(settings.seed)
    return define_state(log, settings, items_of_log(log, None)).width


def prepare_phases(run: PlannedRun, cluster: Cluster) -> Iterator[Phase]:
    """Yield the phases of `prepare`."""
    tasks, stored = run.costs.tasks, run.costs.stored
    narrow = stored["narrow"]
    files = -(-run.impressions // ROWS_OF_FILE)
    readers, read = min(files, max(READ_TASKS, cluster.nodes * cluster.cpus)), tasks[READ]
    seconds = read.start + read.row * run.impressions / readers
    moved = (stored["log"] + narrow) * run.impressions / readers
    yield Phase("read the log", readers, seconds, moved, read.memory)
    users = run.impressions / run.costs.requests
    groups = min(run.buckets, GROUPS)
    tables = run.costs.driver + _PIECE_BYTES * files * groups + _USER_BYTES * users
    yield Phase("tables of the driver", 1, 0.0, memory=tables)
    yield run.of_bucket("group by user", "_write", moved=2 * narrow, tasks=groups, requests=files)
    yield run.of_bucket("label preferences", "_bucket_scores", moved=stored["sessions"])
    if "_embeddings" in tasks:
        yield run.of_bucket("list items", "_bucket_items", moved=narrow)
        yield run.of_bucket("count items consumed together", "_bucket_gram", moved=narrow)
        yield run.single("fit item embeddings", "_embeddings", waits=True)
    yield run.of_bucket("scale states", "_state_moments", wide=True, moved=narrow)
    if "feedback_network_of" in tasks:
        yield run.single("fit expected feedback", "feedback_network_of", FITTED)
    yield run.single("count repeats", "repeats_of", COUNTED)
    yield from _wide_phases(run, cluster)


def _wide_phases(run: PlannedRun, cluster: Cluster) -> Iterator[Phase]:
    """Yield the waves that are computed together: states of their buckets, then their shards."""
    row_bytes = 4 * (2 * run.width + run.prepare.action_dim) + NUMBER_BYTES
    shuffle = Destinations.for_size(run.transitions, row_bytes, run.prepare.seed)
    compute = run.of_bucket(
        "compute states",
        "_write_requests",
        wide=True,
        moved=run.costs.stored["narrow"] + run.wider * run.costs.stored["requests"],
    )
    cost = run.costs.tasks[SHARD_TASK]
    seconds = cost.start + run.wider * cost.row * run.impressions / shuffle.shards
    moved = 2 * run.wider * run.costs.stored["transitions"] * run.impressions / shuffle.shards
    stores = _STORE_SHARE * cluster.nodes * cluster.memory
    at_once = min(shuffle.waves, waves_at_once({"object_store_memory": stores}))
    for first in range(0, shuffle.waves, at_once):
        last = min(first + at_once, shuffle.waves)
        store = (last - first) * shuffle.transitions / shuffle.waves * row_bytes
        buckets = last * run.buckets // shuffle.waves - first * run.buckets // shuffle.waves
        shards = (last - first) * shuffle.shards_of_wave
        yield Phase("compute states", buckets, compute.seconds, compute.moved, compute.memory, store)
        yield Phase("shuffle transitions", shards, seconds, moved, cost.memory, store)


def train_phases(run: PlannedRun, cluster: Cluster) -> Iterator[Phase]:
    """Yield the phases of `train`. A learner uses as many processors as in the calibration."""
    settings, costs = run.train.training(), run.costs
    learners, threads = max(1, settings.num_learners), min(costs.cores, cluster.cpus)
    used = min(run.transitions, settings.replay_buffer_size or run.transitions)
    learned = settings.num_epochs * used / learners
    if settings.uses_preferences:
        pairs = settings.pretrain_epochs * run.prepare.preferences.pairs * len(settings.teacher_names)
        if settings.pretrain_updates is not None:
            pairs = min(pairs, settings.pretrain_updates * settings.preference_batch_size)
        yield Phase("pretrain the reward", learners, costs.pair * pairs / threads / learners, memory=costs.learner)
    if settings.looks_ahead:
        tasks = min(run.buckets, cluster.nodes * cluster.cpus)
        moved = run.wider * costs.stored["requests"] * run.impressions / tasks
        seconds = costs.label * run.wider * run.transitions / tasks
        yield Phase("label transitions", tasks, seconds, moved, 2 * 4 * run.transitions / tasks)
    moved = run.wider * costs.stored["transitions"] / run.prepare.train_fraction * learned
    yield Phase("train", learners, costs.update * run.wider * learned / threads, moved, costs.learner)


def evaluate_phases(run: PlannedRun) -> Iterator[Phase]:
    """Yield the phases of `evaluate` for one policy."""
    prepared = run.prepare
    test = 1 - prepared.train_fraction - prepared.validation_fraction
    rows = run.impressions * (test if run.evaluate.split == "test" else prepared.validation_fraction)
    score, files = run.costs.tasks[SCORE_TASK], run.buckets
    moved = run.wider * run.costs.stored["requests"] * rows / files
    yield Phase("score logged sessions", files, score.row * run.wider * rows / files, moved, score.memory)
    models = run.evaluate.model.models if "model" in run.evaluate.estimators else 1
    yield Phase("fits and roll-outs", models, run.costs.evaluate, memory=score.memory)


@dataclass(frozen=True)
class ClusterPlan:
    """Stages by command, hours of all commands, and limits that break: the first one first."""

    cluster: Cluster
    commands: dict[str, list[StagePlan]]
    hours: float
    broken: list[str]

    @property
    def node_hours(self) -> float:
        """Return the price of the run."""
        return self.hours * self.cluster.nodes

    @property
    def slowest(self) -> StagePlan:
        return max((stage for stages in self.commands.values() for stage in stages), key=lambda stage: stage.seconds)


def plan_run(run: PlannedRun, cluster: Cluster) -> ClusterPlan:
    """Simulate the commands one after another."""
    phases = {
        "prepare": prepare_phases(run, cluster),
        "train": train_phases(run, cluster),
        "evaluate": evaluate_phases(run),
    }
    planned = {command: simulate(list(some), cluster) for command, some in phases.items()}
    broken = []
    room = cluster.nodes * cluster.disk
    if room and run.disk > room:
        broken.append(f"disk: {text(run.disk)} of {text(room)}")
    for command, (stages, _) in planned.items():
        broken += [
            f"memory in {command}, {stage.stage}: {text(stage.memory)} of {text(cluster.memory)}"
            for stage in stages
            if stage.memory > cluster.memory
        ]
    commands = {command: stages for command, (stages, _) in planned.items()}
    return ClusterPlan(cluster, commands, sum(seconds for _, seconds in planned.values()) / 3600, broken)
