"""Clock of a server, and its threads in addition to the event loop: one writes rows, one does slow work."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.logs.events.format import Event
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.metrics import Metrics
from prefrec_ray.web.problems import Problem


def clock() -> int:
    """Return the time, ms, UTC."""
    return int(time.time() * 1000)


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
            return await asyncio.get_running_loop().run_in_executor(self._rows, self._log.commit, events)
        except OSError as error:
            self._metrics.failed.inc()
            raise of_disk(error, "nothing was written") from error
        finally:
            self._metrics.commit.observe(time.perf_counter() - begin)

    async def begin_file(self) -> None:
        """Close the last file of the log, unless it is empty. Raises `OSError`."""
        await asyncio.get_running_loop().run_in_executor(self._rows, self._log.begin_file)

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
