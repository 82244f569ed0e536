"""Server without HTTP: batches of commands, changes of items and policies, and the log.

A batch has one commit. It collects what arrived while the previous batch was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import COMMIT, COMMIT_ROWS, ITEMS, Event, Kind
from prefrec_ray.serving.folder.opened import Disk, Opened, arms_event, clock, of_disk, save_items
from prefrec_ray.serving.requests.bodies import DeleteItems, PutItems
from prefrec_ray.serving.requests.engine import Command, Engine, Reply
from prefrec_ray.serving.requests.pages import check_once, check_type
from prefrec_ray.serving.settings import ServeSettings, read_release
from prefrec_ray.serving.state.added import Added, check_embedding, with_embeddings
from prefrec_ray.serving.state.policies import Loaded, Shelf, load_policies
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.state.users import arm_of
from prefrec_ray.serving.telemetry import Metrics
from prefrec_ray.serving.upkeep import Upkeep
from prefrec_ray.web.problems import Problem

#: Most HTTP requests in the queue; more are refused with 503.
WAITING = 4096
#: Number of withdrawn items after which the item tables of an arm are built again.
_WITHDRAWN = 256


class Server:
    """Executes commands and, one at a time, changes of items and policies, which are prepared in the background.

    Everything except for `Disk` runs on one event loop. Logs the arms at the start. Raises `OSError` if nothing can be
    written, and closes `opened`.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.engine = Engine(opened.state, opened.log, opened.log_id)
        self.metrics = Metrics()
        self._waiting: asyncio.Queue[tuple[Command, asyncio.Future[Reply]]] = asyncio.Queue(WAITING)
        self._turn = asyncio.Lock()  # held to plan, write and apply rows
        self._change = asyncio.Lock()  # held by a change of items or policies
        self._disk = Disk(opened.log, self.metrics)
        self._upkeep = Upkeep(opened, self.engine, self._disk, self._turn, lambda: self.healthy)
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
        return self.engine.state

    async def start(self) -> None:
        self._spawn(self._run())
        if self._upkeep.removes_events:
            self._spawn(self._upkeep.expire())

    async def stop(self) -> None:
        """Stop, and save the state for a quick restart, unless it differs from the log."""
        for task in self._tasks:
            task.cancel()
        await self._upkeep.stop()
        self._disk.stop()
        self._opened.close()

    @property
    def healthy(self) -> bool:
        """Return True if the state agrees with the log and rows can be written; otherwise restart the server."""
        return not (self._failed or self.engine.log.broken)

    async def check(self) -> None:
        """Raise `Problem` if the state differs from the log, or if rows cannot be written and read."""
        if not self.healthy:
            raise Problem(503, "the log failed, or the state differs from it; restart the server")
        await self._disk.check()

    async def do(self, command: Command) -> Reply:
        """Return the reply to one command, from a batch. Raises `Problem`."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((command, future))
        except asyncio.QueueFull:
            raise Problem(503, f"found {WAITING} waiting requests; try again later") from None
        return await future

    async def put_items(self, body: PutItems) -> dict[str, Any]:
        """Add items, and reply when policies can draw them. Raises `Problem`."""
        ids = [one.id for one in body.items]
        check_type("items", ids, self.state.codes)
        check_once("items", "id", ids)
        async with self._change:
            new = await self._disk.aside(self._new_items, body)
            async with self._turn:
                await self._log_items({"kind": Kind.ITEM, "items": [item], **one.row} for item, one in new.items())
                self.state.put_items(new)
            await self._restock()
        return {"items": len(new)}

    async def delete_items(self, body: DeleteItems) -> dict[str, Any]:
        """Withdraw items; unknown items are counted. Raises `Problem`."""
        async with self._change:
            state, ids = self.state, self.state.codes.array(dict.fromkeys(body.ids))
            async with self._turn:
                await self._log_items({"kind": Kind.WITHDRAWN, "items": [item]} for item in ids.tolist())
                known = int((state.codes.find(ids) >= 0).sum())
                state.withdraw_items(ids.tolist())
            if any(len(shelf.gone) > _WITHDRAWN for shelf in state.shelves):
                await self._restock()
        return {"items": known, "unknown": len(set(body.ids)) - known}

    async def reload(self) -> dict[str, Any]:
        """Load the policies of all arms again and serve them.

        Raises `Problem` 409 if a policy cannot be loaded; the server keeps the old policies. Raises `Problem` 507 or
        503 if the items next to the log cannot be written; the server then serves the new policies.
        """
        async with self._change:
            old = self.state
            try:
                tables = [one.policy.items for one in old.loaded]
                main, arms = await self._disk.aside(read_release, self._opened.policy, self._opened.settings)
                loaded = await self._disk.aside(load_policies, main, arms, tables)
                await self._disk.aside(self._opened.check, loaded)
                state = await self._disk.aside(self._new_state, loaded, arms, old)
                async with self._turn:  # a batch in progress may give its new users up
                    users = state.users.ids
                dealt = await self._disk.aside(arm_of, users, arms)
            except UserError as error:
                self.metrics.reloads.labels("refused").inc()
                raise Problem(409, str(error)) from error
            async with self._turn:
                if state.users is old.users:
                    state.next = old.next
                else:  # rows that were logged in the meantime
                    for table in self.engine.log.tables(state.next):
                        state.apply(table)
                now = clock()
                state.advance(await self._disk.commit([arms_event(state, now)]) + 1, now)
                state.users.deal(arms, dealt)  # after the write, which may fail: the old state has the same users
                self.engine.state = state
            self.metrics.reloads.labels("done").inc()
            await self._save_items(state.shelves[0])
        digests = {one.arm: one.digest for one in loaded}
        return {"policies": digests, "changed": digests != {one.arm: one.digest for one in old.loaded}}

    async def _run(self) -> None:
        """Process batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            # Take commands that arrived at the same time. Waiting for more would slow down a few HTTP requests and not
            # speed up many, since these arrive while this batch is written.
            await asyncio.sleep(0)
            rows = len(batch[0][0].parts)
            while len(batch) < COMMIT and rows < COMMIT_ROWS and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                rows += len(batch[-1][0].parts)
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
            if isinstance(reply, Problem):
                continue
            for part in reply.parts or [reply]:
                for outcome in part.outcomes:
                    self.metrics.feedback.labels(outcome).inc()
                if part.arm:
                    self.metrics.recommended.labels(part.arm).inc()
                    if "short" in part.body:
                        self.metrics.short.labels(part.arm).inc()
        if self._upkeep.begin_snapshot():
            self._spawn(self._upkeep.save())
        return replies

    async def _written(self, commands: list[Command]) -> Sequence[Reply | Problem]:
        if self._failed:
            return [Problem(503, "the state differs from the log; restart the server")] * len(commands)
        now = clock()
        plan = self.engine.plan(commands, now)
        if plan.events:
            try:
                first = await self._disk.commit(plan.events)
            except BaseException as problem:
                self.engine.give_up(plan)
                if not isinstance(problem, Problem):
                    raise
                return [reply if isinstance(reply, Problem) else problem for reply in plan.replies]
            self._failed = True
            self.engine.take_in(plan, first)
            self._failed = False
        return plan.replies

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _log_items(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows for items. The caller holds the lock."""
        now = clock()
        events = [Event(timestamp=now, received=now, **row) for row in rows]
        if events:
            self.state.advance(await self._disk.commit(events) + len(events), now)

    async def _restock(self) -> None:
        """Build the item tables of all arms in the background, and replace the old ones."""
        state = self.state
        shelves = await self._disk.aside(state.new_shelves)
        await self._save_items(shelves[0])
        async with self._turn:
            state.place(shelves)

    async def _save_items(self, shelf: Shelf) -> None:
        """Write the items next to the log.

        Raises `Problem`; if the client repeats the HTTP request, the server tries again.
        """
        try:
            await self._disk.aside(save_items, self._opened.folder, shelf.catalogue)
        except (OSError, UserError) as error:
            raise of_disk(error, f"{ITEMS} was not written") from error

    def _new_items(self, body: PutItems) -> dict[int | str, Added]:
        """Return the items of a body by id. Runs in the background. Raises `Problem`."""
        tables = [shelf.catalogue for shelf in self.state.shelves]
        try:
            new = with_embeddings(((one.id, one.embedding, one.categories) for one in body.items), tables[0])
        except UserError as error:
            raise Problem(422, str(error)) from error
        try:
            for item, one in new.items():
                for table in tables:
                    check_embedding(item, one.embedding, table, self.state.put)
        except UserError as error:
            raise Problem(409, str(error)) from error
        return new

    def _new_state(self, loaded: list[Loaded], arms: ServeSettings, old: ServedState) -> ServedState:
        """Return the server state of new policies, up to the newest row of the log. Runs in the background."""
        state = ServedState(loaded, arms)
        # Codes of items depend on the main arm.
        if set(state.observers) == set(old.observers) and loaded[0].states == old.loaded[0].states:
            state.share(old)
            state.stock()
            return state
        state.put_items(old.put)
        state.withdraw_items(old.withdrawn)
        state.stock()
        for table in self.engine.log.tables():
            state.apply(table)
        return state
