"""Progress of a command: bars with rate and time left on a terminal, else one line for each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Report(Protocol):
    """The callback of a stage: `progress(stage, done, total)`."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress(console: Console) -> Iterator[Report]:
    """A callback that shows a bar for each stage or, without a terminal, a line when the stage ends."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None, note=note)
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()  # when anything was reported
        self._started: dict[str, float] = {}
        self._ended: set[str] = set()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        # What is heard of at its end alone began when the stage before it had ended.
        started, self._last = self._started.setdefault(stage, self._last), now
        if total and done >= total and stage not in self._ended:
            self._ended.add(stage)
            self._console.print(f"{stage}: {done:,} in {now - started:.1f} s{note and f' ({note})'}", highlight=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.4g}/s" if speed else "", style="dim")
