"""Jobs and checks on a real cluster with a token: a head without CPUs, and a worker."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from local_cluster import TOKEN, LocalCluster, environment, prefrec
from patience import soon, until
from tiny import SHORT_RUN, write_dataset

from prefrec_ray.cli.main import run
from prefrec_ray.cluster import jobs
from prefrec_ray.runs.checkpoints import checkpoints
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]  # Ray starts slowly on a busy machine

LOGS = {"simulate": {"users": 24, "requests": 30}}
#: A run whose learner lies on the worker, while its driver lies on the head.
RUN = {"task": "depth", "checkpoint_every": 5, "validation": None, "config": SHORT_RUN | {"num_epochs": 10}}
LEARNER = {"num_learners": 1, "num_cpus_per_learner": 1}
WORKER = (2, '{"data": 2, "train": 1}')


@pytest.fixture(scope="module")
def cluster(ray_session: None) -> Iterator[LocalCluster]:
    """The Ray that all tests share starts before: it would take this token for its own, and others have none."""
    kept = os.environ.get("RAY_AUTH_TOKEN")
    os.environ["RAY_AUTH_TOKEN"] = TOKEN
    running = LocalCluster()
    try:
        running.wait(nodes=1)
        running.add(*WORKER)
        running.wait(nodes=2)
        yield running
    finally:
        running.stop()
        if kept is None:
            del os.environ["RAY_AUTH_TOKEN"]
        else:
            os.environ["RAY_AUTH_TOKEN"] = kept
    assert running.left() == []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump(LOGS | {"tune": {"resources": {"cpus": 0, "custom": {"train": 1}}}}))
    return file


def test_a_cluster_that_is_ready(cluster: LocalCluster, tmp_path: Path) -> None:
    done = prefrec("doctor", "--address", cluster.address, "--storage", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("✓ ") for line in lines)
    assert [line[2:].partition("  ")[0].strip() for line in lines] == ["token", "nodes", "versions", "storage"]
    assert "2 of 2 reply" in lines[1]
    assert f"{tmp_path}/runs: written and read by 2 nodes" in done.stdout
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_cluster_that_is_not(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--address", cluster.address, "--storage", "/proc/runs"]) == 2
    (cross,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("✗ ")]
    assert "/proc/runs" in cross


@pytest.mark.parametrize(("token", "line"), [(None, "requires its token"), ("not-this-one", "found a wrong token")])
def test_who_has_no_token_gets_nowhere(cluster: LocalCluster, config: Path, token: str | None, line: str) -> None:
    """Neither by the commands, nor as a driver, nor by bare HTTP: no job, list, log or state; and no job is left."""
    before = len(jobs.connect(cluster.address).list_jobs())
    output = ("--output", "/nonexistent/logs")
    for arguments, variables in (
        (["doctor", "--address", cluster.address], {}),
        (["submit", str(config), "--command", "simulate", *output, "--address", cluster.address], {}),
        (["simulate", str(config), *output], {"RAY_ADDRESS": f"127.0.0.1:{cluster.gcs}"}),
    ):
        started = time.monotonic()
        done = prefrec(*arguments, token=token, variables=variables)
        assert time.monotonic() - started < soon(30)
        assert done.returncode == 2
        (error,) = done.stderr.splitlines()
        assert ("the cluster's token" if variables else line) in error
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    for path in (
        "/api/jobs/",
        "/api/version",
        "/nodes?view=summary",
        "/api/v0/logs",
        "/api/v0/tasks",
        "/api/cluster_status",
    ):
        answer = requests.get(cluster.address + path, headers=shown, timeout=10)
        assert answer.status_code == (403 if token else 401), path
    body = {"entrypoint": "touch /tmp/prefrec-was-here"}
    assert requests.post(f"{cluster.address}/api/jobs/", json=body, headers=shown, timeout=10).status_code in (401, 403)
    assert len(jobs.connect(cluster.address).list_jobs()) == before


@pytest.mark.slow
def test_a_job_is_followed_to_its_end(cluster: LocalCluster, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "logs"
    arguments = ["submit", str(config), "--address", cluster.address, "--command", "simulate", "--output", str(output)]
    done = prefrec(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(output) in done.stdout
    assert (output / "log.json").exists()
    assert done.stdout.splitlines()[-1].endswith(": done")
    # The same again is a mistake, which only the cluster can see: its one line and its status come back.
    again = prefrec(*arguments)
    assert again.returncode == 2
    assert f"prefrec: error: {output}: already exists" in again.stdout


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(cluster: LocalCluster, config: Path, tmp_path: Path) -> None:
    config.write_text(yaml.safe_dump({"simulate": {**LOGS["simulate"], "users": 200_000, "requests": 1_000}}))
    arguments = ["--address", cluster.address, "--command", "simulate", "--output", str(tmp_path / "big")]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefrec_ray.cli.main", "submit", str(config), *arguments],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests in the background ignore Ctrl-C, and child processes would inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    number = process.stdout.readline().split()[1].rstrip(":")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=soon(30))
    assert process.returncode == 130
    assert f"ray job logs --follow {number} --address {cluster.address}" in out
    assert f"ray job stop {number} --address {cluster.address}" in out
    client = jobs.connect(cluster.address)
    assert client.get_job_status(number).value in ("PENDING", "RUNNING")
    client.stop_job(number)
    assert jobs.follow(client, number, lambda text: None) != 0


@pytest.mark.slow  # test_checkpoints.py kills a learner
def test_a_run_that_loses_its_node_continues_on_another(cluster: LocalCluster, tmp_path: Path) -> None:
    """The learner dies with its node. The run waits for a new node, and ends with the weights of an undisturbed run."""
    dataset, output, whole = (str(tmp_path / name) for name in ("dataset", "run", "whole"))
    write_dataset(Path(dataset), users=20, requests=60, pairs=96, length=10)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"train": RUN | {"config": RUN["config"] | LEARNER}}))
    submit = ["submit", str(config), "--command", "train", "--address", cluster.address, "--output", output]
    submit += ["--", "--dataset", dataset]
    read_log = (tmp_path / "first.log").read_text
    with open(tmp_path / "first.log", "w") as log:
        command = [sys.executable, "-m", "prefrec_ray.cli.main", *submit]
        first = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    until(lambda: checkpoints(output) or first.poll() is not None, 120)
    assert first.poll() is None, read_log()
    cluster.kill_worker()
    cluster.add(*WORKER)
    assert first.wait(soon(240)) == 0, read_log()
    assert re.search(r"failure 1 of at most 3: .+\n(.*\n)*resuming from iteration [1-9]", read_log())
    start_run(TrainSettings(**RUN), dataset, whole)
    ended, undisturbed = (Path(folder) / "policy/actor.safetensors" for folder in (output, whole))
    assert ended.read_bytes() == undisturbed.read_bytes()
