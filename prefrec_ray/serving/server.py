"""A server without HTTP: micro-batches, the log, items that come and go, policies that are read again."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import ITEMS, Event, Kind
from prefrec_ray.serving.batches import Batches
from prefrec_ray.serving.bodies import DeleteItems, PutItems
from prefrec_ray.serving.engine import Engine
from prefrec_ray.serving.loaded import Loaded, load_policies
from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.serving.plan import Answer, Command, Plan
from prefrec_ray.serving.shelf import Shelf, check_embedding
from prefrec_ray.serving.snapshots import Snapshot
from prefrec_ray.serving.start import Opened, arms_event
from prefrec_ray.serving.state import ServedState
from prefrec_ray.serving.stored_items import save_items
from prefrec_ray.web.problems import Problem

#: Withdrawn items after which an arm's items are put in order again.
_WITHDRAWN = 256


class Server:
    """Answers commands. All but the waiting for the disk, and what takes long, happens on one event loop.

    Logs the arms. Raises `OSError` where nothing can be written, with `opened` closed.
    """

    def __init__(self, opened: Opened, now: Callable[[], float] = time.time) -> None:
        self._opened, self._now = opened, now
        self.engine = Engine(opened.state, opened.log, opened.log_id)
        self.metrics = Metrics()
        self._batches = Batches(self._answers)
        self._turn = asyncio.Lock()  # whoever plans, writes and takes in rows
        self._shelving = asyncio.Lock()
        self._disk = ThreadPoolExecutor(1, "disk")
        self._aside = ThreadPoolExecutor(1, "aside", initializer=_give_way)
        self._saved = opened.state.next
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False
        try:  # before anybody is told that it serves
            first = opened.log.commit([arms_event(opened.state, self.clock())])
        except OSError:
            opened.close()
            raise
        self._logged(opened.state, first + 1, self.clock())

    @property
    def state(self) -> ServedState:
        """What is served now."""
        return self.engine.state

    def clock(self) -> int:
        """ms, UTC."""
        return int(self._now() * 1000)

    async def start(self) -> None:
        """Begins to take batches."""
        self._spawn(self._batches.run())

    async def stop(self) -> None:
        """Ends; the state is saved, so that the next start is quick."""
        for task in self._tasks:
            task.cancel()
        async with self._turn:
            snapshot = Snapshot.of(self.state)
        self._aside.shutdown(cancel_futures=True)  # first: it may be at a snapshot, which removes others than its own
        with suppress(OSError, UserError):  # the log has it all
            snapshot.write(self._opened.folder)
        self._disk.shutdown()
        self._opened.close()

    @property
    def healthy(self) -> bool:
        """Whether the state is what the log says, and rows can be written. If not, only a new start helps."""
        return not (self._failed or self.engine.log.broken)

    async def do(self, command: Command) -> Answer:
        """The answer to one command, from a batch. Raises `Problem`."""
        return await self._batches.do(command)

    async def _answers(self, commands: list[Command]) -> Sequence[Answer | Problem]:
        """The answers to a batch, once its rows are on the disk."""
        self.metrics.batch.observe(len(commands))
        async with self._turn:
            answers = await self._written(commands)
        if self.state.next - self._saved >= self.state.settings.snapshot_events:
            self._saved = self.state.next
            self._spawn(self._save())
        return answers

    async def _written(self, commands: list[Command]) -> Sequence[Answer | Problem]:
        if self._failed:
            return [Problem(503, "the state differs from the log; start again")] * len(commands)
        clock = self.clock()
        plan = self.engine.plan(commands, clock)
        if plan.events:
            try:
                first = await self._commit(plan.events)
            except Problem as problem:
                self.engine.give_up(plan)
                return [answer if isinstance(answer, Problem) else problem for answer in plan.answers]
            self._failed = True
            self.engine.take_in(plan, first, clock)
            self._failed = False
        self._count(plan)
        return plan.answers

    async def _commit(self, events: Sequence[Event]) -> int:
        """Writes rows. Raises `Problem`: 507 on a full disk, 503 where the disk fails."""
        begin = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, self.engine.log.commit, events)
        except OSError as error:
            self.metrics.failed.inc()
            raise _of_disk(error, "nothing was written") from error
        finally:
            self.metrics.commit.observe(time.perf_counter() - begin)

    def _count(self, plan: Plan) -> None:
        for answer in plan.answers:
            if isinstance(answer, Answer) and answer.outcome:
                self.metrics.feedback.labels(answer.outcome).inc()
            elif isinstance(answer, Answer):
                self.metrics.recommended.labels(answer.arm).inc()

    async def put_items(self, body: PutItems) -> dict[str, Any]:
        """Items that may be shown from now on; answers once they may be drawn. Raises `Problem`."""
        state = self.state
        for one in body.items:
            if isinstance(one.id, int) != state.codes.whole:
                kind = "a whole number" if state.codes.whole else "text"
                raise Problem(422, f"items: id {one.id!r}; expected {kind}, as all items are")
        if len({one.id for one in body.items}) < len(body.items):
            raise Problem(422, "items: an id comes twice; expected each once")
        async with self._shelving:
            state = self.state
            new = {one.id: np.array(one.embedding, np.float32) for one in body.items}
            for loaded in state.loaded:
                for item, embedding in new.items():
                    try:
                        check_embedding(loaded.policy, item, embedding, state.put, state.codes)
                    except UserError as error:
                        raise Problem(409, str(error)) from error
            async with self._turn:
                clock = self.clock()
                events = [
                    Event(Kind.ITEM, clock, received=clock, items=[item], embedding=e.tolist())
                    for item, e in new.items()
                ]
                await self._log(events, clock)
                state.put_items(new)
            await self._restock()
        return {"items": len(new)}

    async def delete_items(self, body: DeleteItems) -> dict[str, Any]:
        """Items that may be shown no more, from now on; unknown ones too. Raises `Problem`."""
        async with self._shelving:
            state = self.state
            ids = [item for item in dict.fromkeys(body.ids) if isinstance(item, int) == state.codes.whole]
            async with self._turn:
                clock = self.clock()
                await self._log([Event(Kind.WITHDRAWN, clock, received=clock, items=[item]) for item in ids], clock)
                known = int((state.codes.find(state.codes.array(ids)) >= 0).sum())
                state.withdraw_items(ids)
            if any(len(shelf.gone) > _WITHDRAWN for shelf in state.shelves):
                await self._restock()
        return {"items": known, "unknown": len(body.ids) - known}

    async def _log(self, events: list[Event], clock: int) -> None:
        """Writes rows that are of no user; the caller has the turn."""
        if events:
            first = await self._commit(events)
            self._logged(self.state, first + len(events), clock)

    async def _restock(self) -> None:
        """New shelves, made aside, in the place of the old ones; the caller holds `_shelving`."""
        state = self.state
        shelves = await self._apart(lambda: [state.new_shelf(number) for number in range(len(state.loaded))])
        await self._save_items(shelves[0])
        async with self._turn:
            state.place(shelves)

    async def _save_items(self, shelf: Shelf) -> None:
        """Writes the items beside the log. Raises `Problem`: asked for the same once more, the server writes them."""
        try:
            await self._apart(save_items, self._opened.folder, shelf.catalogue)
        except (OSError, UserError) as error:
            raise _of_disk(error, f"{ITEMS} was not written") from error

    async def reload(self) -> dict[str, Any]:
        """Reads the policies of all arms again and serves them. Raises `Problem` 409; the old ones go on then.

        Raises `Problem` 507 or 503 too where the items beside the log cannot be written: the new ones serve then.
        """
        async with self._shelving:
            old = self.state
            try:
                tables = [one.policy.items for one in old.loaded]
                loaded = await self._apart(load_policies, self._opened.policy, old.settings, tables)
                await self._apart(self._opened.check, loaded)
                state = await self._apart(self._made, loaded, old)
            except UserError as error:
                self.metrics.reloads.labels("refused").inc()
                raise Problem(409, str(error)) from error
            async with self._turn:
                self._catch_up(state, old)
                clock = self.clock()
                self._logged(state, await self._commit([arms_event(state, clock)]) + 1, clock)
                self.engine.state = state
            self.metrics.reloads.labels("done").inc()
            await self._save_items(state.shelves[0])
        digests = {one.arm: one.digest for one in loaded}
        return {"policies": digests, "changed": digests != {one.arm: one.digest for one in old.loaded}}

    def _made(self, loaded: list[Loaded], old: ServedState) -> ServedState:
        """The state of new policies, up to the rows that are there now; aside."""
        state = ServedState(loaded, old.settings)
        if set(state.observers) == set(old.observers) and state.first_states == old.first_states:
            state.share(old)
            state.stock()
        else:
            state.put_items(old.put)
            state.withdraw_items(old.withdrawn)
            state.stock()
            for table in self.engine.log.tables():
                state.replay(table)
        return state

    def _catch_up(self, state: ServedState, old: ServedState) -> None:
        """Takes in the rows that came since; the caller has the turn."""
        if state.people is old.people:
            state.next = old.next
            return
        for table in self.engine.log.tables(state.next):
            state.replay(table)

    def _logged(self, state: ServedState, next_number: int, clock: int) -> None:
        """There are rows of no user up to this number."""
        state.next = next_number
        state.answered.advance(next_number, clock)

    async def _save(self) -> None:
        async with self._turn:
            snapshot = Snapshot.of(self.state)
        with suppress(OSError, UserError):  # the log has it all
            await self._apart(snapshot.write, self._opened.folder)

    async def _apart(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._aside, call, *arguments)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _of_disk(error: OSError | UserError, what: str) -> Problem:
    """507 on a full disk, 503 where the disk fails; `what` was done of it."""
    status = 507 if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) else 503
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return Problem(status, f"{what}: {why}; make room and try again")


def _give_way() -> None:
    """Runs this thread where no other wants to: what it does may wait, answers may not.

    Under real-time scheduling (`chrt -r`) niceness says nothing, and threads of one priority take turns of 100 ms: so
    this one leaves it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, thread, 10)
