"""Open folder of a server: one writer, the log up to its last whole record, the restored state, and disk threads."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import FILE, ITEMS, SEGMENTS, Event, Kind, read_about, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import list_segments, received_before, remove_damaged, remove_rows
from prefrec_ray.mdp.excluded import DAY_MS
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.serving.folder.snapshots import remove_snapshots, restore
from prefrec_ray.serving.settings import LOG_POLICIES, MAIN, ServeSettings, read_release
from prefrec_ray.serving.state.policies import Loaded, load_policies
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.serving.telemetry import Metrics
from prefrec_ray.storage.parquet import read_sealed, seal_parquet
from prefrec_ray.web.problems import Problem


def clock() -> int:
    """Return the time, ms, UTC."""
    return int(time.time() * 1000)


class Opened:
    """The folder of a server, to which no other process writes until `close`.

    `notes` are lines about repairs. Raises `UserError` if another process serves from the folder, if it belongs to
    policies of another kind, if an arm has items that the main arm lacks, if the log is damaged or lacks rows, and if
    the folder is in an object store.
    """

    def __init__(self, policy: str, folder: str, settings: ServeSettings) -> None:
        if "://" in folder:
            raise UserError(f"--state: found {folder}; expected a folder on a local disk, which confirms each write")
        self.policy, self.folder, self.settings = policy, folder, settings
        self.notes: list[str] = []
        main, arms = read_release(policy, settings)
        loaded = load_policies(main, arms)
        if loaded[0].digest in LOG_POLICIES:
            self.notes.append(f"{policy}: no policy yet; users without a canary get items by {settings.log_policy}")
        with ExitStack() as stack:
            stack.enter_context(storage.claimed(folder))
            storage.make_folder(folder)
            known = self._described(loaded)
            self.log = EventLog(folder, self._about.item_type)
            stack.callback(self.log.close)
            self.notes += self.log.notes
            if not known and self.log.next:
                raise UserError(
                    f"{storage.join(folder, FILE)}: missing, but {SEGMENTS}/ has {self.log.next} rows; expected both"
                    " (put it back from a copy, or serve from another folder)"
                )
            if not known:
                write_about(folder, self._about)
            if settings.retention_days is not None:
                remove_snapshots(folder)
                self.log.begin_file()
                try:
                    self.expire(clock())
                except UserError as error:  # such as a running compaction
                    self.notes.append(f"no old events were removed: {error}")
            self.state = self._restored(loaded, arms)
            self._closing = stack.pop_all()

    @property
    def log_id(self) -> str:
        """Return the prefix of the event ids that this log assigns."""
        return self._about.log_id

    def close(self) -> None:
        """Close the log, so that another process may write to it."""
        self._closing.close()

    def expire(self, now: int) -> None:
        """Remove events older than `retention_days` at the time `now`, ms, from all files of the log except the last.

        The state in memory keeps their effect until the next start. Raises `UserError` like `remove_rows`.
        """
        assert self.settings.retention_days is not None
        limit = now - round(DAY_MS * self.settings.retention_days)
        remove_rows(self.folder, received_before(limit))
        remove_damaged(self.folder, lambda path: path.stat().st_mtime < limit / 1000)

    def check(self, loaded: list[Loaded]) -> None:
        """Check that the log and the items next to it belong to policies of the same kind. Raises `UserError`."""
        where = f"{self.policy}: found another kind of policy than in {self.folder} (use another state folder for it)"
        self._about.check_same(loaded[0].about(), where)
        stored_items(self.folder, loaded[0].policy.state.action_dim)

    def _described(self, loaded: list[Loaded]) -> bool:
        """Set the description of the log; return whether there is a log already."""
        file = storage.join(self.folder, FILE)
        if not storage.exists(file):
            _check_no_others(self.folder)
            self._about = loaded[0].about(uuid.uuid4().hex[:8])
            return False
        self._about = read_about(self.folder)
        self.check(loaded)
        if not list_segments(self.folder):  # the first one is written before log.json
            raise UserError(
                f"{storage.join(self.folder, SEGMENTS)}: rows are missing: found no file next to {FILE}; expected the"
                f" files of the log (put them back from a copy, or remove {self.folder} to begin another log)"
            )
        return True

    def _restored(self, loaded: list[Loaded], settings: ServeSettings) -> ServedState:
        state = ServedState(loaded, settings)
        note = restore(self.folder, state, self.log.next)
        if note:
            self.notes.append(note)
        for table in self.log.tables(state.next):
            state.fold_items(table)
        state.stock()
        for table in self.log.tables(state.next):
            state.apply(table)
        save_items(self.folder, state.shelves[0].catalogue)
        return state


def _check_no_others(folder: str) -> None:
    """Raise `UserError` for a folder of another kind, such as a data set, whose items.parquet would be replaced."""
    names = sorted(name for name in os.listdir(storage.absolute(folder)) if not name.startswith("."))
    if SEGMENTS not in names and set(names) - {"lost+found"}:
        raise UserError(
            f"{folder}: found {names[0]}, but no {FILE}; expected a new or empty folder, or the folder of a server"
        )


def stored_items(folder: str, width: int) -> ItemTable | None:
    """Return the items in `folder`, or None if no file is written yet.

    Raises `UserError` for a file that cannot be read, and for embeddings with another length than `width`.
    """
    file = storage.join(folder, ITEMS)
    if not storage.exists(file):
        return None
    items = ItemTable.from_table(read_sealed(file), file)
    found = items.embeddings.shape[1]
    if found != width:
        raise UserError(
            f"{file}: found embeddings of {found} numbers; expected {width} as in the policy, or another state folder"
        )
    return items


def save_items(folder: str, items: ItemTable) -> None:
    """Write `items` and those earlier items in `folder` to which rows of the log refer.

    Raises `UserError` as `stored_items` does.
    """
    ids, embeddings = items.ids, items.embeddings
    before = stored_items(folder, embeddings.shape[1])
    if before is not None:
        if np.array_equal(before.ids, ids) and np.array_equal(before.embeddings, embeddings):
            return  # a million items take seconds to write
        gone = items.find(before.ids) < 0
        ids = np.concatenate([ids, before.ids[gone]])
        embeddings = np.concatenate([embeddings, before.embeddings[gone]])
    content = seal_parquet(ItemTable(ids, embeddings).to_table(), compression="none")
    storage.write_bytes(storage.join(folder, ITEMS), content)


def arms_event(state: ServedState, clock: int) -> Event:
    """Return the row for the current arms: their shares of the users, and the hours in which feedback counts."""
    arms = [{"arm": arm, "policy": policy, "share": share} for arm, policy, share in state.shares]
    settings = {"main": MAIN, "seed": state.settings.seed, "feedback_hours": state.settings.feedback_hours}
    return Event(Kind.ARMS, clock, received=clock, note=json.dumps({**settings, "arms": arms}))


class Disk:
    """A thread that writes rows to `log`, and a thread for slow work."""

    def __init__(self, log: EventLog, metrics: Metrics) -> None:
        self._log, self._metrics = log, metrics
        self._rows = ThreadPoolExecutor(1, "disk")
        self._aside = ThreadPoolExecutor(1, "aside", initializer=_give_way)

    async def commit(self, events: Sequence[Event]) -> int:
        """Write rows, and return the number of the first row.

        Raises `Problem`: 507 on a full disk, 503 if the disk fails.
        """
        begin = time.perf_counter()
        try:
            return await self._in_turn(self._log.commit, events)
        except OSError as error:
            self._metrics.failed.inc()
            raise of_disk(error, "nothing was written") from error
        finally:
            self._metrics.commit.observe(time.perf_counter() - begin)

    async def begin_file(self) -> None:
        """Close the last file of the log, unless it is empty. Raises `OSError`."""
        await self._in_turn(self._log.begin_file)

    async def check(self) -> None:
        """Raise `Problem` if rows cannot be written (507 on a full disk, else 503), or if the log cannot be read."""
        try:
            await self._in_turn(self._log.check)
        except (OSError, UserError) as error:
            raise of_disk(error, "the log failed") from error

    async def _in_turn(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._rows, call, *arguments)

    async def aside(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run a slow call in the background, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, call, *arguments)

    def stop_aside(self) -> None:
        """Wait for the running call, and drop the others."""
        self._aside.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Wait until all rows are written."""
        self._rows.shutdown()


def of_disk(error: OSError | UserError, what: str) -> Problem:
    """Return the problem of a failed write: 507 on a full disk, else 503. `what` describes the failed work."""
    status = 507 if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) else 503
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return Problem(status, f"{what}: {why}; make room and try again")


def _give_way() -> None:
    """Give this thread a low priority, since its work may wait and replies may not."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
