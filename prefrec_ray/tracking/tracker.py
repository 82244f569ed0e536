"""A tracked run. A tracker that does not answer never stops training, and gets everything later."""

from __future__ import annotations

import posixpath
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from prefrec_ray import storage
from prefrec_ray.tracking import backends
from prefrec_ray.tracking.backends import Backend
from prefrec_ray.tracking.settings import (
    NO_TRACKING,
    RunRecord,
    TrackingSettings,
    read_record,
    write_record,
)

#: Seconds after a failed call in which a tracker is not called.
PAUSE = 60.0


class Tracker:
    """Sends a run's settings, rows and files to its trackers, in this order. Without settings it does nothing.

    `run` is the run's folder, `group` the sweep or loop, and `say` gets one line if a tracker fails. As a context the
    run ends with it, failed after an exception.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        run: str,
        group: str = "prefrec",
        name: str = "",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._queues: list[_Queue] = []
        self._begun = False
        if settings.mlflow is None and settings.wandb is None:
            return
        record = read_record(run)
        if record is None:
            named = name or posixpath.basename(run.rstrip("/"))
            record = RunRecord(settings=settings, group=group, name=named, wandb_id=uuid.uuid4().hex)
        elif record.settings != settings:  # the run is resumed with other trackers
            record = record.with_settings(settings)
        if settings.mlflow is not None:
            self._queues.append(_Queue(backends.MlflowRun(record, run), say))
        if settings.wandb is not None:
            self._queues.append(_Queue(backends.WandbRun(record, run), say))
        self._record, self._run = record, run

    def begin(self, params: Mapping[str, Any]) -> None:
        """Start the run with its settings, or continue it if it was started before."""
        self._begun = True
        stored = read_record(self._run) if self._queues else None
        if self._queues and (stored is None or stored.settings != self._record.settings):
            write_record(self._record, self._run)
        flat = dict(_flat(params))
        for queue in self._queues:
            queue.put(methodcaller("begin", flat))

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of progress.csv. Texts, None and rows of iterations that were logged before are ignored."""
        for queue in self._queues:
            for row in rows:
                step = row["training_iteration"]
                if step > queue.last:
                    queue.last = step
                    queue.put(
                        methodcaller("log", step, {name: float(row[name]) for name in row if _is_number(row[name])})
                    )

    def attach(self, *uris: str) -> None:
        """Upload files and policy bundles."""
        for queue in self._queues:
            for uri in uris:
                queue.put(partial(_attach, uri))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.end(failed=kind is not None)

    def end(self, failed: bool = False) -> None:
        """End the run, if it has begun: send what was not sent yet."""
        for queue in self._queues if self._begun else ():
            queue.put(methodcaller("end", failed), last=True)


#: Tracks nothing.
UNTRACKED = Tracker(NO_TRACKING, "")


class _Queue:
    """Calls of one backend, in order. A call that fails is repeated before the next one."""

    def __init__(self, backend: Backend, say: Callable[[str], None]) -> None:
        self._backend, self._say, self._calls = backend, say, deque[Callable[[Backend], None]]()
        self._warned, self._again = False, 0.0
        self.last = 0

    def put(self, call: Callable[[Backend], None], last: bool = False) -> None:
        self._calls.append(call)
        if not last and time.monotonic() < self._again:
            return
        try:
            while self._calls:
                self._calls[0](self._backend)
                self._calls.popleft()
        except Exception as error:  # of any kind: training is worth more than its curves
            self._again = time.monotonic() + PAUSE
            if not self._warned:
                reason = str(error).strip().partition("\n")[0][:200]
                self._say(
                    f"tracking: {self._backend.name} fails ({type(error).__name__}: {reason}); training goes on, and "
                    "sends everything later, at the latest by --resume"
                )
            self._warned = True


def attach_to_run(run: str, *files: str, say: Callable[[str], None] = lambda line: None) -> None:
    """Attach files that were made after the run in the folder `run`, if it is tracked."""
    record = read_record(run)
    if record is not None:
        with Tracker(record.settings, run, say=say) as tracker:
            tracker.begin({})
            tracker.attach(*files)


def _attach(uri: str, backend: Backend) -> None:
    with storage.fetched(uri) as path:
        backend.attach(path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings with keys joined by dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
