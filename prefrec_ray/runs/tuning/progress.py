"""Display of a sweep: a live table of running trials, or lines without a terminal, and the table of all trials."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import Any

from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prefrec_ray.runs.columns import Row
from prefrec_ray.runs.tuning.settings import TuneSettings

#: Rows of a table.
ROWS = 24
#: Letters of the longest line of a trial's name, a metric's name and a setting: all fit in 80 columns.
TRIAL, METRIC, SETTING = 24, 14, 19
#: Seconds of silence without a terminal.
_SILENCE = 9.5

_STATES = {"RUNNING": "running", "ERROR": "failed"}


class ProgressTable(Callback):
    """Display as a callback. Tune pickles it into the sweep's folder; the pickle does not contain the console."""

    def __init__(self, metric: str | None) -> None:
        self._metric = metric
        self._live: Live | None = None
        self._started = time.monotonic()
        self._console: Console | None = None
        self._drawn = 0.0

    def __reduce__(self) -> tuple[type, tuple[str | None]]:
        return ProgressTable, (self._metric,)

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Start the display."""
        self._console = Console(soft_wrap=True, highlight=False)
        self._started = self._drawn = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Draw the table, a few times a second at most; without a terminal print a line every ten seconds."""
        now = time.monotonic()
        if self._console is None or now - self._drawn < (_SILENCE if self._live is None else 0.25):
            return
        self._drawn = now
        if self._live is not None:
            self._live.update(table(trials, self._metric, now - self._started), refresh=True)
        else:
            self._console.print(summary(trials, now - self._started), markup=False)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Print a line for a trial that resumed from a checkpoint."""
        if self._console is not None and result.get("resumed_from") and result["iterations_since_restore"] == 1:
            self._console.print(f"{trial}: resuming from iteration {result['resumed_from']}", markup=False)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print a line, unless there is a table."""
        if self._live is None and self._console is not None:
            # Tune calls this just before it sets the status of a trial that completes.
            state = "failed" if trial.status == "ERROR" else _end(trial)
            ended = sum(other is trial or other.status in ("TERMINATED", "ERROR") for other in trials)
            number = _number((trial.last_result or {}).get(self._metric))
            value = f", {self._metric} {number}" if number else ""
            self._console.print(f"{trial}: {state}{value} ({ended} of {len(trials)})", markup=False)
            self._drawn = time.monotonic()

    on_trial_error = on_trial_complete

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Remove the live table, whose place `final_table` takes."""
        if self._live is not None:
            self._live.stop()


def table(trials: Sequence[Any], metric: str | None, seconds: float) -> Group:
    """Return the live table of Tune's `trials` after this many seconds."""
    running = [trial for trial in trials if trial.status == "RUNNING"]
    ended = [trial for trial in trials if trial.status in ("TERMINATED", "ERROR")]
    shown = (running + ended[::-1])[:ROWS]
    columns = {
        "trial": [wrapped(str(trial), TRIAL) for trial in shown],
        "state": [_end(trial) if trial.status == "TERMINATED" else _STATES[trial.status] for trial in shown],
        "done": [f"{_share(trial):.0%}" for trial in shown],
        "left": [_left(trial) for trial in shown],
    }
    if metric:
        columns[wrapped(metric, METRIC)] = [_number((trial.last_result or {}).get(metric)) for trial in shown]
    styles = ["" if trial.status == "RUNNING" else "dim" for trial in shown]
    return Group(_grid(columns, ("trial", "state"), styles), Text(summary(trials, seconds), style="bold"))


def summary(trials: Sequence[Any], seconds: float) -> str:
    """Return a line about the whole sweep after this many seconds."""
    ended = sum(trial.status in ("TERMINATED", "ERROR") for trial in trials)
    running = sum(trial.status == "RUNNING" for trial in trials)
    done = ended + sum(_share(trial) for trial in trials if trial.status not in ("TERMINATED", "ERROR"))
    left = f", {_time(seconds * (len(trials) / done - 1))} left" if done else ""
    return f"{ended} of {len(trials)} trials ended, {running} running, {_time(seconds)} elapsed{left}"


def final_table(rows: Sequence[Row], settings: TuneSettings) -> Table:
    """Return the table of a sweep that ended, from the rows of trials.csv: the best trials first."""
    metric, sign = settings.ranking or ("", 1)
    worst = -math.inf
    ranked = sorted(rows, key=lambda row: worst if row.get(metric) is None else sign * row[metric], reverse=True)
    shown = ranked[:ROWS]
    columns = {"trial": [wrapped(row["trial"], TRIAL) for row in shown], "status": [row["status"] for row in shown]}
    if settings.search:
        lines = [[wrapped(text, SETTING) for text in parameters(row, settings)] for row in shown]
        columns["settings"] = ["\n".join(texts) for texts in lines]
    if metric:
        columns[wrapped(metric, METRIC)] = [_number(row[metric]) for row in shown]
    columns["time"] = [_time(row["time_total_s"] or 0.0) for row in shown]
    return _grid(columns, ("trial", "status", "settings"), [""] * len(shown))


def parameters(row: Row, settings: TuneSettings) -> list[str]:
    """Return the searched keys of a trial with their values; keys that its method does not search are excluded."""
    keys = [key for key, space in settings.search.items() if not space.methods or row["method"] in space.methods]
    return [f"{key} {_number(row[key]) if isinstance(row[key], float) else row[key]}" for key in keys]


def wrapped(text: str, letters: int) -> str:
    """Return a text in lines of at most `letters`, broken between words: at " ", "_", "/" and before capitals."""
    lines = [""]
    for part in re.split(r"(?<=[ _/])|(?<=[a-z])(?=[A-Z])", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _grid(columns: dict[str, list[str]], texts: Sequence[str], styles: Sequence[str]) -> Table:
    """Return a table of `columns` by header; columns that are not in `texts` are right-aligned."""
    grid = Table(box=None, pad_edge=False)
    for name in columns:
        grid.add_column(Text(name), justify="left" if name in texts else "right")
    for cells, style in zip(zip(*columns.values(), strict=True), styles, strict=True):
        grid.add_row(*map(Text, cells), style=style)
    return grid


def _end(trial: Any) -> str:
    return "finished" if (trial.last_result or {}).get("finished") else "stopped"


def _share(trial: Any) -> float:
    return float((trial.last_result or {}).get("progress") or 0.0)


def _left(trial: Any) -> str:
    if trial.status != "RUNNING" or not _share(trial):
        return ""
    return _time(float(trial.last_result.get("time_total_s") or 0.0) * (1 / _share(trial) - 1))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
