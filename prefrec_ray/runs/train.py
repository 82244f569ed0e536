"""One training run, from the start or from its last checkpoint to the end. All its files are in one folder.

RUN/config.json  RUN/progress.csv  RUN/result.json  RUN/checkpoint_000012/  RUN/policy/
"""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import ObjectRef
from ray.exceptions import RayError

from prefrec_ray import runtime, storage
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm, on_first_learner
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.base.policy import policy_of
from prefrec_ray.algorithms.methods import find_method
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError, error_line, find_user_error
from prefrec_ray.evaluation.selection.model_score import fit_score
from prefrec_ray.evaluation.selection.serving_rule import Grid, can_choose, choose_rule
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.guard_rails import GuardRail, check_rails
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runs.checkpoints import (
    check_output,
    check_own,
    checkpoint_of,
    checkpoints,
    first_whole,
    read_rows,
    save_checkpoint,
)
from prefrec_ray.runs.columns import COLUMNS, SCORES, Row, finite, publish
from prefrec_ray.runs.export import load_module
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runtime.progress import Report, silent
from prefrec_ray.storage.checksums import MANIFEST
from prefrec_ray.tracking.tracker import UNTRACKED, Tracker
from prefrec_ray.users.histories import too_short

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
    stage: str = "train: iterations",
    rails: Sequence[GuardRail] = (),
    tracker: Tracker = UNTRACKED,
) -> list[Row]:
    """Train to the end of the schedule, and export the selected or last policy to RUN/policy.

    A run without a selection (`TrainSettings.selects`) does not score policies. Serving settings that are `auto` are
    chosen at the end, by roll-outs of the exported policy (evaluation/selection/serving_rule.py), among rules that keep
    the guard-rails `rails` if there are any. `report` is called after each iteration of the `stage`. With `resume`, and
    after the loss of a learner or node, the run continues from its newest complete checkpoint, or from the start
    without one; `say` is called with a line about this. `tracker` gets the settings, the rows and the policy. Returns
    the rows of progress.csv (keys `COLUMNS`, and `SCORES` with a selection).

    Raises `UserError` if the cluster lacks the resources of the learners, if `output` exists (without `resume`), if the
    run was started with other settings, if another process trains there, if training diverges, and like
    `ValidationScorer.prepare` and `check_rails`. Raises `RayError` after more than `max_failures` losses.
    """
    dataset = storage.absolute(dataset)  # workers may run in another folder
    if rails:
        opened = PreparedDataset.open(dataset)
        check_rails(rails, opened.state.feedback, opened.items())

    def attempt(resume: bool) -> list[Row]:
        config = build_config(settings, dataset, where)
        check_output(output, CONFIG, describe(settings, dataset), resume)
        report(stage, 0, 0, "starting")
        runtime.start_ray()
        needs = settings.training(where).learner_resources
        required = {kind: amount * max(1, config.num_learners) for kind, amount in needs.items()}
        runtime.check_fits(required, f"{where}: the run", "num_learners, num_cpus_per_learner, num_gpus_per_learner")
        algorithm: OfflineAlgorithm = config.build_algo()
        try:
            scorer = _selector(settings, dataset, algorithm.offline_data.schedule.iterations, say)
            rows = _restore(algorithm, output, say) if resume else []
            storage.make_folder(output)
            write_config(output, settings, dataset, algorithm.config)
            tracker.begin(storage.read_json(storage.join(output, CONFIG)))
            choice = _start_choice(algorithm, dataset, rails, say)
            _train(algorithm, settings, output, rows, scorer, report, stage, tracker)
        finally:
            algorithm.stop()
        _export_best(output, rows, scorer, dataset, choice, rails, report, say)
        tracker.attach(storage.join(output, "policy"))
        return rows

    failures = 0
    with storage.claimed(output), tracker:
        while True:
            try:
                return attempt(resume or failures > 0)
            except RayError as error:
                failures += 1
                if failures > settings.max_failures or find_user_error(error) is not None:
                    raise
                say(f"failure {failures} of at most {settings.max_failures}: {error_line(error).partition('. ')[0]}")


def build_config(settings: TrainSettings, dataset: str, where: str = "train") -> OfflineConfig:
    """Return the RLlib config of `settings` for the data set at `dataset`.

    Raises `UserError` like `settings.training`.
    """
    training = settings.training(where)
    config = find_method(settings.method).get_default_config().offline_data(input_=dataset)
    return config.training(**{name: getattr(training, name) for name in type(training).model_fields})


def _selector(
    settings: TrainSettings, dataset: str, iterations: int, say: Callable[[str], None]
) -> ValidationScorer | None:
    """Prepare the scores for the selection of a checkpoint; None if there is only one checkpoint to export."""
    if settings.validation is None:
        return None
    if not settings.selects(iterations):
        say(
            f"validation: not used, because only one of {iterations} iterations would be scored; expected a "
            "smaller `every`"
        )
        return None
    return ValidationScorer.prepare(dataset, settings.validation, [settings.task], settings.config.get("teachers"))


def _train(
    algorithm: OfflineAlgorithm,
    settings: TrainSettings,
    output: str,
    rows: list[Row],
    scorer: ValidationScorer | None,
    report: Report,
    stage: str,
    tracker: Tracker,
) -> None:
    """Train to the end of the schedule. Each iteration adds a row."""
    name = posixpath.basename(output.rstrip("/"))
    iterations = algorithm.offline_data.schedule.iterations
    began, transitions = time.monotonic(), 0
    tracker.log(rows)
    while algorithm.iteration < iterations:
        row = run_iteration(algorithm, settings, name, scorer)
        rows.append(row)
        write_rows(output, rows)
        tracker.log([row])
        scored = _by_score(rows, scorer)
        last = algorithm.iteration == iterations
        if last or algorithm.iteration % settings.checkpoint_every == 0 or algorithm.iteration in scored:
            save_checkpoint(algorithm, output, settings.keep_checkpoints, rows, next(iter(scored), None))
        transitions += row["transitions"] or 0
        rate = f"{transitions / max(time.monotonic() - began, 1e-9):,.0f} transitions/s"
        report(stage, algorithm.iteration, iterations, "reward" if row["phase"] == "pretrain" else rate)


def _start_choice(
    algorithm: OfflineAlgorithm, dataset: str, rails: Sequence[GuardRail], say: Callable[[str], None]
) -> ObjectRef | None:
    """Start to fit the models of users that choose the serving rule; None if no rule is chosen by roll-outs.

    They are fitted by processors that training leaves idle.
    """
    serving = on_first_learner(algorithm.learner_group, lambda learner: learner.net.model_config["serving"])
    if not (ServingSettings(**serving).automatic and can_choose(policy_now(algorithm))):
        return None
    short = too_short(PreparedDataset.open(dataset), ["train", "validation"])
    if short is not None:
        say(f"serving rule: not chosen by roll-outs ({short})")
        return None
    return fit_score(dataset, "validation", rails=rails)


def _by_score(rows: list[Row], scorer: ValidationScorer | None) -> list[int]:
    """Return the iterations with a score, highest score first, then latest first."""
    if scorer is None:
        return []
    scores = [(row[scorer.metric], row["training_iteration"]) for row in rows if row.get(scorer.metric) is not None]
    return [iteration for _, iteration in sorted(scores, reverse=True)]


def _export_best(
    output: str,
    rows: list[Row],
    scorer: ValidationScorer | None,
    dataset: str,
    choice: ObjectRef | None,
    rails: Sequence[GuardRail],
    report: Report,
    say: Callable[[str], None],
) -> None:
    """Export the policy of the complete checkpoint with the highest score, or of the last one without scores.

    `choice`: the result of `_start_choice`.
    """
    there = checkpoints(output)
    scored = [checkpoint_of(output, iteration) for iteration in _by_score(rows, scorer)]
    with first_whole([*(uri for uri in scored if uri in there), there[-1]]) as best:
        if best is None:
            raise UserError(f"{output}: no complete checkpoint is left; --resume trains again from an earlier one")
        module = load_module(best[1])
    policy = policy_of(module)
    if choice is not None:
        grid = Grid.from_serving(ServingSettings(**module.model_config["serving"]))
        chosen = choose_rule(policy, dataset, report, output, grid=grid, rails=rails, score=choice)
        policy = chosen.policy
        if chosen.broken:
            say(f"serving rule: every tried rule breaks a guard-rail (the chosen one: {chosen.broken})")
    storage.remove(storage.join(output, "policy"))
    policy.save(storage.join(output, "policy"))


def policy_now(algorithm: OfflineAlgorithm) -> Policy:
    """Return the current policy."""
    return on_first_learner(algorithm.learner_group, lambda learner: policy_of(learner.net))


def _restore(algorithm: OfflineAlgorithm, output: str, say: Callable[[str], None]) -> list[Row]:
    """Restore the algorithm from the newest complete checkpoint, and return the rows up to it."""
    # Half-written files of a killed run; no other process writes to this folder.
    for leftover in (*storage.list_folders(output), *storage.list_files(output)):
        if leftover.endswith((".partial", ".claim")):
            storage.remove(leftover)
    rows: list[Row] = []
    with first_whole(reversed(checkpoints(output))) as newest:
        if newest is not None:
            check_own(newest[1])
            algorithm.restore_from_path(newest[1])
            rows = read_rows(newest[1])
            write_rows(output, rows)
        elif any(storage.exists(storage.join(uri, MANIFEST)) for uri in checkpoints(output)):
            raise UserError(f"{output}: no checkpoint is complete and of this version; remove them to start again")
    # Checkpoints after it are damaged, or were never finished; they will be written again.
    for later in checkpoints(output):
        if later > checkpoint_of(output, algorithm.iteration):
            storage.remove(later)
    say(f"resuming from iteration {algorithm.iteration}" if rows else "no complete checkpoint: from the start")
    return rows


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


def write_rows(output: str, rows: list[Row]) -> None:
    """Write progress.csv and result.json of the run's folder `output`."""
    storage.write_csv(storage.join(output, "progress.csv"), rows)
    storage.write_text(storage.join(output, "result.json"), "".join(json.dumps(row) + "\n" for row in rows))
