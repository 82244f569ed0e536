"""A cluster on loopback: a head and workers as processes of their own, with a token, ports and folders of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests
from patience import soon

from prefrec_ray.cluster import jobs
from prefrec_ray.errors import UserError

TOKEN = "0123456789abcdef0123456789abcdef"
OBJECT_STORE = 100 * 2**20
BIN = Path(sys.executable).parent


def environment(token: str | None = TOKEN, **more: str) -> dict[str, str]:
    """Return this process's variables without Ray's. With `token`, no other token is in reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept |= {"PATH": f"{BIN}:{kept.get('PATH', '')}", "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}
    kept |= {
        "HOME": f"{tempfile.gettempdir()}/prt-home",
        "MPLCONFIGDIR": tempfile.gettempdir(),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return kept | ({"RAY_AUTH_TOKEN": token} if token else {}) | more


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class LocalCluster:
    """`address`: of the dashboard; `add(...)` starts a worker; `stop()` ends every process that was started."""

    def __init__(self, **variables: str) -> None:
        # Ray's sockets have long paths, which the kernel limits: not below pytest's own folder.
        self.folder = tempfile.mkdtemp(prefix="prt-", dir="/tmp")
        self.variables = environment(**variables)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.gcs, dashboard, client = free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        self._start(
            *("--head", f"--port={self.gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
            *("--num-cpus=0", f"--temp-dir={self.folder}"),
        )

    def add(self, cpus: int, resources: str = "{}") -> None:
        """A worker with `cpus` and custom `resources` (JSON)."""
        # A separate folder, as on a host: each node unpacks a job's files over existing files.
        folder = tempfile.mkdtemp(prefix="w-", dir=self.folder)
        limits = (f"--num-cpus={cpus}", f"--resources={resources}")
        self._start(f"--address=127.0.0.1:{self.gcs}", *limits, f"--temp-dir={folder}")

    def kill_worker(self) -> None:
        """SIGKILL to the raylet of the worker that was added last: what runs on its node ends with it."""
        worker = psutil.Process(self.processes.pop().pid)
        (raylet,) = (child for child in worker.children(recursive=True) if child.name() == "raylet")
        raylet.kill()
        worker.wait(10)

    def _start(self, *arguments: str) -> None:
        agent, metrics = free_ports(2)
        command = [
            *(str(BIN / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0", *arguments),
            *(f"--object-store-memory={OBJECT_STORE}", f"--object-spilling-directory={self.folder}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}", "--disable-usage-stats"),
        ]
        log = open(f"{self.folder}/start-{len(self.processes)}.log", "wb")  # noqa: SIM115
        self.processes.append(
            subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, start_new_session=True)
        )

    def wait(self, nodes: int, seconds: float = 240.0) -> None:
        """Wait until the dashboard shows the number of nodes."""
        ends = time.monotonic() + seconds
        while self._nodes() < nodes:
            if time.monotonic() > ends or any(process.poll() is not None for process in self.processes):
                raise AssertionError("\n".join(path.read_text() for path in Path(self.folder).glob("start-*.log")))
            time.sleep(0.3)

    def _nodes(self) -> int:
        try:
            jobs.connect(self.address)
            shown = requests.get(f"{self.address}/nodes?view=summary", headers=jobs.headers(), timeout=10).json()
        except (UserError, requests.RequestException):
            return 0
        return sum("raylet" in node for node in shown["data"]["summary"])

    def stop(self) -> None:
        """Ends the processes by their groups, then what of them is left by the folder in its command line."""
        for process in reversed(self.processes):
            _end(-process.pid, signal.SIGTERM)
        ends = time.monotonic() + 5
        for process in self.processes:
            try:
                process.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                _end(-process.pid, signal.SIGKILL)
        ends = time.monotonic() + 10
        while (left := self.left()) and time.monotonic() < ends:
            for pid in left:
                _end(pid, signal.SIGKILL)
            time.sleep(0.1)

    def left(self) -> list[int]:
        """Processes that have this cluster's folder in their command lines."""
        numbers = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if self.folder.encode() in path.read_bytes():
                    numbers.append(int(path.parent.name))
            except OSError:
                continue
        return numbers


def _end(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(-pid, number) if pid < 0 else os.kill(pid, number)


def prefrec(
    *arguments: str, token: str | None = TOKEN, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which has no other token within reach."""
    return subprocess.run(
        [sys.executable, "-m", "prefrec_ray.cli.main", *arguments],
        env=environment(token, **variables or {}),
        capture_output=True,
        text=True,
        timeout=soon(120),
    )
