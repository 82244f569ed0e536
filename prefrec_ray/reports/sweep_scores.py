"""Scores of a sweep's trials: on test users if evaluated, else on validation users or at the end of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, ROLES, TITLES, subject_title
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.results.scores import mean_error
from prefrec_ray.reports.figures import COLOURS, legend, panel
from prefrec_ray.runs.tuning.settings import TuneSettings

#: A row of trials.csv.
Trial = Mapping[str, str]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder; `trials` in the order of their numbers, `evaluation` None without evaluation.json."""

    uri: str
    dataset: str
    settings: TuneSettings
    trials: Sequence[Trial]
    evaluation: Evaluation | None

    @cached_property
    def finished(self) -> list[Trial]:
        """Return the trials that ran to their end."""
        return [trial for trial in self.trials if trial["status"] == "finished"]

    def setting(self, trial: Trial) -> str:
        """Return what the seeds of a trial share: method and recipe if several are in the sweep, and searched keys."""
        keys = [f"{key}={short(trial[key])}" for key in self.settings.spaces_of(trial["method"])]
        method = [trial["method"]] if len(self.settings.method) > 1 or not keys else []
        recipe = [trial["recipe"]] if len(self.settings.recipe) > 1 else []
        return " ".join([*method, *recipe, *keys])


def short(text: str) -> str:
    """Return a value of trials.csv with at most four digits."""
    try:
        return text if text.isdecimal() else f"{float(text):.4g}"
    except ValueError:
        return text


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval over users (None: not known)."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Measure:
    """One way of scoring: an estimator, or a column of trials.csv.

    `scores`: by trial. `sign`: -1 if less is better. `controls`: scores by title and task.
    """

    key: str
    title: str
    scores: Mapping[str, Score]
    sign: int = 1
    controls: Mapping[str, Mapping[str, Sequence[Score]]] = field(default_factory=dict)


def measures(sweep: Sweep) -> list[Measure]:
    """Return the scores on evaluated users, else the scores on validation users, else the metric of the sweep.

    Raises `UserError` for an evaluation of other policies.
    """
    if sweep.evaluation is not None:
        scored = [_of_evaluation(sweep.evaluation, estimator, sweep) for estimator in TITLES]
        if not any(measure.scores for measure in scored):
            raise UserError(
                f"{sweep.uri}/evaluation.json: none of its policies is a trial of this sweep; "
                f"evaluate them by: prefrec evaluate {sweep.uri} --dataset {sweep.dataset}"
            )
    else:
        titles = {f"validation/{name}": f"{title} on validation users" for name, title in TITLES.items()}
        scored = [_of_column(column, title, 1, sweep) for column, title in titles.items()]
        if not any(measure.scores for measure in scored) and sweep.settings.ranking is not None:
            column, sign = sweep.settings.ranking
            scored = [_of_column(column, f"{column} at the end of training", sign, sweep)]
    return [measure for measure in scored if measure.scores]


def _of_evaluation(evaluation: Evaluation, estimator: str, sweep: Sweep) -> Measure:
    """Return the scores by an estimator. Most estimators have the logging policy only as a field of each record."""
    names = {trial["trial"] for trial in sweep.trials}
    scores: dict[str, Score] = {}
    logging = f"{subject_title(LOGGING_POLICY)} ({ROLES['control']})"
    controls: dict[str, dict[str, list[Score]]] = {logging: {}}
    for record in evaluation.records:
        if record.estimator == estimator:
            controls[logging].setdefault(record.task, [Score(record.behaviour)])
            name = (record.bundle or "").rstrip("/").rpartition("/")[2]
            score = Score(record.value, (record.ci_low, record.ci_high))
            if record.role == "policy" and name in names:
                scores[name] = score
            elif record.role != "policy" and record.bundle is None:
                controls.setdefault(f"{record.title} ({record.kind})", {})[record.task] = [score]
    return Measure(estimator, f"{TITLES[estimator]} on {evaluation.split or 'test'} users", scores, controls=controls)


def _of_column(column: str, title: str, sign: int, sweep: Sweep) -> Measure:
    values = {trial["trial"]: trial.get(column) for trial in sweep.trials if trial["status"] != "failed"}
    try:
        scores = {name: Score(float(value)) for name, value in values.items() if value}
    except ValueError as error:
        raise UserError(f"{sweep.uri}/trials.csv: column '{column}': {error}; expected numbers") from error
    return Measure(column.removeprefix("validation/"), title, scores, sign)


def by_setting(sweep: Sweep, measure: Measure) -> dict[str, dict[str, list[Score]]]:
    """Return the scores of finished trials by setting and task, one per seed; the best settings first."""
    settings: dict[str, dict[str, list[Score]]] = {}
    for trial in sweep.finished:
        score = measure.scores.get(trial["trial"])
        if score is not None:
            settings.setdefault(sweep.setting(trial), {}).setdefault(trial["task"], []).append(score)

    def worth(name: str) -> float:
        return measure.sign * float(np.mean([mean_of(scores) for scores in settings[name].values()]))

    return {name: settings[name] for name in sorted(settings, key=worth, reverse=True)}


def mean_of(scores: Sequence[Score]) -> float:
    """Return the mean over seeds."""
    return float(np.mean([score.value for score in scores]))


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of `values` (one per seed) by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), float(mean_error(np.asarray(values)))
    return mean - half, mean + half


def users_interval(scores: Sequence[Score]) -> Interval | None:
    """Return the mean of the seeds' intervals over users; None if one of them is not known."""
    known = [score.interval for score in scores if score.interval is not None]
    if len(known) < len(scores):
        return None
    low, high = np.mean(known, axis=0).tolist()
    return low, high


def draw_key(sweep: Sweep, measure: Measure, task: str, key: str) -> Figure | None:
    """Draw the score of every trial of a task by a searched key, one colour per method; None without two values."""
    methods: dict[str, list[Trial]] = {}
    for trial in sweep.trials:
        if trial["task"] == task and trial["trial"] in measure.scores and trial[key]:
            methods.setdefault(trial["method"], []).append(trial)
    values = list(dict.fromkeys(trial[key] for trials in methods.values() for trial in trials))
    if len(values) < 2:
        return None
    figure, axes = panel(task, key, measure.title, width=4.5, height=3.1)
    try:
        places = {value: float(value) for value in values}
    except ValueError:  # words have even steps
        places = {value: float(place) for place, value in enumerate(values)}
        axes.set_xticks(list(places.values()), values)
    if min(places.values()) > 0 and max(places.values()) >= 50 * min(places.values()):
        axes.set_xscale("log")
    for number, (method, trials) in enumerate(methods.items()):
        scores = [measure.scores[trial["trial"]].value for trial in trials]
        at = [places[trial[key]] for trial in trials]
        axes.plot(at, scores, "o", ms=5, mec="none", color=COLOURS[number % len(COLOURS)], alpha=0.6, label=method)
    if len(methods) > 1:
        legend(axes)
    return figure
