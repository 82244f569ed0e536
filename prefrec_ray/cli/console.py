"""Output of the commands (console, last lines, progress), and arguments that several of them share.

Progress is a live bar per stage on a terminal, else a line when a stage ends and a heartbeat every ten seconds.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from prefrec_ray import runtime
from prefrec_ray.runtime.progress import Report

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file or URI.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="DATASET", help="Prepared data set: folder or URI.")]

Host = Annotated[str, typer.Option("--host", help="Address; a token is required except on loopback.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free port.")]
#: The file of a command with defaults for all settings of its section.
OwnConfig = Annotated[
    str | None, typer.Option("--config", metavar="CONFIG", help="YAML with the section of this command.")
]

#: The width of a file, a pipe or the log of a job: tables fold at 80 columns otherwise.
_PIPE_WIDTH = 150
#: Seconds between two checks of the clock, and of silence before a heartbeat is printed, together 10 s.
_TICK, _SILENCE = 0.5, 9.5


def console() -> Console:
    """Return the current standard output, without markup: ids and paths may contain brackets and colons."""
    out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out


def pasteable(*words: str, config: str | None = None) -> str:
    """Return a `prefrec` command with words quoted for a shell, and with `--config` if given."""
    return shlex.join(["prefrec", *words, *(["--config", config] if config else [])])


def made(what: str, where: str, then: str, note: str = "") -> None:
    """Print the last lines of a command: its result, the place of the result, and the next command."""
    out = console()
    out.print(Text.assemble(("✓", "green"), f" {what}: ", (where, "bold"), note))
    if runtime.SUBMITTED not in os.environ:  # the job's paths and folder are those of a node
        out.print(f"  next: {then}", style="dim")


@contextmanager
def progress(out: Console, transient: bool = False) -> Iterator[Report]:
    """Yield a callback that shows every stage: work, unit, done and total, rate, and time left.

    `transient`: bars disappear at the end.
    """
    if out.is_terminal:
        columns = (TextColumn("{task.description:<27}", markup=False), BarColumn(bar_width=12), _Figures())
        with Progress(*columns, console=out, transient=transient) as bars:
            yield StageProgress(bars=bars)
        return
    lines, ended = StageProgress(lambda line: out.print(line, highlight=False)), Event()

    def beat() -> None:
        while not ended.wait(_TICK):
            lines.beat()

    heart = Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield lines
    finally:
        ended.set()
        heart.join()


@contextmanager
def loading(out: Console) -> Iterator[None]:
    """Show progress while a command imports its packages, which takes long on a busy machine."""
    with progress(out, transient=True) as report:
        report("load packages", 0, 1)
        yield


@dataclass
class _Stage:
    """A stage from its first report to its end. `first`: time and number done from which the rate is measured."""

    name: str
    began: float
    first: tuple[float, int] = (0.0, 0)
    last: tuple[float, int] = (0.0, 0)
    total: int | None = None  # None: not reported yet; 0: unknown
    note: str = ""
    bar: TaskID | None = None

    @property
    def has_ended(self) -> bool:
        return bool(self.total) and self.last[1] >= (self.total or 0)

    def line(self, now: float) -> str:
        return f"{self.name.partition(': ')[0]}  {self.figures(now)}"

    def figures(self, now: float) -> str:
        """Return number done and seconds, and before the end the rate and the time left."""
        unit, (last, done) = self.name.partition(": ")[2], self.last
        parts = []
        if unit:
            parts.append(f"{done:,}/{self.total:,} {unit}" if self.total else f"{done:,} {unit}")
        is_open_step = not (unit or self.has_ended)  # "so far" distinguishes its line from the last one
        parts.append(_duration((last if self.has_ended else now) - self.began) + (" so far" if is_open_step else ""))
        seconds, more = last - self.first[0], done - self.first[1]
        if unit and not self.has_ended and seconds > 0 and more > 0:
            # A late unit lowers the rate, as if it arrived now.
            rate = min(more / seconds, (more + 1) / (now - self.first[0]))
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.2g}/min")
            left = ((self.total or 0) - done) / rate - min(now - last, 1 / rate)
            if left > 0:  # not if the total is unknown, or the last unit late
                parts.append(f"{_duration(left)} left")
        return "  ".join([*parts, *([self.note] if self.note else [])])


class StageProgress:
    """Shows the stages of a command as `bars`. Without bars, `out` gets a line when a stage ends, and in long silence.

    A stage that has ended may begin again.
    """

    def __init__(
        self,
        out: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
        bars: Progress | None = None,
    ) -> None:
        self._out, self._clock, self._bars, self._lock = out, clock, bars, Lock()
        self._last = self._printed = clock()  # times of the last report and of the last line
        self._stages: dict[str, _Stage] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        with self._lock:
            now, known = self._clock(), self._stages.get(stage)
            if known is not None and known.has_ended:
                if done >= total:
                    return
                known = None
            if known is None:
                # A stage with finished units at its first report began when the stage before it ended.
                self._stages.pop(stage, None)  # the newest is the last one
                known = self._stages[stage] = _Stage(stage, self._last if done else now)
            if not known.total:
                # A resumed run has finished units at its first report. A total that shrinks does not change the rate.
                known.first = (now, done) if total else (known.began, 0)
            self._last, known.last, known.total, known.note = now, (now, done), total, note
            if self._bars is not None:
                self._show(known, self._bars)
            elif known.has_ended:
                self._print(known.line(now))

    def beat(self) -> None:
        """Print the stage that began last and has not ended, after a time without output."""
        with self._lock:
            now = self._clock()
            if now - self._printed >= _SILENCE:
                running = next((stage for stage in reversed(self._stages.values()) if not stage.has_ended), None)
                self._print(f"working  {_duration(now - self._last)}" if running is None else running.line(now))

    def _print(self, line: str) -> None:
        self._printed = self._clock()
        self._out(line)

    def _show(self, stage: _Stage, bars: Progress) -> None:
        if stage.bar is None:
            stage.bar = bars.add_task(stage.name.partition(": ")[0], stage=stage)
        done, total = stage.last[1], stage.total
        # The bar of a single step moves to and fro until it ends.
        is_open = not total or (total == 1 and not done)
        bars.update(stage.bar, completed=done, total=None if is_open else total)


class _Figures(ProgressColumn):
    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return Text(task.fields["stage"].figures(time.monotonic()), style="dim")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.{1 if seconds < 10 else 0}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
