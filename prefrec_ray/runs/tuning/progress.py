"""Progress of a sweep: a live table of trials on a terminal, else one line for each trial that ends."""

from __future__ import annotations

import math
import time
from typing import Any

from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

#: Rows of the table: running trials, then those that ended last.
ROWS = 24
#: Seconds of silence without a terminal.
_SILENCE = 9.5

_STATES = {"RUNNING": "running", "PENDING": "waiting", "PAUSED": "paused", "ERROR": "failed"}


class ProgressTable(Callback):
    """Tune pickles its callbacks into the sweep's folder; the pickle of this one leaves out the console."""

    def __init__(self, metric: str | None) -> None:
        self._metric = metric
        self._live: Live | None = None
        self._started = time.monotonic()
        self._console: Console | None = None
        self._drawn = 0.0

    def __reduce__(self) -> tuple[type, tuple[str | None]]:
        return ProgressTable, (self._metric,)

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Starts the display."""
        self._console = Console(soft_wrap=True, highlight=False)
        self._started = self._drawn = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Draws the table, a few times a second at most; without a terminal a line, every ten seconds at most."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn > 0.25:
            self._drawn = now
            self._live.update(table(trials, self._metric, now - self._started), refresh=True)
        elif self._live is None and self._console is not None and now - self._drawn > _SILENCE:
            self._drawn = now
            self._console.print(summary(trials, now - self._started), markup=False)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Prints a line for a trial that resumed from a checkpoint."""
        if self._console is not None and result.get("resumed_from") and result["iterations_since_restore"] == 1:
            self._console.print(f"{trial}: going on from iteration {result['resumed_from']}", markup=False)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Prints a line if there is no table."""
        self._line(trial, trials)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """As for a trial that completes."""
        self._line(trial, trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Removes the table."""
        if self._live is not None:
            self._live.stop()

    def _line(self, trial: Any, trials: list[Any]) -> None:
        if self._live is None and self._console is not None:
            # Tune calls this just before it sets the status of a trial that completes.
            state = "failed" if trial.status == "ERROR" else _end(trial)
            ended = sum(other is trial or other.status in ("TERMINATED", "ERROR") for other in trials)
            number = _number(trial, self._metric)
            value = f", {self._metric} {number}" if number else ""
            self._console.print(f"{trial}: {state}{value} ({ended} of {len(trials)})", markup=False)


def table(trials: list[Any], metric: str | None, seconds: float) -> Group:
    """The table of Tune's `trials` after this many seconds."""
    columns = ["trial", "state", "done", "phase", "Q loss", "actor loss", *([metric] if metric else [])]
    grid = Table(box=None, pad_edge=False)
    for column in [*columns, "rows/s", "left"]:
        grid.add_column(column, justify="left" if column in ("trial", "state", "phase") else "right")
    running = [trial for trial in trials if trial.status == "RUNNING"]
    ended = [trial for trial in trials if trial.status in ("TERMINATED", "ERROR")]
    shown = (running + ended[::-1])[:ROWS]
    for trial in shown:
        last = trial.last_result or {}
        share = float(last.get("progress") or 0.0)
        left = float(last.get("time_total_s") or 0.0) * (1 / share - 1) if share else math.nan
        cells = [str(trial), _state(trial), f"{share:.0%}", str(last.get("phase", ""))]
        cells += [_number(trial, name) for name in ("losses/qf_loss", "losses/actor_loss")]
        cells += [_number(trial, metric)] if metric else []
        rate = last.get("transitions_per_second")
        cells.append(f"{rate:,.0f}" if rate and math.isfinite(rate) else "")
        is_running = trial.status == "RUNNING"
        grid.add_row(*cells, _time(left) if is_running else "", style=None if is_running else "dim")
    return Group(grid, Text(summary(trials, seconds), style="bold"))


def summary(trials: list[Any], seconds: float) -> str:
    """The numbers of trials that have ended and that run, and the time left, after this many seconds."""
    ended = [trial for trial in trials if trial.status in ("TERMINATED", "ERROR")]
    running = sum(trial.status == "RUNNING" for trial in trials)
    done = sum(1.0 if trial in ended else float((trial.last_result or {}).get("progress") or 0.0) for trial in trials)
    left = seconds * (len(trials) / done - 1) if done else math.nan
    line = f"{len(ended)} of {len(trials)} trials ended, {running} running, {_time(seconds)} gone"
    return line + (f", {_time(left)} left" if math.isfinite(left) else "")


def _state(trial: Any) -> str:
    if trial.status == "TERMINATED":
        return _end(trial)
    return _STATES.get(trial.status, trial.status.lower())


def _end(trial: Any) -> str:
    return "finished" if (trial.last_result or {}).get("finished") else "stopped"


def _number(trial: Any, name: str | None) -> str:
    value = (trial.last_result or {}).get(name)
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
