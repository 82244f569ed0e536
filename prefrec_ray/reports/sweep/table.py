"""Table 2: settings by tasks, with separate intervals over seeds and over users, and its text as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from prefrec_ray.evaluation.results.names import Role, role_title, subject_title
from prefrec_ray.reports.sweep.load import Setting, Sweep
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
class Gain:
    """(method - best baseline) / best baseline; `overlap`: whether their intervals over seeds overlap (None: one
    seed)."""

    share: float
    over: str
    overlap: bool | None


@dataclass(frozen=True)
class Line:
    """A line of the table: its name, one cell per task (None: no score), and the texts of each cell.

    `keys`: the drawn values of a setting of a search. `best`: whether a cell has the best mean of its task.
    """

    name: str
    role: Role | str
    cells: Sequence[SeedMean | Gain | None]
    texts: Sequence[Sequence[str]]
    best: Sequence[bool]
    keys: str = ""


@dataclass(frozen=True)
class SweepTable:
    """Lines of settings, controls and gains over the best baseline, and explanations of the numbers."""

    measure: Measure
    tasks: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]

    def markdown(self) -> str:
        """Return the table as Markdown, to be pasted into a page of results."""
        rows = [f"| | {' | '.join(self.tasks)} |", f"|---{'|---' * len(self.tasks)}|"]
        for line in self.lines:
            cells = []
            for (first, *rest), best in zip(line.texts, line.best, strict=True):
                bold = f"**{first}**" if best else first
                cells.append(f"{bold} ({'; '.join(rest)})" if rest else bold)
            rows.append(f"| {line.name}{f' ({line.keys})' if line.keys else ''} | {' | '.join(cells)} |")
        return "\n".join([f"### {self.measure.title}", "", *rows, "", *(f"{note}\n" for note in self.notes)])


def make_table(sweep: Sweep, measure: Measure) -> SweepTable:
    """Return the table of one measure."""
    shown, label = chosen(sweep, measure), sweep.labels
    tasks = [task for task in sweep.tasks if any(t.task == task and t.name in measure.scores for t in sweep.finished)]
    means = {
        setting: [seed_mean(measure.select(sweep.group(setting, task)), measure) for task in tasks] for setting in shown
    }
    columns = zip(*means.values(), strict=True)
    best = [measure.best([entry.mean for entry in column if entry is not None]) for column in columns]
    lines = [
        Line(
            label[setting],
            "policy",
            row,
            [_mean_texts(entry, measure, "policy") for entry in row],
            [entry is not None and entry.mean == top for entry, top in zip(row, best, strict=True)],
            setting.keys_text if sweep.is_drawn else "",
        )
        for setting, row in means.items()
    ]
    for name in dict.fromkeys(name for task in tasks for name in measure.controls.get(task, {})):
        role = measure.roles[name]
        row = [_control(measure.controls[task].get(name)) for task in tasks]
        texts = [_mean_texts(entry, measure, role) for entry in row]
        lines.append(Line(f"{subject_title(name)} ({role_title(role)})", role, row, texts, [False] * len(tasks)))
    lines += _gains(means, label, measure)
    return SweepTable(measure, tasks, lines, _notes(sweep, measure, lines, len(sweep.chosen) - len(shown)))


def chosen(sweep: Sweep, measure: Measure) -> list[Setting]:
    """Return the settings of the table's rows: all, or the best of a search by the ranking (else by the measure)."""
    if len(sweep.chosen) <= MOST_ROWS:
        return sweep.chosen
    ranking = sweep.settings.ranking

    def worth(setting: Setting) -> float:
        trials = [trial for trial in sweep.finished if trial.setting == setting]
        if ranking is None:
            values = [measure.sign * score.value for score in measure.select(trials)]
        else:
            values = [ranking[1] * value for t in trials if (value := t.figures.get(ranking[0])) is not None]
        return float(np.mean(values)) if values else -np.inf

    return sorted(sweep.chosen, key=worth, reverse=True)[:BEST_ROWS]


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of `values` (one per seed) by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def seed_mean(scores: Sequence[Score], measure: Measure | None = None) -> SeedMean | None:
    """Return the cell of the seeds of one setting and task, None if there are none.

    The interval over seeds is clipped to the range of the metric if all values are in it.
    """
    if not scores:
        return None
    values = [score.value for score in scores]
    interval = seed_interval(values)
    if measure is not None and interval is not None:
        lowest, highest = measure.metric.limits
        if lowest <= min(values) and max(values) <= highest:
            interval = max(interval[0], lowest), min(interval[1], highest)
    known = [score.interval for score in scores if score.interval is not None]
    users = None
    if len(known) == len(scores):
        low, high = np.mean(known, axis=0).tolist()
        users = (low, high)
    return SeedMean(float(np.mean(values)), len(values), interval, users)


def _control(score: Score | None) -> SeedMean | None:
    return None if score is None else SeedMean(score.value, 1, None, score.interval)


def _mean_texts(entry: SeedMean | None, measure: Measure, role: Role) -> list[str]:
    """Return the texts of a cell: its mean, then its intervals, each named."""
    if entry is None:
        return ["–"]
    texts = [measure.text(entry.mean)]
    if entry.interval is not None:
        texts.append(f"{entry.seeds} seeds [{', '.join(map(measure.text, entry.interval))}]")
    elif role == "policy":
        texts.append("1 seed")
    if entry.users is not None:
        texts.append(f"users [{', '.join(map(measure.text, entry.users))}]")
    return texts


def _gains(
    means: Mapping[Setting, Sequence[SeedMean | None]], label: Mapping[Setting, str], measure: Measure
) -> list[Line]:
    """Return one line for each setting that is not a baseline, if values are levels, with ratios, and a task has one.

    A validation score of a policy without support is negative (5 less than its level): it has no ratio.
    """
    if not measure.metric.is_level or any(score.value < 0 for score in measure.scores.values()):
        return []
    baselines = {label[setting]: row for setting, row in means.items() if setting.method in BASELINES}
    lines = []
    for setting, row in means.items():
        if setting.method not in BASELINES:
            gains = [_gain(entry, {name: other[i] for name, other in baselines.items()}) for i, entry in enumerate(row)]
            if any(gains):
                texts = [_gain_texts(gain) for gain in gains]
                none_best = [False] * len(gains)
                lines.append(Line(f"{label[setting]} against the best baseline", "gain", gains, texts, none_best))
    return lines


def _gain(ours: SeedMean | None, others: Mapping[str, SeedMean | None]) -> Gain | None:
    rivals = [(entry, name) for name, entry in others.items() if entry is not None]
    if ours is None or not rivals:
        return None
    best, name = max(rivals, key=lambda rival: rival[0].mean)
    if best.mean <= 0:
        return None
    overlap = None
    if ours.interval is not None and best.interval is not None:
        overlap = ours.interval[0] <= best.interval[1] and best.interval[0] <= ours.interval[1]
    return Gain((ours.mean - best.mean) / best.mean, name, overlap)


def _gain_texts(gain: Gain | None) -> list[str]:
    if gain is None:
        return ["–"]
    seeds = {True: "seed intervals overlap", False: "seed intervals apart", None: "one seed"}[gain.overlap]
    return [f"{gain.share:+z.1%}", f"over {gain.over}", seeds]


def _notes(sweep: Sweep, measure: Measure, lines: Sequence[Line], hidden: int) -> list[str]:
    """Return explanations of the numbers, in sentences; `hidden`: number of settings that are not shown."""
    roles = {line.role for line in lines}
    parts = [f"Unit: {measure.metric.unit}."] if measure.metric.unit else []
    parts.append("Mean over seeds; “seeds”: 95 % interval of that mean over training seeds (Student's t).")
    if any(isinstance(cell, SeedMean) and cell.users is not None for line in lines for cell in line.cells):
        parts.append(f"“users”: 95 % interval over {measure.users}, the mean of the seeds' own bootstrap intervals.")
    if measure.sign:
        parts.append(f"Bold: the {'highest' if measure.sign > 0 else 'lowest'} mean of a task among policies.")
    notes = [" ".join(parts)]
    if roles & {"control", "placebo"}:
        notes.append("Controls learn nothing from the reward, and have one seed.")
    if "gain" in roles:
        notes.append(
            "Improvement: (method - best baseline) / best baseline, of the means. Baselines: the paper's "
            f"({', '.join(BASELINES)}). The best baseline is selected on the same scores; “seed "
            "intervals overlap”: the two intervals over seeds overlap."
        )
    if measure.users and measure.key in NOTES and (measure.key != "model" or measure.users == "validation users"):
        notes.append(NOTES[measure.key])
    if hidden:
        ranked_by = sweep.settings.ranking[0] if sweep.settings.ranking else measure.title
        notes.append(f"{hidden} settings are not shown; those above are the best by {ranked_by}.")
    return notes
