"""Scores of a sweep's trials: on test users if evaluated, else on validation users or at the end of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import IMITATION, LOGGING_POLICY, Role
from prefrec_ray.evaluation.results.records import Evaluation, Record
from prefrec_ray.reports.sweep.load import FAILED, Sweep, Trial
from prefrec_ray.runs.columns import COLUMNS, SCORES

#: Columns of trials.csv that are not metrics of a method.
_KNOWN = {*COLUMNS, *SCORES, "policy_iteration"}


@dataclass(frozen=True)
class Metric:
    """Title, unit and format of a metric. `is_level`: its values are levels, with meaningful relative differences."""

    title: str
    unit: str = ""
    form: str = "{:z.4g}"
    is_level: bool = False

    @property
    def axis(self) -> str:
        """Return the label of an axis."""
        return f"{self.title}\n({self.unit})" if self.unit else self.title


def _level(title: str, digits: int = 3) -> Metric:
    return Metric(title, "level, 0 to 5", f"{{:z.{digits}f}}", is_level=True)


#: Keys: estimators of an evaluation, which are also the names behind "validation/".
ESTIMATORS = {
    "online": _level("True level", 2),
    "model": _level("Model of users", 2),
    "dr": _level("Doubly robust"),
    "fqe": _level("Fitted-Q"),
    "preference": Metric("Preference", "thousandths of a standard deviation", "{:z.1f}"),
    "weights": _level("Importance weights"),
    "sips": _level("SIPS"),
    "rips": _level("RIPS"),
    "iips": _level("IIPS"),
    "ncis": _level("NCIS"),
}


def metric_of(column: str) -> Metric:
    """Return the metric of a column of trials.csv; a metric of training has only its name."""
    return ESTIMATORS.get(column.removeprefix("validation/"), Metric(column))


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval over users (None: not known)."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Measure:
    """One way of scoring. `scores`: by trial; `controls`: by task, by subject."""

    key: str  # an estimator, or a column of trials.csv
    metric: Metric
    users: str  # "test users", "validation users" or "" (a metric of training)
    scores: Mapping[str, Score]
    sign: int = 1  # -1: less is better; 0: not known
    controls: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the name of the metric, and the users of its measurement."""
        return f"{self.metric.title} on {self.users}" if self.users else f"{self.metric.title} at the end of training"

    def select(self, trials: Sequence[Trial]) -> list[Score]:
        """Return the scores of `trials`; trials without a score are excluded."""
        return [self.scores[trial.name] for trial in trials if trial.name in self.scores]

    def best(self, values: Sequence[float]) -> float | None:
        """Return the best of the values; None if there is none, or if the direction of the metric is not known."""
        return max(values, key=lambda value: self.sign * value) if values and self.sign else None

    def text(self, value: float) -> str:
        """Format a value of the metric."""
        return self.metric.form.format(value)


def measures(sweep: Sweep) -> list[Measure]:
    """Return true levels first, then estimates of supported policies (from evaluation.json, else the trials' validation
    scores, else the metric of the sweep). Metrics of a user's method come last.

    Raises `UserError` for an evaluation of other policies.
    """
    if sweep.evaluation is not None:
        if not any(trial_of(record, sweep) for record in sweep.evaluation.records if record.role == "policy"):
            raise UserError(
                f"{sweep.uri}/evaluation.json: none of its policies is a trial of this sweep; "
                f"evaluate them by: prefrec evaluate {sweep.uri} --dataset {sweep.dataset}"
            )
        scores = _evaluated(sweep, sweep.evaluation)
    else:
        validated = [_of_training(sweep, f"validation/{key}", 1, "validation users") for key in ESTIMATORS]
        scores = [measure for measure in validated if measure.scores]
        if not scores and sweep.settings.ranking:
            scores = [_of_training(sweep, *sweep.settings.ranking)]
    ranked = {measure.key for measure in scores}
    own = [_of_training(sweep, column, 0) for column in own_columns(sweep) if column not in ranked]
    return [measure for measure in (*scores, *own) if measure.scores]


def own_columns(sweep: Sweep) -> list[str]:
    """Return the metrics that a user's method reported."""
    return [name for name in sweep.trials[0].metrics if name not in _KNOWN and "accuracy_by/" not in name]


def unknown_policies(sweep: Sweep) -> int:
    """Return how many policies in evaluation.json are not of this sweep's trials."""
    records = sweep.evaluation.records if sweep.evaluation else ()
    return len({record.subject for record in records if record.role == "policy" and not trial_of(record, sweep)})


def trial_of(record: Record, sweep: Sweep) -> str | None:
    """Return the trial whose policy a record is about, by the name of its bundle."""
    name = (record.bundle or "").rstrip("/").rpartition("/")[2]
    return name if any(trial.name == name for trial in sweep.trials) else None


def _of_training(sweep: Sweep, column: str, sign: int, users: str = "") -> Measure:
    """Return the measure for a column of trials.csv. In a search it includes trials stopped by the scheduler."""
    trials = [trial for trial in sweep.trials if trial.status != FAILED] if sweep.is_drawn else sweep.finished
    values = {trial.name: trial.metrics.get(column) for trial in trials}
    scores = {name: Score(value) for name, value in values.items() if value is not None}
    return Measure(column.removeprefix("validation/"), metric_of(column), users, scores, sign)


def _evaluated(sweep: Sweep, evaluation: Evaluation) -> list[Measure]:
    users = f"{evaluation.split or 'test'} users"
    measured = []
    for key, metric in ESTIMATORS.items():
        records = [record for record in evaluation.records if record.estimator == key]
        of_trials = [(trial_of(record, sweep), record) for record in records if record.role == "policy"]
        scores = {trial: _score(record) for trial, record in of_trials if trial}
        shared = [record for record in records if record.bundle is None and record.role != "policy"]
        roles: dict[str, Role] = {LOGGING_POLICY: "control", **{record.subject: record.role for record in shared}}
        controls = {task: _controls(task, records, shared) for task in sweep.tasks}
        measured.append(Measure(key, metric, users, scores, 1, controls, roles))
    return measured


def _controls(task: str, records: Sequence[Record], shared: Sequence[Record]) -> dict[str, Score]:
    """Return the controls of a task by subject, logging policy and behavior cloning first.

    Estimates contain the logging policy only as a field.
    """
    known = {record.subject: _score(record) for record in shared if record.task == task}
    for record in records:
        if record.task == task:
            known.setdefault(LOGGING_POLICY, Score(record.behaviour))
    return {name: known[name] for name in (LOGGING_POLICY, IMITATION) if name in known} | known


def _score(record: Record) -> Score:
    return Score(record.value, (record.ci_low, record.ci_high))
