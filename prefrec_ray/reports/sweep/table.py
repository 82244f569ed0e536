"""Table 2: settings by tasks, with separate intervals over seeds and over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.evaluation.results.names import Role, role_title, subject_title
from prefrec_ray.reports.sweep.load import Setting, Sweep, Trial
from prefrec_ray.reports.sweep.scores import Measure, Score

#: The paper's baselines. PrefRec and a user's methods are compared with the best of them.
BASELINES = ("DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL")
#: A table with more settings than MOST_ROWS shows the best ones only.
MOST_ROWS = 24
BEST_ROWS = 10
#: Explanations by estimator.
NOTES = {
    "model": "A validation score of a policy that leads users to states outside the log has 5 less.",
    "preference": "Preference: the expected reward of the policy's items over the next 100 impressions, minus the "
    "expected reward of the logged items, in thousandths of the standard deviation of the reward's labels. It ranks "
    "policies; it is not a level.",
    "ncis": "NCIS ranks policies; the size of its gains is biased: compare it with the negative controls before the "
    "logging policy.",
}

Interval = tuple[float, float]


@dataclass(frozen=True)
class SeedMean:
    """The mean over seeds, its 95 % interval over seeds (None: one seed), and the mean of the seeds' intervals over
    users (None: not known)."""

    mean: float
    seeds: int
    interval: Interval | None
    users: Interval | None


@dataclass(frozen=True)
class Line:
    """A line of the table: its name, and the texts of one cell per task: the mean, then its intervals.

    `keys`: the drawn values of a setting of a search. `best`: whether a cell has the best mean of its task.
    """

    name: str
    role: Role | str
    texts: Sequence[Sequence[str]]
    best: Sequence[bool]
    keys: str = ""


@dataclass(frozen=True)
class SweepTable:
    """Lines of settings, controls and improvements over the best baseline, and explanations of the numbers."""

    measure: Measure
    tasks: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]


def make_table(sweep: Sweep, measure: Measure) -> SweepTable:
    """Return the table of one measure."""
    shown = chosen(sweep, measure)
    tasks = [task for task in sweep.tasks if any(t.task == task and t.name in measure.scores for t in sweep.finished)]
    means = {setting: seed_means(sweep.groups[setting], tasks, measure) for setting in shown}
    columns = zip(*means.values(), strict=True)
    best = [measure.best([cell.mean for cell in column if cell is not None]) for column in columns]
    lines = []
    for setting, row in means.items():
        texts = [_texts(cell, measure) for cell in row]
        is_best = [cell is not None and cell.mean == top for cell, top in zip(row, best, strict=True)]
        keys = sweep.groups[setting][0].keys_text if sweep.is_drawn else ""
        lines.append(Line(sweep.label(setting), "policy", texts, is_best, keys))
    none_best = [False] * len(tasks)
    for name in dict.fromkeys(name for task in tasks for name in measure.controls.get(task, {})):
        role = measure.roles[name]
        texts = [_control_texts(measure.controls[task].get(name), measure) for task in tasks]
        lines.append(Line(f"{subject_title(name)} ({role_title(role)})", role, texts, none_best))
    lines += _improvements(sweep, measure, means)
    return SweepTable(measure, tasks, lines, _notes(sweep, measure, lines, len(sweep.groups) - len(shown)))


def chosen(sweep: Sweep, measure: Measure) -> list[Setting]:
    """Return the settings of the table's rows: all, or the best of a search by the ranking (else by the measure)."""
    if len(sweep.groups) <= MOST_ROWS:
        return list(sweep.groups)
    ranking = sweep.settings.ranking

    def worth(setting: Setting) -> float:
        trials = sweep.groups[setting]
        if ranking is None:
            values = [measure.sign * score.value for score in measure.select(trials)]
        else:
            values = [ranking[1] * value for t in trials if (value := t.metrics.get(ranking[0])) is not None]
        return float(np.mean(values)) if values else -np.inf

    return sorted(sweep.groups, key=worth, reverse=True)[:BEST_ROWS]


def seed_means(trials: Sequence[Trial], tasks: Sequence[str], measure: Measure) -> list[SeedMean | None]:
    """Return the mean over seeds on each of the tasks; None for a task without a score."""
    return [seed_mean(measure.select([trial for trial in trials if trial.task == task]), measure) for task in tasks]


def seed_mean(scores: Sequence[Score], measure: Measure | None = None) -> SeedMean | None:
    """Return the cell of the seeds of one setting and task, None if there are none.

    The interval over seeds of a mean level ends at 0 and at 5.
    """
    if not scores:
        return None
    values = [score.value for score in scores]
    interval = seed_interval(values)
    if interval is not None and measure is not None and measure.metric.is_level and min(values) >= 0:
        interval = max(interval[0], 0.0), min(interval[1], float(MAX_LEVEL))
    known = [score.interval for score in scores if score.interval is not None]
    users = None
    if len(known) == len(scores):
        low, high = np.mean(known, axis=0).tolist()
        users = (low, high)
    return SeedMean(float(np.mean(values)), len(values), interval, users)


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of `values` (one per seed) by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _texts(cell: SeedMean | None, measure: Measure) -> list[str]:
    """Return the texts of a policy's cell: its mean, then its intervals, each named."""
    if cell is None:
        return ["–"]
    seeds = f"{cell.seeds} seeds {_interval(cell.interval, measure)}" if cell.interval is not None else "1 seed"
    users = [f"users {_interval(cell.users, measure)}"] if cell.users is not None else []
    return [measure.text(cell.mean), seeds, *users]


def _control_texts(score: Score | None, measure: Measure) -> list[str]:
    if score is None:
        return ["–"]
    users = [f"users {_interval(score.interval, measure)}"] if score.interval is not None else []
    return [measure.text(score.value), *users]


def _interval(interval: Interval, measure: Measure) -> str:
    return f"[{', '.join(map(measure.text, interval))}]"


def _improvements(sweep: Sweep, measure: Measure, means: Mapping[Setting, Sequence[SeedMean | None]]) -> list[Line]:
    """Return one line for each setting of another method than the baselines, if values are levels, with ratios.

    A validation score without support is negative (5 less than its level) and has no ratio.
    """
    if not measure.metric.is_level or any(score.value < 0 for score in measure.scores.values()):
        return []
    named = [(sweep.label(setting), sweep.groups[setting][0].method, row) for setting, row in means.items()]
    baselines = {label: row for label, method, row in named if method in BASELINES}
    lines = []
    for label, method, row in named:
        if baselines and method not in BASELINES:
            others = [dict(zip(baselines, column, strict=True)) for column in zip(*baselines.values(), strict=True)]
            texts = [_improvement_texts(cell, rivals) for cell, rivals in zip(row, others, strict=True)]
            lines.append(Line(f"{label} against the best baseline", "gain", texts, [False] * len(row)))
    return lines


def _improvement_texts(ours: SeedMean | None, baselines: Mapping[str, SeedMean | None]) -> list[str]:
    """Return the relative difference of the means to the best baseline, and the name of this baseline."""
    means = {name: cell.mean for name, cell in baselines.items() if cell is not None}
    if ours is None or not means or max(means.values()) <= 0:
        return ["–"]
    best = max(means, key=lambda name: means[name])
    return [f"{ours.mean / means[best] - 1:+z.1%}", f"over {best}"]


def _notes(sweep: Sweep, measure: Measure, lines: Sequence[Line], hidden: int) -> list[str]:
    """Return explanations of the numbers, in sentences; `hidden`: number of settings that are not shown."""
    roles = {line.role for line in lines}
    parts = [f"Unit: {measure.metric.unit}."] if measure.metric.unit else []
    parts.append("Mean over seeds; “seeds”: 95 % interval of that mean over training seeds (Student's t).")
    if any(score.interval is not None for score in measure.scores.values()):
        parts.append(f"“users”: 95 % interval over {measure.users}, the mean of the seeds' own bootstrap intervals.")
    if measure.sign:
        parts.append(f"Bold: the {'highest' if measure.sign > 0 else 'lowest'} mean of a task among policies.")
    notes = [" ".join(parts)]
    if roles & {"control", "placebo"}:
        notes.append("Controls learn nothing from the reward, and have one seed.")
    if "gain" in roles:
        notes.append(
            "Improvement: (method - best baseline) / best baseline, of the means. Baselines: the paper's "
            f"({', '.join(BASELINES)}). The best baseline is selected on the same scores."
        )
    if measure.users and measure.key in NOTES and (measure.key != "model" or measure.users == "validation users"):
        notes.append(NOTES[measure.key])
    if hidden:
        ranked_by = sweep.settings.ranking[0] if sweep.settings.ranking else measure.title
        notes.append(f"{hidden} settings are not shown; those above are the best by {ranked_by}.")
    return notes
