"""Memory, disk and start of a server that knows a million users.

    python -m benchmarks users [--users 1000000] [--impressions 20] [--items 100000] [--rate 50]

The users and their impressions go through the server's state package into a snapshot, as a server writes it. A server
starts from this snapshot, and wrk asks for pages of ten of 1,000 candidates for random users, and sends feedback on
them, at `rate` HTTP requests per second; a second server writes one snapshot after the other meanwhile.
The bytes of the event log are measured on pages of ten that are written and answered by the engine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.harness import serving
from benchmarks.speed.load import ONE_THREAD, make_policy, replies, wrk
from prefrec_ray.bench.results import markdown
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.serving.folder.opened import Opened, arms_event, clock
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.requests.bodies import FeedbackBatch, ItemFeedback, Recommend
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.state import ServedState

_AT_ONCE = 20_000
_PAGE = 10


def main(
    users: int = 1_000_000, impressions: int = 20, items: int = 100_000, rate: int = 50, seconds: int = 10
) -> dict[str, Any]:
    """Print GB of memory and disk, seconds to a start, and ms to a reply."""
    measured: dict[str, Any] = {"users": users, "impressions": impressions}
    with tempfile.TemporaryDirectory() as folder:
        policy, state = f"{folder}/policy", f"{folder}/state"
        make_policy(items, ServingSettings()).save(policy)
        measured["log_bytes_per_page"] = log_bytes_per_page(policy, f"{folder}/sample")
        opened = Opened(policy, state, ServeSettings())
        fill(opened.state, users, impressions)
        now = clock()
        opened.state.advance(opened.log.commit([arms_event(opened.state, now)]) + 1, now)
        measured |= write_snapshot(opened.state, state)
        opened.close()
        del opened
        measured["snapshot_gb"] = round(size_of(f"{state}/snapshots") / 1e9, 2)
        config, load = Path(f"{folder}/serve.yaml"), (users, _PAGE, items, 1000)
        config.write_text("serve: {snapshot_events: 1}")
        for name, options in {"": (), "_during_snapshots": ("--config", str(config))}.items():
            os.sched_setaffinity(0, {0})
            begin = time.monotonic()
            with serving("serve", policy, "--state", state, *options, environment=ONE_THREAD) as (server, port):
                os.sched_setaffinity(0, {1})
                measured[f"start_s{name}"] = round(time.monotonic() - begin, 1)
                measured |= {f"ms_{p}{name}": took for p, took in wrk(port, 64, seconds, load, rate)["ms"].items()}
                measured[f"memory_gb{name}"] = memory(server.pid)
    print(markdown(measured, [measured.values()]))
    return measured


def write_snapshot(state: ServedState, folder: str) -> dict[str, float]:
    """Write a snapshot; return its processor ms on the event loop: to freeze, the longest slice, and all slices."""
    slices: list[float] = []

    def take(copy: Callable[[], np.ndarray]) -> np.ndarray:
        begin = time.thread_time()
        copied = copy()
        slices.append(time.thread_time() - begin)
        return copied

    begin, started = time.monotonic(), time.thread_time()
    snapshot = Snapshot.from_state(state)
    frozen = time.thread_time() - started
    snapshot.write(folder, take)
    took = {"freeze": frozen, "longest_slice": max(slices), "slices": sum(slices)}
    measured = {f"snapshot_{name}_ms": round(1000 * seconds, 1) for name, seconds in took.items()}
    return measured | {"snapshot_s": round(time.monotonic() - begin, 1)}


def fill(state: ServedState, users: int, impressions: int) -> None:
    """Add users with pages of random items and feedback, one page per hour."""
    rng, count = np.random.default_rng(0), len(state.codes)
    begin, kinds = clock() - 3_600_000 * (impressions // _PAGE + 1), len(state.policy.state.feedback)
    for first in range(0, users, _AT_ONCE):
        rows = np.arange(first, min(users, first + _AT_ONCE))
        state.add_users(rows.tolist())
        codes = rng.integers(0, count, (impressions, len(rows)))
        for turn in range(impressions):
            times = np.full(len(rows), begin + 3_600_000 * (turn // _PAGE))
            feedback = (rng.random((len(rows), kinds)) < 0.2).astype(np.float32)
            pages = pa.array([f"{row}-{turn // _PAGE}" for row in rows.tolist()])
            state.observe(rows, codes[turn], times, feedback, np.full(len(rows), np.nan), pages)
            state.users.came(rows, times)
        for row, seen in zip(rows.tolist(), codes.T.tolist(), strict=True):
            state.users.see(row, seen, begin)


def log_bytes_per_page(policy: str, folder: str, pages: int = 500) -> int:
    """Return the bytes of the event log per page of ten items with feedback on each, one page per commit."""
    opened, now = Opened(policy, folder, ServeSettings()), clock()
    engine = Engine(opened.state, opened.log, opened.log_id, seed=0)

    for user in range(pages):
        (page,) = replies(engine, [Recommend(user=user, k=_PAGE)], now)
        entries = [ItemFeedback(item=item, feedback={"click": 1.0, "watch": 0.5}) for item in page["items"]]
        replies(engine, [FeedbackBatch(event_id=page["event_id"], items=entries)], now)
    opened.close()
    return round(size_of(f"{folder}/events") / pages)


def size_of(folder: str) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def memory(process: int) -> float:
    """Return the resident memory of a process, GB."""
    return round(psutil.Process(process).memory_info().rss / 1e9, 2)
