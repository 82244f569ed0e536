"""How many requests `prefrec serve` answers, and how soon.

    python -m benchmarks load [--items 1000000] [--candidates nearest] [--rate 200]

A policy of random networks of the paper's sizes (states of some 245 numbers, 3 layers of 256, 8 numbers an item) serves
from one core; the load comes from another. First as many requests as it answers, by connections that wait for their
answer; then so many a second, each at its own time, whether the one before is answered or not. Each user has items that
were shown before, which are left out, and a third of the requests is feedback.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import markdown
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.networks.actors import DeterministicActor
from prefrec_ray.networks.critic import Critic
from prefrec_ray.networks.layers import mlp
from prefrec_ray.networks.q import QFunction
from prefrec_ray.policy import Policy

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


class Connection:
    """A connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, body: dict) -> dict:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", answer)[1])
        value = json.loads(await self._reader.readexactly(length))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(value)
        return value


async def one(connection: Connection, users: int, k: int, shown: list, took: list[float]) -> None:
    """A recommendation, or feedback on one before."""
    feedback = shown and random.random() < 1 / 3
    begin = time.perf_counter()
    if feedback:
        event = shown.pop(random.randrange(len(shown)))
        values = {"click": 1, "watch": 0.5}
        await connection.post("/feedback", {"event_id": event[0], "item": event[1], "feedback": values})
    else:
        answer = await connection.post("/recommend", {"user": random.randrange(users), "k": k})
        shown.append((answer["event_id"], answer["items"][0]))
    took.append(time.perf_counter() - begin)


async def closed(port: int, connections: int, seconds: float, users: int, k: int) -> float:
    """Requests a second of `connections` that wait for their answer."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def work() -> None:
        connection, shown = await Connection.open(port), []
        while time.perf_counter() < until:
            await one(connection, users, k, shown, took)

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return len(took) / (time.perf_counter() - begin)


async def opened(
    port: int, rate: float, seconds: float, users: int, k: int, reloads: bool = False
) -> tuple[np.ndarray, float]:
    """ms to the answer of requests that come at random times, `rate` a second; and seconds that a reload took, which
    starts after a fifth of the time."""
    free = asyncio.Queue()
    for _ in range(64):
        free.put_nowait(await Connection.open(port))
    took: list[float] = []
    shown: list = []

    async def work() -> None:
        connection = await free.get()
        await one(connection, users, k, shown, took)
        free.put_nowait(connection)

    async def reload() -> float:
        await asyncio.sleep(seconds / 5)
        before = time.perf_counter()
        await (await Connection.open(port)).post("/reload", {})
        return time.perf_counter() - before

    reloading = asyncio.create_task(reload()) if reloads else None
    tasks, at, begin = [], 0.0, time.perf_counter()
    while at < seconds:
        at += random.expovariate(rate)
        await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
        tasks.append(asyncio.create_task(work()))
    await asyncio.gather(*tasks)
    return 1000 * np.array(took), await reloading if reloading else 0.0


def processor_seconds(process: int) -> float:
    """What the process has used of processors so far."""
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
    """Prints requests a second, and ms to an answer. `unpinned`: server and load share all cores."""
    found: dict[str, Any] = {}
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
            found["start_s"] = round(time.monotonic() - begin, 1)
            asyncio.run(closed(port, 32, 2, users, k))  # so that users have items that were shown before
            before = processor_seconds(server.pid)
            found["requests_per_s"] = round(asyncio.run(closed(port, 32, seconds, users, k)))
            used = (processor_seconds(server.pid) - before) / seconds
            found["of_a_core"] = round(used, 2)
            found["requests_per_s_of_a_whole_core"] = round(found["requests_per_s"] / used)
            took, _ = asyncio.run(opened(port, rate, seconds, users, k))
            found |= {f"ms_p{p}": round(float(np.percentile(took, p)), 1) for p in (50, 90, 99)}
            took, found["reload_s"] = asyncio.run(opened(port, rate, seconds, users, k, reloads=True))
            found["ms_p99_with_a_reload"] = round(float(np.percentile(took, 99)), 1)
            status = Path(f"/proc/{server.pid}/status").read_text()
            found["memory_mib"] = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024
        finally:
            server.terminate()
            server.wait()
    print(markdown(found, [found.values()]))
    return found
