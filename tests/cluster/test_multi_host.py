"""A cluster of three hosts, launched over ssh, on which things die: every sweep ends as if nothing had happened."""

from __future__ import annotations

import csv
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
import yaml
from hosts import ROOT
from own_cluster import OBJECTS, URL, OwnCluster, submit
from patience import soon, until
from s3_server import RCLONE
from small_platform import NETWORKS, logs_and_data

from prefrec_ray import storage
from prefrec_ray.cli.config import open_section
from prefrec_ray.runs.tuning.results import CLOCK
from prefrec_ray.runs.tuning.run import sweep
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]

SECTIONS: dict[str, Any] = {
    **logs_and_data("s3://bucket"),
    # Three trials fill the four CPUs: the first has a separate learner and a worker; the last has no reward.
    "tune": {
        "method": ["PrefRec", "IL"],
        "task": "depth",
        "dataset": "s3://bucket/data",
        "search": {"num_learners": {"grid": [1, 0], "methods": ["PrefRec"]}},
        "base": {**NETWORKS, "num_epochs": 3, "updates_per_iteration": 10},
        "checkpoint_every": 2,
        "validation": {"estimators": ["ncis"]},  # the quickest: a sweep is there to be disturbed
    },
}
#: The processes of a trial, of a learner of its own, and of a node.
TRIAL, LEARNER, RAYLET = "ray::ResourceTrainable", "ray::_WrappedExecutable", "/raylet/raylet "
#: Seconds for a sweep to end after a fault.
PATIENCE = 600.0


@pytest.fixture(scope="module")
def cluster(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """The cluster with a data set on its store; `ray down` leaves no process of Ray on the head."""
    why_not = "rclone is not installed" if RCLONE is None else hosts.missing()
    if why_not is not None:
        pytest.skip(f"cannot make hosts: {why_not}")
    running = OwnCluster(tmp_path_factory.mktemp("cluster"))
    try:
        (running.folder / "my.yaml").write_text(yaml.safe_dump(SECTIONS))
        running.up()
        until(lambda: running.nodes() == 3, 400)
        simulate(SimulateSettings(**SECTIONS["simulate"]), str(running.bucket / "logs"))
        done = running.ask(*line(running, "prepare", "--output", "s3://bucket/data"))
        assert done.returncode == 0, done.stdout
        yield running
        running.down()
        assert running.head.processes("raylet|gcs_server") == []
    finally:
        running.stop()


def line(cluster: OwnCluster, command: str, *arguments: str) -> list[str]:
    return submit(command, str(cluster.folder / "my.yaml"), *arguments)


def results(folder: Path) -> dict[str, Any]:
    """A sweep's table, the rows of each trial's curves, the weights; without the columns that hold times."""

    def rows(file: Path) -> list[dict[str, str]]:
        with file.open() as stream:
            return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(stream)]

    table = rows(folder / "trials.csv")
    names = [row["trial"] for row in table]
    actors = {name: storage.read_arrays(str(folder / "policies" / name / "actor.safetensors")) for name in names}
    return {
        "table": table,
        "curves": {name: rows(folder / name / "progress.csv") for name in names},
        "weights": {name: {key: array.tolist() for key, array in actor.items()} for name, actor in actors.items()},
    }


def check_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Weights to the bit; numbers of tables to what another number of threads makes of a sum."""

    def check_rows(rows: list[dict[str, str]], others: list[dict[str, str]]) -> None:
        assert [row.keys() for row in rows] == [row.keys() for row in others]
        for row, other in zip(rows, others, strict=True):
            for name, value in row.items():
                if value != other[name]:
                    assert float(value) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-5), name

    assert actual["weights"] == expected["weights"]
    check_rows(actual["table"], expected["table"])
    assert actual["curves"].keys() == expected["curves"].keys()
    for name, rows in actual["curves"].items():
        check_rows(rows, expected["curves"][name])


class Sweep:
    """A sweep on the cluster, and its files in the store."""

    def __init__(self, cluster: OwnCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.folder = cluster.bucket / "runs" / name
        self.process: subprocess.Popen[str]

    def start(self) -> None:
        """Submits it; returns when trials have left checkpoints and none has ended."""
        self.go()
        until(lambda: len(list(self.folder.glob("*/checkpoint_*"))) >= 2 or self.process.poll() is not None, PATIENCE)
        assert self.process.poll() is None, self.log()

    def go(self, *more: str) -> None:
        output = ("--output", f"s3://bucket/runs/{self.name}")
        self.process = self.cluster.begin(*line(self.cluster, "tune", *output, *more), log=f"{self.name}.log")

    def end(self) -> int:
        """Waits; the exit status."""
        return self.process.wait(soon(PATIENCE))

    def log(self) -> str:
        return (self.cluster.folder / f"{self.name}.log").read_text()

    def starts(self) -> list[int]:
        """The iterations of the checkpoints that trials, by their own word, went on from."""
        return [int(iteration) for iteration in re.findall(r": resuming from iteration (\d+)", self.log())]

    def went_on(self) -> bool:
        """Return True if a trial continued from a checkpoint."""
        starts = self.starts()
        assert all(start % SECTIONS["tune"]["checkpoint_every"] == 0 for start in starts), starts
        return bool(starts)

    def results(self) -> dict[str, Any]:
        """Its `results`."""
        return results(self.folder)


@pytest.fixture(scope="module")
def undisturbed(cluster: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the sweep that nothing disturbs, on one machine: hosts and where data lie change nothing."""
    output = tmp_path_factory.mktemp("here") / "sweep"
    sweep(open_section(str(cluster.folder / "my.yaml"), "tune"), str(cluster.bucket / "data"), str(output))
    outcome = results(output)
    assert [row["status"] for row in outcome["table"]] == ["finished"] * 3
    for curve in outcome["curves"].values():
        assert [int(row["training_iteration"]) for row in curve] == list(range(1, len(curve) + 1))
    return outcome


def test_all_hosts_are_ready(cluster: OwnCluster) -> None:
    done = cluster.ask("prefrec", "doctor", "--address", URL, "--storage", "s3://bucket/runs")
    assert done.returncode == 0, done.stdout
    assert "3 of 3 reply" in done.stdout
    assert "s3://bucket/runs: written and read by 3 nodes" in done.stdout


def busy_workers(cluster: OwnCluster) -> list[hosts.Host]:
    """The workers on which trials run."""
    return [worker for worker in cluster.workers if worker.processes(TRIAL)]


def lose_a_node(cluster: OwnCluster, sweep: Sweep) -> None:
    """A worker's raylet is killed, and its trials with it; the autoscaler starts the node again over ssh."""
    worker, *_ = until(lambda: busy_workers(cluster), PATIENCE)
    assert worker.kill(RAYLET) == 1
    until(lambda: worker.processes(RAYLET), 400)
    until(lambda: cluster.nodes() == 3, 400)


def lose_a_trial(cluster: OwnCluster, sweep: Sweep) -> None:
    """The processes of the trials on one worker are killed."""
    assert until(lambda: next(filter(None, (worker.kill(TRIAL) for worker in cluster.workers)), 0), 60)


def lose_a_learner(cluster: OwnCluster, sweep: Sweep) -> None:
    """The one trial that has a learner of its own loses it."""
    assert until(lambda: sum(worker.kill(LEARNER) for worker in cluster.workers), PATIENCE) == 1


def lose_the_link(cluster: OwnCluster, sweep: Sweep) -> None:
    """The cable of a worker with trials is out for 30 s, in which the head cannot reach it."""
    worker, *_ = until(lambda: busy_workers(cluster), PATIENCE)
    ssh = ("timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{worker.address}/22")
    assert cluster.head.run(*ssh).returncode == 0
    cluster.network.plug(worker, there=False)
    assert cluster.head.run(*ssh).returncode != 0
    time.sleep(25)
    cluster.network.plug(worker, there=True)
    assert cluster.head.run(*ssh).returncode == 0
    assert sweep.process.poll() is None


def fill_the_object_stores(cluster: OwnCluster, sweep: Sweep) -> None:
    """Another job puts twice as much into each worker's object store as it holds: it spills to disk."""
    script = ["python", "fill_stores.py", str(2 * OBJECTS), "/var/tmp/prefrec-spill"]
    job = ["ray", "job", "submit", "--address", URL, "--working-dir", str(ROOT / "tests" / "cluster"), "--", *script]
    done = cluster.ask(*job)
    assert done.returncode == 0, done.stdout
    spilled = [int(number) for number in re.findall(r"^spilled (\d+)", done.stdout, re.MULTILINE)]
    assert len(spilled) == 2
    assert min(spilled) >= OBJECTS / 2


def lose_the_store(cluster: OwnCluster, sweep: Sweep) -> None:
    """The S3 server answers 503 for 20 s."""
    (server,) = cluster.store.processes(r"python \S*store\.py")
    cluster.store.run("kill", "-USR1", str(server))
    until(cluster.refused, 60)


FAULTS = [lose_a_node, lose_a_trial, lose_a_learner, lose_the_link, lose_the_store, fill_the_object_stores]


@pytest.mark.slow  # each takes as long as a sweep
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_sweep_survives(
    cluster: OwnCluster, undisturbed: dict[str, Any], fault: Callable[[OwnCluster, Sweep], None]
) -> None:
    until(lambda: cluster.nodes() == 3, 400)
    sweep = Sweep(cluster, fault.__name__)
    sweep.start()
    fault(cluster, sweep)
    assert sweep.end() == 0, sweep.log()
    check_same(sweep.results(), undisturbed)
    if fault in (lose_a_node, lose_a_trial, lose_a_learner):
        assert sweep.went_on(), sweep.starts()


def test_a_killed_driver_is_resumed_and_loses_a_node(cluster: OwnCluster, undisturbed: dict[str, Any]) -> None:
    sweep = Sweep(cluster, "driver")
    sweep.start()
    assert cluster.head.kill("prefrec_ray.cli.main tune") >= 1
    assert sweep.end() != 0
    assert not (sweep.folder / "trials.csv").exists()
    until(lambda: not busy_workers(cluster), 60)
    sweep.go("--", "--resume")
    lose_a_node(cluster, sweep)
    assert sweep.end() == 0, sweep.log()
    check_same(sweep.results(), undisturbed)
    assert sweep.went_on(), sweep.starts()
