"""Batches of HTTP requests, one commit each. A batch collects what arrived while the previous batch was written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from prefrec_ray.logs.events.format import COMMIT
from prefrec_ray.serving.requests.plan import Command, Reply
from prefrec_ray.web.problems import Problem

#: Most HTTP requests in the queue; more are refused with 503.
WAITING = 4096

#: A command, and the future of its reply.
_Waiting = tuple[Command, "asyncio.Future[Reply]"]


class Batches:
    """Queue of commands. `reply` takes one batch at a time."""

    def __init__(self, reply: Callable[[list[Command]], Awaitable[Sequence[Reply | Problem]]]) -> None:
        self._reply = reply
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING)

    async def do(self, command: Command) -> Reply:
        """Return the reply to one command. Raises `Problem`."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((command, future))
        except asyncio.QueueFull:
            raise Problem(503, f"found {WAITING} waiting requests; try again later") from None
        return await future

    async def run(self) -> None:
        """Process batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            # Take commands that arrived at the same time. Waiting for more would slow down a few HTTP requests and not
            # speed up many, since these arrive while this batch is written.
            await asyncio.sleep(0)
            while len(batch) < COMMIT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._give([(command, future) for command, future in batch if not future.done()])

    async def _give(self, batch: list[_Waiting]) -> None:
        replies: Sequence[Reply | Problem]
        try:
            replies = await self._reply([command for command, _ in batch])
        except Exception as error:  # a failing batch must not end the server
            replies = [Problem(500, f"the request failed ({type(error).__name__})")] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Problem):
                future.set_exception(reply)
            else:
                future.set_result(reply)
