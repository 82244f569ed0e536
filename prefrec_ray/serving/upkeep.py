"""Work of a server next to replies: snapshots of its state, or the daily removal of old events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.serving.folder.opened import Disk, Opened, clock
from prefrec_ray.serving.folder.snapshots import Snapshot
from prefrec_ray.serving.requests.engine import Engine

#: Seconds between two removals of old events.
_DAY = 86_400.0
#: Seconds to wait for a slice of a snapshot.
_PATIENCE = 60.0


class Upkeep:
    """Snapshots for a quick restart, at most one at a time. A failed one is no loss, because the log has all events.

    There are none if events are removed from the log: they would keep the effect of these events on states. `turn` is
    held while rows of the log are applied to the state of `engine`. A state that is not `healthy` is not saved.
    """

    def __init__(
        self, opened: Opened, engine: Engine, disk: Disk, turn: asyncio.Lock, healthy: Callable[[], bool]
    ) -> None:
        self._opened, self._engine, self._disk, self._turn, self._healthy = opened, engine, disk, turn, healthy
        self._saved, self._saving, self._stopping = engine.state.next, False, False

    @property
    def removes_events(self) -> bool:
        """Return True if old events are removed from the log. Then no snapshots are written."""
        return self._opened.settings.retention_days is not None

    def begin_snapshot(self) -> bool:
        """Return True if a snapshot is due. The caller then runs `save`."""
        state = self._engine.state
        due = state.next - self._saved >= state.settings.snapshot_events
        if self.removes_events or self._saving or not due:
            return False
        self._saved, self._saving = state.next, True
        return True

    async def save(self) -> None:
        """Write a snapshot in the background."""
        async with self._turn:
            if not self._healthy():
                return  # and `_saving` stays: no other snapshot begins
            snapshot = Snapshot.from_state(self._engine.state)
        loop = asyncio.get_running_loop()

        async def copied(copy: Callable[[], np.ndarray]) -> np.ndarray:
            if self._stopping:
                raise OSError("the server stops")
            return copy()

        def take(copy: Callable[[], np.ndarray]) -> np.ndarray:
            """Copy a slice of the state on the event loop, between batches."""
            return asyncio.run_coroutine_threadsafe(copied(copy), loop).result(_PATIENCE)

        try:
            with suppress(OSError, UserError):
                await self._disk.aside(snapshot.write, self._opened.folder, take)
        finally:
            self._saving = False

    async def stop(self) -> None:
        """End a running snapshot, which is removed, and write the last one."""
        self._stopping = True
        await asyncio.to_thread(self._disk.stop_aside)
        async with self._turn:
            if self.removes_events or not self._healthy():
                return
            snapshot = Snapshot.from_state(self._engine.state)
        with suppress(OSError, UserError):
            snapshot.write(self._opened.folder)

    async def expire(self) -> None:
        """Remove old events once a day until cancelled."""
        while True:
            await asyncio.sleep(_DAY)
            with suppress(OSError, UserError):  # a full disk, or a running compaction: the next day removes them
                await self._disk.begin_file()
                await self._disk.aside(self._opened.expire, clock())
