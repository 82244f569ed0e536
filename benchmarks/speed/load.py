"""Rate and latency of `prefrec serve`.

    python -m benchmarks load [--items 1000000] [--candidates nearest] [--rate 200]

A policy of random networks of the paper's sizes (states of 245 numbers, 3 layers of 256, 8 numbers per item) serves
from one core; the load comes from another, by wrk (apt install wrk) and load.lua. First as many requests as it answers,
by connections that wait for their answer; then `rate` per second, at random times. Each user has items that were shown
before, which are left out, and a third of the requests is feedback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import markdown
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction

SIZES = [256, 256, 256]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PREFREC_SERVE_TOKEN": ""}


def make_policy(items: int, serving: ServingSettings) -> Policy:
    """Random networks, and items at random places."""
    state = StateDefinition(
        feedback=("click", "like", "follow", "comment", "forward", "hate", "watch"),
        user_features={f"f{n}": tuple("abcde") for n in range(8)},
    )
    rng, width = np.random.default_rng(0), state.width
    actor = DeterministicActor(mlp(width, SIZES, 8).requires_grad_(False), -np.ones(8), np.ones(8))
    critic = Critic([QFunction(mlp(width + 8, SIZES, 1).requires_grad_(False), (), 8)])
    table = ItemTable(np.arange(items), rng.uniform(-1, 1, (items, 8)).astype(np.float32))
    return Policy(actor, state, Normaliser(np.zeros(width), np.ones(width)), table, serving, critic=critic)


def wrk(port: int, connections: int, seconds: float, users: int, k: int, rate: float = 0) -> dict[str, Any]:
    """Return the JSON of `load.lua`.

    Each connection sends an HTTP request after the last reply or, with a total `rate`, after random times.
    """
    script, each = Path(__file__).with_name("load.lua"), str(rate / connections)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    done = subprocess.run([*command, "--", str(users), str(k), each], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def reloaded(port: int) -> float:
    """Return the seconds of a POST /reload."""
    before = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/reload", method="POST")) as answer:
        answer.read()
    return time.perf_counter() - before


def processor_seconds(process: int) -> float:
    """Return the processor seconds of the process so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main(
    items: int = 1_000_000,
    users: int = 2_000,
    k: int = 10,
    candidates: str = "nearest",
    seconds: int = 10,
    rate: int = 200,
    unpinned: bool = False,
) -> dict[str, Any]:
    """Print HTTP requests per second, and ms to a reply. `unpinned`: server and load share all cores.

    Raises `UserError` without wrk.
    """
    if shutil.which("wrk") is None:
        raise UserError("wrk is not installed; expected it, by apt install wrk")
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_policy(items, ServingSettings(candidates=candidates, count=64)).save(f"{folder}/policy")
        command = [sys.executable, "-m", "prefrec_ray.cli.main", "serve", f"{folder}/policy", "--port", "0"]
        begin = time.monotonic()
        server = subprocess.Popen(
            [*command, "--state", f"{folder}/state"], stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        )
        try:
            if not unpinned:
                os.sched_setaffinity(server.pid, {0})
                os.sched_setaffinity(0, {1})
            port = int(re.search(r":(\d+) ", server.stdout.readline())[1])
            measured["start_s"] = round(time.monotonic() - begin, 1)
            wrk(port, 32, 2, users, k)  # so that users have items that were shown before
            before = processor_seconds(server.pid)
            measured["requests_per_s"] = wrk(port, 32, seconds, users, k)["requests_per_s"]
            used = (processor_seconds(server.pid) - before) / seconds
            measured["of_a_core"] = round(used, 2)
            measured["requests_per_s_of_a_whole_core"] = round(measured["requests_per_s"] / used)
            measured |= {f"ms_{p}": took for p, took in wrk(port, 64, seconds, users, k, rate)["ms"].items()}
            with ThreadPoolExecutor() as beside:
                loaded = beside.submit(wrk, port, 64, seconds, users, k, rate)
                time.sleep(seconds / 5)
                measured["reload_s"] = reloaded(port)
                measured["ms_p99_with_a_reload"] = loaded.result()["ms"]["p99"]
            status = Path(f"/proc/{server.pid}/status").read_text()
            measured["memory_mib"] = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024
        finally:
            server.terminate()
            server.wait()
    print(markdown(measured, [measured.values()]))
    return measured
