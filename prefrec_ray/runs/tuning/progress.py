"""Display of a sweep: its progress, a line for each trial that ends, and the table of all trials."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ray.tune import Callback
from rich.table import Table
from rich.text import Text

from prefrec_ray.runs.columns import Row
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runtime.progress import Report, silent

#: Rows of a table.
ROWS = 24
#: Letters of the longest line of a trial's name, a metric's name and a setting: all fit in 80 columns.
TRIAL, METRIC, SETTING = 24, 14, 19
#: The stage of a sweep while its trials run.
STAGE = "run trials: %"
_ENDED = ("TERMINATED", "ERROR")


class SweepProgress(Callback):
    """Reports the share of a sweep that is done, and a line for each trial that ends or resumes.

    Tune pickles callbacks into the sweep's folder, and restores them if the sweep is resumed. The functions to call,
    `report` and `say`, are therefore in an attribute of the class, which is not pickled. `total`: the number of trials.
    """

    calls: ClassVar[tuple[Report, Callable[[str], None]]] = (silent, lambda line: None)

    def __init__(self, metric: str | None, total: int) -> None:
        self._metric, self._total = metric, total

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Report the progress, and print a line for a trial that resumed from a checkpoint."""
        report, say = self.calls
        if result.get("resumed_from") and result["iterations_since_restore"] == 1:
            say(f"{trial}: resuming from iteration {result['resumed_from']}")
        ended = [one for one in trials if one.status in _ENDED]
        shares = [float((one.last_result or {}).get("progress") or 0.0) for one in trials if one not in ended]
        running = sum(one.status == "RUNNING" for one in trials)
        percent = int(100 * (len(ended) + sum(shares)) / self._total)
        report(STAGE, percent, 100, f"{len(ended)} of {self._total} trials ended, {running} running")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print a line for a trial that ended."""
        # Tune calls this just before it sets the status of a trial that completes.
        state = "failed" if trial.status == "ERROR" else "finished" if trial.last_result.get("finished") else "stopped"
        number = _number((trial.last_result or {}).get(self._metric))
        value = f", {self._metric} {number}" if number else ""
        ended = sum(one is trial or one.status in _ENDED for one in trials)
        self.calls[1](f"{trial}: {state}{value} ({ended} of {self._total})")

    on_trial_error = on_trial_complete


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


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
