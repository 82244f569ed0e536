"""Table 2: settings by tasks, with separate intervals over seeds and over users, and its text as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from prefrec_ray.evaluation.results.names import Role, role_title, subject_title
from prefrec_ray.reports.sweep.load import Setting, Sweep
from prefrec_ray.reports.sweep.names import is_drawn, keys_text, labels
from prefrec_ray.reports.sweep.scores import Measure, Score
from prefrec_ray.reports.sweep.units import NOTES, Metric

#: The paper's baselines. PrefRec and a user's methods are compared with the best of them.
BASELINES = ("DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL")
#: A table with more settings than MOST_ROWS shows the best ones only.
MOST_ROWS = 24
BEST_ROWS = 10


@dataclass(frozen=True)
class SeedMean:
    """The mean over seeds; its 95 % interval over seeds (None: one seed); the mean of the seeds' intervals over users
    (None: not known)."""

    mean: float
    seeds: int
    low: float | None
    high: float | None
    users_low: float | None
    users_high: float | None


@dataclass(frozen=True)
class SettingRow:
    """A line of the table: one cell per task (None: no score). `keys`: the drawn values of a setting of a search."""

    label: str
    role: Role
    cells: Sequence[SeedMean | None]
    keys: str = ""


@dataclass(frozen=True)
class Gain:
    """(method - best baseline) / best baseline; `overlap`: whether their intervals over seeds overlap (None: one
    seed)."""

    share: float
    over: str
    overlap: bool | None


@dataclass(frozen=True)
class SweepTable:
    """`gains`: by label of a row, one gain per task. `hidden`: number of settings that are worse by `picked`."""

    measure: Measure
    tasks: Sequence[str]
    rows: Sequence[SettingRow]
    gains: Mapping[str, Sequence[Gain | None]]
    hidden: int
    picked: str

    def is_best(self, row: SettingRow, column: int) -> bool:
        """Return whether no policy has a better mean on the task of the column."""
        means = [line.cells[column] for line in self.rows if line.role == "policy"]
        cell = row.cells[column]
        signed = [self.measure.sign * entry.mean for entry in means if entry is not None]
        ranked = row.role == "policy" and self.measure.sign != 0
        return ranked and cell is not None and self.measure.sign * cell.mean >= max(signed)


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of `values` (one per seed) by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def cell(scores: Sequence[Score], metric: Metric | None = None) -> SeedMean | None:
    """Return the cell of the seeds of one setting and task, None if there are none.

    The interval over seeds is clipped to the range of the `metric` if all values are in it.
    """
    if not scores:
        return None
    values = [score.value for score in scores]
    low, high = seed_interval(values) or (None, None)
    if metric is not None and low is not None and high is not None:
        lowest, highest = metric.limits
        if lowest <= min(values) and max(values) <= highest:
            low, high = max(low, lowest), min(high, highest)
    lows, highs = [s.low for s in scores if s.low is not None], [s.high for s in scores if s.high is not None]
    users = (float(np.mean(lows)), float(np.mean(highs))) if len(lows) == len(highs) == len(scores) else (None, None)
    return SeedMean(float(np.mean(values)), len(values), low, high, *users)


def make_table(sweep: Sweep, measure: Measure) -> SweepTable:
    """Return the table of one measure."""
    shown = chosen(sweep, measure)
    label = labels(sweep)
    tasks = [task for task in sweep.tasks if any(t.task == task and t.name in measure.scores for t in sweep.finished)]

    def line(setting: Setting, scores: Mapping[str, Score]) -> list[SeedMean | None]:
        groups = [[t.name for t in sweep.group(setting, task) if t.name in scores] for task in tasks]
        return [cell([scores[name] for name in group], measure.metric) for group in groups]

    rows = [
        SettingRow(
            label[setting], "policy", line(setting, measure.scores), keys_text(setting) if is_drawn(sweep) else ""
        )
        for setting in shown
    ]
    ours = [row for row, setting in zip(rows, shown, strict=True) if setting.method not in BASELINES]
    baselines = [row for row, setting in zip(rows, shown, strict=True) if setting.method in BASELINES]
    compared = {row.label: [_gain(row, baselines, column) for column in range(len(tasks))] for row in ours}
    # A validation score of a policy without support is negative (5 less than its level): it has no ratio.
    comparable = measure.metric.is_level and all(score.value >= 0 for score in measure.scores.values())
    gains = {label: row for label, row in compared.items() if comparable and any(row)}
    subjects = dict.fromkeys(name for task in tasks for name in measure.controls.get(task, {}))
    controls = [
        SettingRow(
            subject_title(name), measure.roles[name], [_control(measure.controls[task].get(name)) for task in tasks]
        )
        for name in subjects
    ]
    hidden = len(sweep.chosen) - len(shown)
    return SweepTable(measure, tasks, [*rows, *controls], gains, hidden, _picked(sweep, measure))


def chosen(sweep: Sweep, measure: Measure) -> list[Setting]:
    """Return the settings of the table's rows: all, or the best of a search by the ranking (else by the measure)."""
    settings = sweep.chosen
    if len(settings) <= MOST_ROWS:
        return settings
    ranking = sweep.settings.ranking

    def worth(setting: Setting) -> float:
        trials = [trial for trial in sweep.finished if trial.setting == setting]
        if ranking is None:
            values = [measure.sign * score.value for score in measure.select(trials)]
        else:
            values = [ranking[1] * value for t in trials if (value := t.figures.get(ranking[0])) is not None]
        return float(np.mean(values)) if values else -np.inf

    return sorted(settings, key=worth, reverse=True)[:BEST_ROWS]


def _gain(row: SettingRow, others: Sequence[SettingRow], column: int) -> Gain | None:
    ours = row.cells[column]
    rivals = [(entry, other.label) for other in others if (entry := other.cells[column]) is not None]
    if ours is None or not rivals:
        return None
    best, label = max(rivals, key=lambda rival: rival[0].mean)
    if best.mean <= 0:
        return None
    overlap = None
    if ours.low is not None and ours.high is not None and best.low is not None and best.high is not None:
        overlap = ours.low <= best.high and best.low <= ours.high
    return Gain((ours.mean - best.mean) / best.mean, label, overlap)


def _picked(sweep: Sweep, measure: Measure) -> str:
    return sweep.settings.ranking[0] if sweep.settings.ranking else measure.title


def _control(score: Score | None) -> SeedMean | None:
    return None if score is None else SeedMean(score.value, 1, None, None, score.low, score.high)


def cell_lines(entry: SeedMean | None, measure: Measure, role: str) -> list[str]:
    """Return the lines of a cell: its mean, then its intervals, each named."""
    if entry is None:
        return ["–"]
    lines = [measure.text(entry.mean)]
    if role != "control" and entry.low is not None and entry.high is not None:
        lines.append(f"{entry.seeds} seeds [{measure.text(entry.low)}, {measure.text(entry.high)}]")
    elif role == "policy":
        lines.append("1 seed")
    if entry.users_low is not None and entry.users_high is not None:
        lines.append(f"users [{measure.text(entry.users_low)}, {measure.text(entry.users_high)}]")
    return lines


def name_of(row: SettingRow) -> str:
    """Return a row's label, with the role of a control."""
    return row.label if row.role == "policy" else f"{row.label} ({role_title(row.role)})"


def gain_lines(gain: Gain | None) -> list[str]:
    """Return the lines of an improvement."""
    if gain is None:
        return ["–"]
    tell = {True: "seed intervals overlap", False: "seed intervals apart", None: "one seed"}[gain.overlap]
    return [f"{gain.share:+z.1%}", f"over {gain.over}", tell]


def notes(table: SweepTable) -> list[str]:
    """Return explanations of the numbers, in sentences."""
    measure, unit = table.measure, table.measure.metric.unit
    scored = any(entry and entry.users_low is not None for row in table.rows for entry in row.cells)
    seeds = "Mean over seeds; “seeds”: 95 % interval of that mean over training seeds (Student's t)."
    users = f"“users”: 95 % interval over {measure.users}, the mean of the seeds' own bootstrap intervals."
    best = f"Bold: the {'highest' if measure.sign > 0 else 'lowest'} mean of a task among policies."
    parts = [f"Unit: {unit}." if unit else "", seeds, users if scored else "", best if measure.sign else ""]
    sentences = [" ".join(filter(None, parts))]
    if any(row.role != "policy" for row in table.rows):
        sentences.append("Controls learn nothing from the reward, and have one seed.")
    if table.gains:
        sentences.append(
            "Improvement: (method - best baseline) / best baseline, of the means. Baselines: the paper's "
            f"({', '.join(BASELINES)}). The best baseline is selected on the same scores; “seed "
            "intervals overlap”: the two intervals over seeds overlap."
        )
    if measure.users and measure.key in NOTES and (measure.key != "model" or measure.users == "validation users"):
        sentences.append(NOTES[measure.key])
    if table.hidden:
        sentences.append(f"{table.hidden} settings are not shown; those above are the best by {table.picked}.")
    return sentences


def markdown(table: SweepTable) -> str:
    """Return the table as Markdown, to be pasted into a page of results."""
    lines = [f"### {table.measure.title}", "", f"| | {' | '.join(table.tasks)} |", f"|---{'|---' * len(table.tasks)}|"]
    for row in table.rows:
        cells = []
        for column, entry in enumerate(row.cells):
            mean, *rest = cell_lines(entry, table.measure, row.role)
            bold = f"**{mean}**" if table.is_best(row, column) else mean
            cells.append(f"{bold} ({'; '.join(rest)})" if rest else bold)
        lines.append(f"| {name_of(row)}{f' ({row.keys})' if row.keys else ''} | {' | '.join(cells)} |")
    for label, gains in table.gains.items():
        texts = [", ".join(gain_lines(gain)) for gain in gains]
        lines.append(f"| {label} against the best baseline | {' | '.join(texts)} |")
    return "\n".join([*lines, "", *(f"{note}\n" for note in notes(table))])
