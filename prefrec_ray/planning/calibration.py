"""Costs of the stages on one machine, from runs of the stages on simulated logs of two sizes. Linux only.

Tasks are sampled from /proc: their processor time does not depend on other programs, unlike time on the clock.
"""

from __future__ import annotations

import os
import re
import resource
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.logs.sources import SimulatorSource
from prefrec_ray.planning.cluster import (
    ALWAYS_PLANNED,
    BUCKET_TASKS,
    READ,
    SCORE_TASK,
    SHARD_TASK,
    SINGLE_TASKS,
    Cost,
    Costs,
)
from prefrec_ray.runs.columns import Row
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run
from prefrec_ray.runtime.progress import Report, silent
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.settings import SPLITS
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

#: Seconds between two samples. A shorter task is counted for the task before or after it.
_INTERVAL = 0.05
#: Samples between two searches for new processes, which read a file per thread.
_SEARCH = 10
_TICK = os.sysconf("SC_CLK_TCK")
#: Name of this process. Tasks have the names of their functions.
DRIVER = "driver"
#: Name of Ray's own processes, and of a worker before its first task.
SYSTEM = "system"
#: Users of the logs, and buckets of both, so that buckets have two sizes, smaller and larger than in a large log.
USERS = (400, 1600)
BUCKETS = 4
#: Runs of `prepare` per size: the processor time of one run can be off by half.
_REPETITIONS = 3
#: Functions of the tasks of `prepare`.
_TASKS = (*BUCKET_TASKS, *SINGLE_TASKS, SHARD_TASK)
#: Passes over the preferences, and iterations of updates. The first of each starts the networks and is not measured.
_PASSES, _ITERATIONS, _UPDATES = 3, 4, 5
#: Mini-batches of preferences in a pass.
_PREFERENCES = 5
_EMPTY_TASKS = 200
#: Models of users. All others take as long.
_MODELS = 2
#: Bytes per number.
_COLUMN = 8


#: The stage of a calibration.
STAGE = "calibrate: runs"


class Meter(threading.Thread):
    """Samples this process and its descendants inside `with`.

    seconds: processor seconds by name. memory: largest private memory of one process in bytes, by name. clock: seconds
    on the clock.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds: dict[str, float] = defaultdict(float)
        self.memory: dict[str, int] = defaultdict(int)
        self.clock = 0.0
        self._used: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._processes: list[int] = []
        self._ended = threading.Event()

    def __enter__(self) -> Meter:
        self._sample()
        self.seconds.clear()  # of earlier work
        self.memory.clear()
        self.clock = -time.perf_counter()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self.join()
        self._sample()
        self.clock += time.perf_counter()

    def run(self) -> None:
        """Sample until the end of `with`."""
        numbers = count(1)
        while not self._ended.wait(_INTERVAL):
            self._sample(search=next(numbers) % _SEARCH == 0)

    def _sample(self, search: bool = True) -> None:
        if search:
            self._processes = [os.getpid(), *_descendants(os.getpid())]
        for process in self._processes:
            with suppress(OSError):  # it has ended
                used, memory = _use(process)
                name = self._names[process] = _name(process) or self._names.get(process, SYSTEM)
                self.seconds[name] += used - self._used.get(process, 0.0)
                self.memory[name] = max(self.memory[name], memory)
                self._used[process] = used


def _name(process: int) -> str | None:
    """Return the name of a process; None for a worker without a task, which finishes the work of its last one."""
    if process == os.getpid():
        return DRIVER
    title = _read(process, "cmdline").split("\0")[0]
    if not title.startswith("ray::"):
        return SYSTEM
    function = title.removeprefix("ray::").strip()
    return None if function == "IDLE" else function


def _use(process: int) -> tuple[float, int]:
    """Return processor seconds and private memory in bytes."""
    fields = _read(process, "stat").rpartition(")")[2].split()
    memory = re.search(r"RssAnon:\s+(\d+)", _read(process, "status"))
    return (int(fields[11]) + int(fields[12])) / _TICK, 1024 * int(memory[1]) if memory else 0


def _descendants(process: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in _read(process, f"task/{thread.name}/children").split():
                yield int(child)
                yield from _descendants(int(child))


def _read(process: int, file: str) -> str:
    return Path(f"/proc/{process}/{file}").read_text("utf-8", errors="replace")


def calibrate(
    world: SimulateSettings,
    prepared: PrepareSettings,
    train: TrainSettings,
    evaluation: EvaluateSettings,
    report: Report,
) -> Costs:
    """Simulate, prepare, train and evaluate with the settings of a YAML, and return the costs.

    The number of users, the source, the buckets and the length of the training are replaced. `report` counts the runs
    of stages.
    """
    pairs = _PREFERENCES * train.training().preference_batch_size
    preferences = prepared.preferences.model_copy(update={"pairs": pairs})
    prepared = prepared.model_copy(update={"preferences": preferences, "partitions": BUCKETS, "like": None})
    with tempfile.TemporaryDirectory() as folder:
        sizes = (USERS[0], *USERS * _REPETITIONS)  # the first run starts Ray's workers, and is not counted
        meters, impressions, runs = [], [], len(sizes) + 2
        for number, users in enumerate(sizes):
            report(STAGE, number, runs, f"prepare {users:,} users")
            logs, dataset = (storage.join(folder, f"{kind}-{users}") for kind in ("logs", "dataset"))
            if not storage.exists(logs):
                simulate(world.model_copy(update={"users": users, "shards": BUCKETS}), logs)
            storage.remove(dataset)
            meter, made = measured_prepare(prepared, logs, dataset)
            meters.append(meter)
            impressions.append(sum(counts["requests"] for counts in made.metadata.counts.values()))
        begin = time.process_time()
        run_tasks(lambda number: _empty.remote(), range(_EMPTY_TASKS), "start tasks", silent)
        dispatch = (time.process_time() - begin) / _EMPTY_TASKS
        run = storage.join(folder, "run")
        report(STAGE, runs - 2, runs, "train")
        learner = _train(train, made, run)
        report(STAGE, runs - 1, runs, "evaluate")
        with Meter() as evaluated:
            model = evaluation.model.model_copy(update={"models": _MODELS})
            own = evaluation.model_copy(update={"current": None, "guard_rails": (), "model": model})
            run_evaluation(EvaluationRun([storage.join(run, "policy")], made.uri, own))
        report(STAGE, runs, runs)
        rows = impressions[-1]
        stored = {name: storage.size(made.path(name)) for name in ("sessions", "transitions")}
        stored["requests"] = sum(storage.size(made.path("requests", split)) for split in SPLITS)
        stored["log"] = storage.size(storage.join(folder, f"logs-{USERS[-1]}", "interactions"))
        narrow = _COLUMN * (7 + len(made.state.feedback))  # ids, time, session, page, split and feedback
        test = made.metadata.counts[evaluation.split]["requests"]
    seen = {name for one in meters for name in one.seconds}  # without tasks that are shorter than a sample
    names = [name for name in _TASKS if name in seen or name in ALWAYS_PLANNED]
    tasks = {name: _cost(name, meters[1:], np.array(impressions[-len(USERS) :])) for name in names}
    score, memory = evaluated.seconds.pop(SCORE_TASK, 0.0), float(evaluated.memory[SCORE_TASK])
    tasks[SCORE_TASK] = Cost(start=0, row=score / test, memory=memory, row_memory=0)
    others = sum(seconds for name, seconds in evaluated.seconds.items() if name not in (DRIVER, SYSTEM))
    return Costs(
        cores=os.cpu_count() or 1,
        width=made.state.width,
        requests=rows / USERS[-1],
        tasks=tasks,
        evaluate=others / _MODELS,
        dispatch=dispatch,
        overhead=float(np.median([_overhead(meter) for meter in meters[1:]])),
        driver=meters[-1].memory[DRIVER],
        stored={"narrow": narrow, **{name: size / rows for name, size in stored.items()}},
        **learner,
    )


def measured_prepare(settings: PrepareSettings, logs: str, output: str) -> tuple[Meter, PreparedDataset]:
    """Prepare the logs of the simulator, and return the processor time and memory of the tasks."""
    source = SimulatorSource(kind="simulator", path=logs)
    with Meter() as meter:
        dataset = prepare(settings.model_copy(update={"source": source}), output)
    for name in [name for name in meter.seconds if "MapBatches" in name]:
        meter.seconds[READ] += meter.seconds.pop(name)
        meter.memory[READ] = max(meter.memory[READ], meter.memory.pop(name))
    return meter, dataset


def _overhead(meter: Meter) -> float:
    """Return the processors that the driver and Ray's own processes use while tasks of `prepare` run."""
    return sum(seconds for name, seconds in meter.seconds.items() if name not in _TASKS) / meter.clock


def _cost(name: str, meters: list[Meter], rows: np.ndarray) -> Cost:
    """Fit the costs of a task: lines through the median seconds and the peak memory of both sizes, which do not fall.

    meters: of the runs, both sizes in turn. rows [2]: impressions of both sizes.
    """
    runs = np.reshape([(meter.seconds[name], meter.memory[name]) for meter in meters], (-1, len(USERS), 2))
    seconds, memory = np.median(runs[..., 0], axis=0), runs[..., 1].max(axis=0)
    # The samples miss short tasks, which take at least the memory of a worker.
    seen = [meter.memory[task] for meter in meters for task in BUCKET_TASKS if meter.memory[task]]
    memory = np.maximum(memory, min(seen))
    if name == SHARD_TASK:  # shards have one size
        return Cost(start=0, row=seconds[-1] / rows[-1], memory=memory[-1], row_memory=0)
    tasks = 1 if name in SINGLE_TASKS else BUCKETS
    (start, row), (own, more) = (_line(rows / tasks, values) for values in (seconds / tasks, memory))
    return Cost(start=start, row=row, memory=own, row_memory=more)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope = max(0.0, float((y[1] - y[0]) / (x[1] - x[0])))
    start = float(y[1] - slope * x[1])
    return (start, slope) if start >= 0 else (0.0, float(y[1] / x[1]))


def _train(settings: TrainSettings, dataset: PreparedDataset, output: str) -> dict[str, float]:
    """Train for a few iterations; return the costs of a learner."""
    training = settings.training()
    transitions = dataset.metadata.counts["train"]["transitions"]
    own: dict[str, Any] = {
        "num_learners": 0,
        "num_gpus_per_learner": 0,
        "updates_per_iteration": _UPDATES,
        "pretrain_epochs": _PASSES,
        "pretrain_updates": None,
        "num_epochs": _ITERATIONS * _UPDATES * training.train_batch_size_per_learner / transitions,
    }
    short = settings.model_copy(update={"config": {**settings.config, **own}, "validation": None, "choose_rule": False})
    marks: list[float] = []

    def mark(stage: str, done: int, total: int, note: str = "") -> None:
        marks.append(time.process_time())

    rows = start_run(short, dataset.uri, output, report=mark)
    seconds = np.diff(marks[: len(rows) + 1])
    pretrained = sum(row["phase"] == "pretrain" for row in rows)
    update, label = _update(seconds[pretrained:], rows[pretrained:])
    return {
        "pair": float(np.median(seconds[1:pretrained])) / rows[0]["pairs"] if pretrained else 0.0,
        "update": update,
        "label": label / transitions if training.looks_ahead else 0.0,
        "learner": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _update(seconds: np.ndarray, rows: list[Row]) -> tuple[float, float]:
    """Return the seconds of a transition, and of the rest of the first iteration, which makes the labels."""
    each = seconds / [row["transitions"] for row in rows]
    update = float(np.median(each[1:]))
    return update, max(0.0, float(each[0]) - update) * rows[0]["transitions"]


@ray.remote(num_cpus=1)
def _empty() -> None:
    """Do nothing."""
