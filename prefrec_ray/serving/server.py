"""Server without HTTP: batches of commands, and the log.

A batch has one commit. It collects what arrived while the previous batch was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import COMMIT
from prefrec_ray.serving.changes import Changes
from prefrec_ray.serving.folder.disk import Disk, clock
from prefrec_ray.serving.folder.opened import Opened, arms_event
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.serving.requests.engine import Command, Engine, Reply
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.web.problems import Problem

#: Most HTTP requests in the queue; more are refused with 503.
WAITING = 4096


class Server:
    """Executes commands; `changes` changes items and policies. Everything except for disk.py runs on one event loop.

    Logs the arms at the start. Raises `OSError` if nothing can be written, and closes `opened`.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.engine = Engine(opened.state, opened.log, opened.log_id)
        self.metrics = Metrics()
        self._waiting: asyncio.Queue[tuple[Command, asyncio.Future[Reply]]] = asyncio.Queue(WAITING)
        self._turn = asyncio.Lock()  # held to plan, write and apply rows
        self._disk = Disk(opened.log, self.metrics)
        self.changes = Changes(opened, self.engine, self.metrics, self._disk, self._turn)
        self._saved = opened.state.next
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False
        now = clock()
        try:  # before the address is printed
            first = opened.log.commit([arms_event(opened.state, now)])
        except OSError:
            opened.close()
            raise
        opened.state.advance(first + 1, now)

    @property
    def state(self) -> ServedState:
        """Return the current state."""
        return self.engine.state

    async def start(self) -> None:
        """Start to process batches."""
        self._spawn(self._run())

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
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((command, future))
        except asyncio.QueueFull:
            raise Problem(503, f"found {WAITING} waiting requests; try again later") from None
        return await future

    async def _run(self) -> None:
        """Process batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            # Take commands that arrived at the same time. Waiting for more would slow down a few HTTP requests and not
            # speed up many, since these arrive while this batch is written.
            await asyncio.sleep(0)
            while len(batch) < COMMIT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(command, future) for command, future in batch if not future.done()]
            replies: Sequence[Reply | Problem]
            try:
                replies = await self._replies([command for command, _ in batch])
            except Exception as error:  # a failing batch must not end the server
                replies = [Problem(500, f"the request failed ({type(error).__name__})")] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.done():
                    continue
                if isinstance(reply, Problem):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

    async def _replies(self, commands: list[Command]) -> Sequence[Reply | Problem]:
        """Return the replies to a batch, after its rows are on disk."""
        self.metrics.batch.observe(len(commands))
        async with self._turn:
            replies = await self._written(commands)
        for reply in replies:
            if isinstance(reply, Reply) and reply.outcome:
                self.metrics.feedback.labels(reply.outcome).inc()
            elif isinstance(reply, Reply):
                self.metrics.recommended.labels(reply.arm).inc()
        if self.state.next - self._saved >= self.state.settings.snapshot_events:
            self._saved = self.state.next
            self._spawn(self._save())
        return replies

    async def _written(self, commands: list[Command]) -> Sequence[Reply | Problem]:
        if self._failed:
            return [Problem(503, "the state differs from the log; restart the server")] * len(commands)
        now = clock()
        plan = self.engine.plan(commands, now)
        if plan.events:
            try:
                first = await self._disk.commit(plan.events)
            except Problem as problem:
                self.engine.give_up(plan)
                return [reply if isinstance(reply, Problem) else problem for reply in plan.replies]
            self._failed = True
            self.engine.take_in(plan, first, now)
            self._failed = False
        return plan.replies

    async def _save(self) -> None:
        async with self._turn:
            snapshot = Snapshot.from_state(self.state)
        with suppress(OSError, UserError):  # the log has it all
            await self._disk.aside(snapshot.write, self._opened.folder)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
