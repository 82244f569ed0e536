"""One training run, from the start or from its last checkpoint to the end. All its files are in one folder.

RUN/config.json  RUN/progress.csv  RUN/result.json  RUN/checkpoint_000012/  RUN/policy/
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ray.exceptions import RayError

from prefrec_ray import runtime, storage
from prefrec_ray.algorithms import find_method
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_first_learner
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError, error_line, find_user_error
from prefrec_ray.evaluation.selection.model_score import ScoreFit, fit_score
from prefrec_ray.evaluation.selection.serving_rule import Grid, can_choose, choose_rule
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.guard_rails import GuardRail, check_rails, guard_rails
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import (
    check_output,
    checkpoint_of,
    checkpoints,
    first_whole,
    restore,
    save_checkpoint,
    write_rows,
)
from prefrec_ray.runs.columns import COLUMNS, SCORES, Row, finite, publish
from prefrec_ray.runs.export import load_module
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.tracking import TrackedRun, Tracking
from prefrec_ray.runtime.progress import Report, silent
from prefrec_ray.users.reading import too_short

#: Settings of a run; the first file in its folder.
CONFIG = "config.json"


def start_run(
    settings: TrainSettings,
    dataset: str,
    output: str,
    resume: bool = False,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    where: str = "train",
    evaluation: EvaluateSettings | None = None,
    tracking: Tracking | None = None,
    name: str = "",
) -> list[Row]:
    """Train to the end of the schedule, and export the selected or last policy to RUN/policy.

    A run without a selection (`TrainSettings.selects`) does not score policies. Serving settings that are `auto` are
    chosen at the end, by roll-outs of the exported policy (evaluation/selection/serving_rule.py), among rules that keep
    the guard-rails of `evaluation`, in models of users with its sizes if these are smaller than the models' own.
    `report` is called after each iteration. With `resume`, and after the loss of a learner or node, the run continues
    from its newest complete checkpoint, or from the start without one; `say` is called with a line about this. `where`
    names the run in errors, and its last part in progress. `tracking` gets the settings and rows of the run `name`, by
    default the name of its folder. Returns the rows of progress.csv (keys `COLUMNS`, and `SCORES` with a selection).

    Raises `UserError` if the cluster lacks the resources of the learners, if `output` exists (without `resume`), if the
    run was started with other settings, if another process trains there, if training diverges, and like
    `ValidationScorer.prepare` and `check_rails`. Raises `RayError` after more than `max_failures` losses.
    """
    dataset = storage.absolute(dataset)  # workers may run in another folder
    evaluation = evaluation or EvaluateSettings()
    tracking, name = tracking or Tracking(), name or posixpath.basename(output.rstrip("/"))
    run, failures = _Run(settings, dataset, output, report, say, where, evaluation, tracking, name), 0
    if run.rails:
        opened = PreparedDataset.open(dataset)
        check_rails(run.rails, opened.state.feedback, opened.items())
    with storage.claimed(output), tracking:
        while True:
            try:
                return run.attempt(resume or failures > 0)
            except RayError as error:
                failures += 1
                if failures > settings.max_failures or find_user_error(error) is not None:
                    raise
                say(f"failure {failures} of at most {settings.max_failures}: {error_line(error).partition('. ')[0]}")


@dataclass(frozen=True)
class _Run:
    """The arguments of `start_run`, and the steps of a run."""

    settings: TrainSettings
    dataset: str
    output: str
    report: Report
    say: Callable[[str], None]
    where: str
    evaluation: EvaluateSettings
    tracking: Tracking
    name: str

    @cached_property
    def tracked(self) -> TrackedRun:
        return TrackedRun(self.name, storage.read_json(storage.join(self.output, CONFIG)), self.tracking.group)

    @cached_property
    def rails(self) -> Sequence[GuardRail]:
        return guard_rails(self.evaluation.guard_rails)

    @property
    def stage(self) -> str:
        return f"{self.where.rpartition(': ')[2]}: iterations"

    def attempt(self, resume: bool) -> list[Row]:
        """Check, build, train and export, until a learner or node is lost. Returns all rows."""
        algorithm = self._build(resume)
        try:
            scorer = self._scorer(algorithm.offline_data.schedule.iterations)
            rows = restore(algorithm, self.output, self.say) if resume else []
            storage.make_folder(self.output)
            write_config(self.output, self.settings, self.dataset, algorithm.config)
            self.tracking.start(self.tracked)
            choice = self._start_choice(algorithm)
            self._train(algorithm, rows, scorer)
        finally:
            algorithm.stop()
        self._export(rows, scorer, choice)
        return rows

    def _build(self, resume: bool) -> OfflineAlgorithm:
        """Check settings, folder and cluster, and build the algorithm."""
        config = build_config(self.settings, self.dataset)
        check_output(self.output, CONFIG, describe(self.settings, self.dataset), resume)
        self.report(self.stage, 0, 0, "starting")
        runtime.start_ray()
        needs = config.settings.learner_resources
        required = {kind: amount * max(1, config.num_learners) for kind, amount in needs.items()}
        keys = "num_learners, num_cpus_per_learner, num_gpus_per_learner"
        runtime.check_fits(required, f"{self.where}: the run", keys)
        return config.build_algo()

    def _scorer(self, iterations: int) -> ValidationScorer | None:
        """Prepare the scores for the selection of a checkpoint; None if there is only one checkpoint to export."""
        settings = self.settings
        if settings.validation is None:
            return None
        if not settings.selects(iterations):
            self.say(
                f"validation: not used, because only one of {iterations} iterations would be scored; expected a "
                "smaller `every`"
            )
            return None
        teachers = settings.config.get("teachers")
        return ValidationScorer.prepare(self.dataset, settings.validation, [settings.task], teachers, self.report)

    def _start_choice(self, algorithm: OfflineAlgorithm) -> ScoreFit | None:
        """Start to fit the models of users that choose the serving rule; None if no rule is chosen by roll-outs.

        They are fitted by processors that training leaves idle.
        """
        if not self.settings.choose_rule:
            return None
        serving = on_first_learner(algorithm.learner_group, lambda learner: learner.net.model_config["serving"])
        if not (ServingSettings(**serving).automatic and can_choose(policy_now(algorithm))):
            return None
        short = too_short(PreparedDataset.open(self.dataset), ["train", "validation"])
        if short is not None:
            self.say(f"serving rule: not chosen by roll-outs ({short})")
            return None
        return fit_score(self.dataset, "validation", self.evaluation.model, self.rails)

    def _train(self, algorithm: OfflineAlgorithm, rows: list[Row], scorer: ValidationScorer | None) -> None:
        """Train to the end of the schedule. Each iteration adds a row."""
        settings, output = self.settings, self.output
        iterations = algorithm.offline_data.schedule.iterations
        began, transitions = time.monotonic(), 0
        while algorithm.iteration < iterations:
            row = run_iteration(algorithm, settings, self.name, scorer)
            rows.append(row)
            write_rows(output, rows)
            self.tracking.log(self.tracked, row)
            scored = _by_score(rows, scorer)
            last = algorithm.iteration == iterations
            if last or algorithm.iteration % settings.checkpoint_every == 0 or algorithm.iteration in scored:
                save_checkpoint(algorithm, output, settings.keep_checkpoints, rows, next(iter(scored), None))
            transitions += row["transitions"] or 0
            rate = f"{transitions / max(time.monotonic() - began, 1e-9):,.0f} transitions/s"
            self.report(self.stage, algorithm.iteration, iterations, "reward" if row["phase"] == "pretrain" else rate)

    def _export(self, rows: list[Row], scorer: ValidationScorer | None, choice: ScoreFit | None) -> None:
        """Export the policy of the complete checkpoint with the highest score, or of the last one without scores.

        `choice`: the result of `_start_choice`.
        """
        output, there = self.output, checkpoints(self.output)
        scored = [checkpoint_of(output, iteration) for iteration in _by_score(rows, scorer)]
        with first_whole([*(uri for uri in scored if uri in there), there[-1]]) as best:
            if best is None:
                raise UserError(f"{output}: no complete checkpoint is left; --resume trains again from an earlier one")
            module = load_module(best[1])
        policy = policy_of(module)
        if choice is not None:
            grid = Grid.from_serving(ServingSettings(**module.model_config["serving"]))
            chosen = choose_rule(policy, self.dataset, self.report, output, grid=grid, rails=self.rails, fit=choice)
            policy = chosen.policy
            if chosen.broken:
                self.say(f"serving rule: every tried rule breaks a guard-rail (the chosen one: {chosen.broken})")
        storage.remove(storage.join(output, "policy"))
        policy.save(storage.join(output, "policy"))


def build_config(settings: TrainSettings, dataset: str) -> OfflineConfig:
    """Return the RLlib config of `settings` for the data set at `dataset`."""
    training = settings.training()
    config = find_method(settings.method).get_default_config().offline_data(input_=dataset)
    return config.training(**{name: getattr(training, name) for name in type(training).model_fields})


def _by_score(rows: list[Row], scorer: ValidationScorer | None) -> list[int]:
    """Return the iterations with a score, highest score first, then latest first."""
    if scorer is None:
        return []
    scores = [(row[scorer.metric], row["training_iteration"]) for row in rows if row.get(scorer.metric) is not None]
    return [iteration for _, iteration in sorted(scores, reverse=True)]


def policy_now(algorithm: OfflineAlgorithm) -> Policy:
    return on_first_learner(algorithm.learner_group, lambda learner: policy_of(learner.net))


def describe(settings: TrainSettings, dataset: str) -> dict[str, Any]:
    """Return the settings and data set that identify a run."""
    return {
        **settings.model_dump(include={"method", "recipe", "task", "seed", "config", "validation"}),
        "dataset": dataset,
    }


def write_config(output: str, settings: TrainSettings, dataset: str, config: OfflineConfig) -> None:
    """Write config.json of the run's folder `output`; its key `resolved` contains every setting with its default."""
    resolved = dict(sorted(config.settings.model_dump().items()))
    storage.write_json(storage.join(output, CONFIG), {**describe(settings, dataset), "resolved": resolved})


def run_iteration(
    algorithm: OfflineAlgorithm, settings: TrainSettings, name: str, scorer: ValidationScorer | None
) -> Row:
    """Train for one iteration, and publish and return its row of progress.csv for the run or trial `name`.

    Its columns are `COLUMNS`, further metrics of the method and, with a `scorer`, `SCORES`. A value is None if the
    method does not have the metric, if the policy is not scored in this iteration, or if the value is not finite.
    """
    result = algorithm.train()
    row = {column: algorithm.report.get(column, result.get(column)) for column in COLUMNS} | algorithm.report
    if scorer is not None:
        row |= dict.fromkeys(SCORES)
        if scorer.due(algorithm.iteration, row["progress"] >= 1):
            row |= scorer.scores(policy_now(algorithm), settings.task)
    # NaN has no order.
    row = {column: finite(value) for column, value in row.items()}
    publish(row, name, settings.method, settings.task)
    return row
