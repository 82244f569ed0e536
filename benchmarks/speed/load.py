"""Rate and latency of `prefrec serve`.

    python -m benchmarks load [--items 1000000] [--candidates nearest] [--rate 200] [--retrieved 1000] [--sizes 64 64]
                              [--servers 1]

A policy of random networks (states of 245 numbers, 8 numbers per item; `sizes` 256 256 256, both recipes' default, or
64 64, the size of expected feedback) serves from one core; the load comes from another, by wrk (apt install wrk) and
load.lua. First as many requests as it answers, by connections that wait for their answer; then `rate` per second, at
random times. Each user has items that were shown before, which are left out, and a third of the requests is feedback.
With `retrieved`, requests have that number of candidates with priors, and feedback is on whole pages. With two
`servers`, each has a core and a wrk: rates are sums, milliseconds are those of the slower server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import psutil

from benchmarks.harness import serving
from prefrec_ray.bench.results import markdown
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
from prefrec_ray.serving.requests.engine import Command, Engine

SIZES = [256, 256, 256]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PREFREC_SERVE_TOKEN": ""}


def random_policy(
    state: StateDefinition, items: ItemTable, sizes: Sequence[int], serving: ServingSettings | None = None
) -> Policy:
    """Return a policy of random networks with hidden layers of `sizes`."""
    dim = items.embeddings.shape[1]
    actor = DeterministicActor(mlp(state.width, sizes, dim).requires_grad_(False), -np.ones(dim), np.ones(dim))
    critic = Critic([QFunction(mlp(state.width + dim, sizes, 1).requires_grad_(False), (), dim)])
    scale = Normaliser(np.zeros(state.width), np.ones(state.width))
    return Policy(actor, state, scale, items, serving or ServingSettings(), critic=critic)


def make_policy(items: int, serving: ServingSettings, sizes: Sequence[int] = SIZES) -> Policy:
    """Return a policy of hidden layers of `sizes` for states of 245 numbers, and items at random places."""
    state = StateDefinition(
        feedback=("click", "like", "follow", "comment", "forward", "hate", "watch"),
        user_features={f"f{n}": tuple("abcde") for n in range(8)},
    )
    embeddings = np.random.default_rng(0).uniform(-1, 1, (items, 8)).astype(np.float32)
    return random_policy(state, ItemTable(np.arange(items), embeddings), sizes, serving)


def replies(engine: Engine, commands: Sequence[Command], now: int) -> list[dict[str, Any]]:
    """Return the replies of an engine without HTTP at the time `now`, ms. Raises the error of a refused command."""
    plan = engine.plan(commands, now)
    engine.take_in(plan, engine.log.commit(plan.events))
    for reply in plan.replies:
        if isinstance(reply, Exception):
            raise reply
    return [reply.body for reply in plan.replies]


def wrk(port: int, connections: int, seconds: float, load: Sequence[int], rate: float = 0) -> dict[str, Any]:
    """Return the JSON of `load.lua`. `load`: users, k, items, and candidates per request.

    Each connection sends an HTTP request after the last reply or, with a total `rate`, after random times.
    """
    script, each = Path(__file__).with_name("load.lua"), str(rate / connections)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    users, k, *catalogue = map(str, load)
    done = subprocess.run([*command, "--", users, k, each, *catalogue], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def main(
    items: int = 1_000_000,
    users: int = 2_000,
    k: int = 10,
    candidates: str = "nearest",
    seconds: int = 10,
    rate: int = 200,
    retrieved: int = 0,
    sizes: list[int] = SIZES,
    servers: int = 1,
) -> dict[str, Any]:
    """Print HTTP requests per second, and ms to a reply. Raises `UserError` without wrk."""
    if shutil.which("wrk") is None:
        raise UserError("wrk is not installed; expected it, by apt install wrk")
    measured: dict[str, Any] = {}
    load = users, k, items, retrieved
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads, ExitStack() as stack:
        make_policy(items, ServingSettings(candidates=candidates, count=64), sizes).save(f"{folder}/policy")
        begin, started = time.monotonic(), []
        for number in range(servers):
            os.sched_setaffinity(0, {number})  # the server and its threads inherit it
            command = "serve", f"{folder}/policy", "--state", f"{folder}/state-{number}"
            started.append(stack.enter_context(serving(*command, environment=ONE_THREAD)))
        os.sched_setaffinity(0, {1} if servers == 1 else {0, 1})
        measured["start_s"] = round(time.monotonic() - begin, 1)
        ports = [port for _, port in started]

        def loaded(connections: int, seconds: float, rate: float = 0) -> tuple[float, dict[str, float]]:
            """Return requests per second of all servers, and ms of the slowest."""
            at_once = [threads.submit(wrk, port, connections, seconds, load, rate / servers) for port in ports]
            found = [one.result() for one in at_once]
            ms = {f"ms_{p}": max(one["ms"][p] for one in found) for p in found[0]["ms"]}
            return sum(one["requests_per_s"] for one in found), ms

        def used() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        loaded(32, 2)  # so that users have items that were shown before
        processes = [psutil.Process(server.pid) for server, _ in started]
        before = used()
        measured["requests_per_s"], _ = loaded(32, seconds)
        cores = (used() - before) / seconds
        measured["cores"] = round(cores, 2)
        measured["requests_per_s_of_a_core"] = round(measured["requests_per_s"] / cores)
        measured |= loaded(64, seconds, rate)[1]
        beside = threads.submit(loaded, 64, seconds, rate)
        time.sleep(seconds / 5)
        before = time.perf_counter()
        urlopen(Request(f"http://127.0.0.1:{ports[0]}/reload", method="POST")).close()
        measured["reload_s"] = time.perf_counter() - before
        measured["ms_p99_with_a_reload"] = beside.result()[1]["ms_p99"]
        measured["memory_mib"] = processes[0].memory_info().rss >> 20
    print(markdown(measured, [measured.values()]))
    return measured
