"""Server without HTTP: micro-batches and the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.serving.changes import Changes
from prefrec_ray.serving.folder.disk import Disk
from prefrec_ray.serving.folder.opened import Opened, arms_event
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.serving.requests.batches import Batches
from prefrec_ray.serving.requests.engine import Engine
from prefrec_ray.serving.requests.plan import BatchPlan, Command, Reply
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.web.problems import Problem


class Server:
    """Executes commands; `changes` changes items and policies. Everything except for disk.py runs on one event loop.

    Logs the arms at the start. Raises `OSError` if nothing can be written, and closes `opened`.
    """

    def __init__(self, opened: Opened, now: Callable[[], float] = time.time) -> None:
        self._opened, self._now = opened, now
        self.engine = Engine(opened.state, opened.log, opened.log_id)
        self.metrics = Metrics()
        self._batches = Batches(self._replies)
        self._turn = asyncio.Lock()  # held to plan, write and apply rows
        self._disk = Disk(opened.log, self.metrics)
        self.changes = Changes(opened, self.engine, self.metrics, self._disk, self._turn, self.clock)
        self._saved = opened.state.next
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False
        try:  # before the address is printed
            first = opened.log.commit([arms_event(opened.state, self.clock())])
        except OSError:
            opened.close()
            raise
        opened.state.advance(first + 1, self.clock())

    @property
    def state(self) -> ServedState:
        """Return the current state."""
        return self.engine.state

    def clock(self) -> int:
        """Return the time, ms, UTC."""
        return int(self._now() * 1000)

    async def start(self) -> None:
        """Start to process batches."""
        self._spawn(self._batches.run())

    async def stop(self) -> None:
        """Stop, and save the state for a quick restart."""
        for task in self._tasks:
            task.cancel()
        async with self._turn:
            snapshot = Snapshot.from_state(self.state)
        self._disk.stop_aside()  # before the last one: a running snapshot removes all others
        with suppress(OSError, UserError):  # the log has it all
            snapshot.write(self._opened.folder)
        self._disk.stop()
        self._opened.close()

    @property
    def healthy(self) -> bool:
        """Return True if the state agrees with the log and rows can be written; otherwise restart the server."""
        return not (self._failed or self.engine.log.broken)

    async def do(self, command: Command) -> Reply:
        """Return the reply to one command, from a batch. Raises `Problem`."""
        return await self._batches.do(command)

    async def _replies(self, commands: list[Command]) -> Sequence[Reply | Problem]:
        """Return the replies to a batch, after its rows are on disk."""
        self.metrics.batch.observe(len(commands))
        async with self._turn:
            replies = await self._written(commands)
        if self.state.next - self._saved >= self.state.settings.snapshot_events:
            self._saved = self.state.next
            self._spawn(self._save())
        return replies

    async def _written(self, commands: list[Command]) -> Sequence[Reply | Problem]:
        if self._failed:
            return [Problem(503, "the state differs from the log; restart the server")] * len(commands)
        clock = self.clock()
        plan = self.engine.plan(commands, clock)
        if plan.events:
            try:
                first = await self._disk.commit(plan.events)
            except Problem as problem:
                self.engine.give_up(plan)
                return [reply if isinstance(reply, Problem) else problem for reply in plan.replies]
            self._failed = True
            self.engine.take_in(plan, first, clock)
            self._failed = False
        self._count(plan)
        return plan.replies

    def _count(self, plan: BatchPlan) -> None:
        for reply in plan.replies:
            if isinstance(reply, Reply) and reply.outcome:
                self.metrics.feedback.labels(reply.outcome).inc()
            elif isinstance(reply, Reply):
                self.metrics.recommended.labels(reply.arm).inc()

    async def _save(self) -> None:
        async with self._turn:
            snapshot = Snapshot.from_state(self.state)
        with suppress(OSError, UserError):  # the log has it all
            await self._disk.aside(snapshot.write, self._opened.folder)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
