"""What a sweep's trials scored: on test users where they are evaluated, else on validation users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.names import BEHAVIOUR, IMITATION, Role, length_only, shuffled
from prefrec_ray.evaluation.records import Evaluation, Record
from prefrec_ray.evaluation.verdict import vouched
from prefrec_ray.reports.sweep.load import Sweep, Trial

#: estimator -> name of what it measures, format of a value.
ESTIMATORS = {
    "online": ("True level", "{:z.2f}"),
    "model": ("Model of users", "{:z.2f}"),
    "dr": ("Doubly robust", "{:z.3f}"),
    "fqe": ("Fitted-Q", "{:z.3f}"),
    "preference": ("Preference", "{:z.1f}"),
    "weights": ("Importance weights", "{:z.3f}"),
    "ncis": ("NCIS", "{:z.3f}"),
}
#: Controls that are made from a policy, by the opening of their names.
OWN = {shuffled(""): "own actions shuffled", length_only(""): "session length only"}


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval over users (None: not known)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """One way of scoring. `scores`: by trial; `controls`: by task, by subject; `own`: by kind of control, by trial."""

    key: str  # an estimator, or a column of trials.csv
    name: str  # of what it measures
    form: str
    users: str  # "test users", "validation users" or "" (a figure of training)
    scores: Mapping[str, Score]
    sign: int = 1  # -1: less is better
    controls: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it measures, and on whom."""
        return f"{self.name} on {self.users}" if self.users else f"{self.name} at the end of training"

    def of(self, trials: Sequence[Trial]) -> list[Score]:
        """The scores of those of `trials` that have one."""
        return [self.scores[trial.name] for trial in trials if trial.name in self.scores]

    def text(self, value: float) -> str:
        """The value for a reader."""
        return self.form.format(value)


def measures(sweep: Sweep) -> list[Measure]:
    """True levels first, then estimates, of policies that the log can vouch for: by evaluation.json if there is one,
    else the trials' own scores on validation users, else the sweep's metric.

    Raises `UserError` for an evaluation of other policies.
    """
    if sweep.evaluation is not None:
        if not any(trial_of(record, sweep) for record in sweep.evaluation.records if record.role == "policy"):
            raise UserError(
                f"{sweep.uri}/evaluation.json: none of its policies is a trial of this sweep; "
                f"evaluate them by: prefrec evaluate {sweep.uri} --dataset {sweep.dataset}"
            )
        return _evaluated(sweep, vouched(sweep.evaluation))
    return validated(sweep) or _by_metric(sweep)


def validated(sweep: Sweep) -> list[Measure]:
    """The trials' own scores at their ends, on validation users; those that the sweep asked for."""
    figures = {key: _figures(sweep, f"validation/{key}") for key in ESTIMATORS}
    return [Measure(key, *ESTIMATORS[key], "validation users", scores) for key, scores in figures.items() if scores]


def unknown_policies(sweep: Sweep) -> int:
    """How many policies in evaluation.json are not of this sweep's trials."""
    records = sweep.evaluation.records if sweep.evaluation else ()
    return len({record.subject for record in records if record.role == "policy" and not trial_of(record, sweep)})


def trial_of(record: Record, sweep: Sweep) -> str | None:
    """The trial whose policy a record is about: that of the bundle's name, with its method, recipe, task and seed."""
    name = (record.bundle or "").rstrip("/").rpartition("/")[2]
    made = record.provenance or {}
    for trial in sweep.trials:
        if trial.name == name:
            ours = (trial.setting.method, trial.setting.recipe, trial.task, trial.seed)
            return name if ours == tuple(made.get(key) for key in ("method", "recipe", "task", "seed")) else None
    return None


def _by_metric(sweep: Sweep) -> list[Measure]:
    metric = sweep.settings.metric
    scores = _figures(sweep, metric) if metric else {}
    if metric is None or not scores:
        return []
    sign = 1 if sweep.settings.mode == "max" else -1
    return [Measure(metric, metric, "{:.4g}", "", scores, sign)]


def _figures(sweep: Sweep, column: str) -> dict[str, Score]:
    values = {trial.name: trial.figures.get(column) for trial in sweep.finished}
    return {name: Score(value) for name, value in values.items() if value is not None}


def _evaluated(sweep: Sweep, evaluation: Evaluation) -> list[Measure]:
    users = f"{evaluation.split or 'test'} users"
    measured = []
    for key, (title, form) in ESTIMATORS.items():
        records = [record for record in evaluation.records if record.estimator == key]
        of_trials = [(trial, record) for record in records if (trial := trial_of(record, sweep))]
        scores = {trial: _score(record) for trial, record in of_trials if record.role == "policy"}
        if not scores:
            continue
        own = {
            name: {trial: _score(record) for trial, record in of_trials if record.subject.startswith(opening)}
            for opening, name in OWN.items()
        }
        own = {name: by_trial for name, by_trial in own.items() if by_trial}
        shared = [record for record in records if record.bundle is None and record.role != "policy"]
        roles: dict[str, Role] = {BEHAVIOUR: "control", **{record.subject: record.role for record in shared}}
        controls = {task: _controls(task, records, shared) for task in sweep.tasks}
        measured.append(Measure(key, title, form, users, scores, 1, controls, roles, own))
    return measured


def _controls(task: str, records: Sequence[Record], shared: Sequence[Record]) -> dict[str, Score]:
    """The controls of a task by subject, logging policy and behavior cloning first; estimates have the logging policy
    only as a field."""
    known = {record.subject: _score(record) for record in shared if record.task == task}
    for record in records:
        if record.task == task:
            known.setdefault(BEHAVIOUR, Score(record.behaviour))
    return {name: known[name] for name in (BEHAVIOUR, IMITATION) if name in known} | known


def _score(record: Record) -> Score:
    return Score(record.value, record.ci_low, record.ci_high)
