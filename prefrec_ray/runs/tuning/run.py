"""Run of a sweep, from the start or resumed.

SWEEP/sweep.json  SWEEP/rewards/  SWEEP/TRIAL/ (Tune's logs and checkpoints)  and the files of `results`.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from prefrec_ray import plugins, runtime, storage
from prefrec_ray.errors import UserError, nearest
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.runs.checkpoints import check_output, check_own
from prefrec_ray.runs.columns import Row
from prefrec_ray.runs.tracking import NO_TRACKING, Tracking, TrackingSettings
from prefrec_ray.runs.train import build_config
from prefrec_ray.runs.tuning import results, space
from prefrec_ray.runs.tuning.settings import MAX_ITERATIONS, SEARCHERS, TuneSettings, checked, metrics
from prefrec_ray.runs.tuning.shared import share
from prefrec_ray.runs.tuning.trial import STAGE, SweepPlan, SweepProgress, SweepTrial, resources
from prefrec_ray.runtime.progress import Progress, Report, silent

#: Seconds between two saves of the sweep's state. A kill loses at most this, and work since the trials' checkpoints.
STATE_EVERY = "2"


def sweep(
    settings: TuneSettings,
    dataset: str,
    output: str,
    resume: bool = False,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[Sequence[Row]], None] = lambda rows: None,
    where: str = "tune",
    tracking: TrackingSettings = NO_TRACKING,
) -> list[Row]:
    """Run all trials, and return the rows of SWEEP/trials.csv.

    `say` is called with a line about each trial. Its trials are tracked by `tracking`. `show` gets the
    rows before a failed trial raises a `UserError`, whose prefix is `where`.

    Raises `UserError`: an error found by `settings.checked`, a value out of its range, an `output` that exists (without
    `resume`) or is not this sweep (with it), a failed trial (after all others have finished), a metric that no trial
    reported, another process that tunes there.
    """
    trackers = Tracking(tracking, output, posixpath.basename(output.rstrip("/")), say)
    with storage.claimed(output), trackers:
        plan = _prepare(settings, dataset, output, resume, report, where)
        if plan.settings.ranking is None:
            names = ", ".join(name for name in metrics(plan.settings) if "/" in name)
            say(f"trials get no ranking and no best.yaml; expected validation, or metric: one of {names}")
        SweepProgress.calls = report, say, trackers
        trainable = tune.with_parameters(SweepTrial, plan=plan)
        _tuner(plan, tune.with_resources(trainable, partial(resources, settings=plan.settings)), resume).fit()
        report(STAGE, 100, 100)
        system, path = storage.filesystem(plan.output)
        ended = tune.ExperimentAnalysis(path, storage_filesystem=system).trials
        rows = results.trial_rows(ended, plan.settings)
        storage.write_csv(storage.join(plan.output, "trials.csv"), rows)
        for trial in ended:
            if trial.status == "TERMINATED" and trial.last_result.get("finished"):
                results.write_run(plan, trial)
        results.write_best(plan, rows)
        show(rows)
        _check(plan.output, rows, plan.settings.metric)
    return rows


def _prepare(
    settings: TuneSettings, dataset: str, output: str, resume: bool, progress: Progress, where: str
) -> SweepPlan:
    """Check everything, write sweep.json and load the shared data."""
    dataset, output = storage.absolute(dataset), storage.absolute(output)
    settings = checked(settings, where)
    description = {"dataset": dataset, "settings": settings.model_dump(mode="json", exclude={"max_failures"})}
    before = check_output(output, "sweep.json", description, resume)
    if before:
        check_own(output)
    runtime.start_ray()
    # Trials that cover the data and rewards of every choice of a searcher, or all trials.
    chosen = space.trials(settings) if settings.searcher == "random" else space.corners(settings)
    _check_fits(settings, chosen, where)
    runs = [space.train_settings(settings, trial) for trial in chosen]
    for run in runs:
        build_config(run, dataset).validate()
    scorer = None
    if settings.validation is not None:
        teachers = settings.base.get("teachers")
        scorer = ValidationScorer.prepare(dataset, settings.validation, settings.task, teachers, progress)
    storage.make_folder(output)
    storage.write_json(storage.join(output, "sweep.json"), description)

    # Trials train their own rewards if no two are the same, as in a search over the reward's learning rate.
    shares_rewards = settings.searcher == "random" or not space.draws_reward(settings)
    rewards = storage.join(output, "rewards")
    shared = share(runs, dataset, runs if shares_rewards else [], rewards, settings.resources, progress)
    return SweepPlan(settings, dataset, shared, scorer, output)


def _check_fits(settings: TuneSettings, chosen: list[space.Trial], where: str) -> None:
    """Raise `UserError` for a trial that needs more than the cluster has, for which Tune would wait forever."""
    for trial in chosen:
        required = resources({"trial": trial}, settings).required_resources
        runtime.check_fits(required, f"{where}: trial {trial['name']}", "resources, num_learners")


def _tuner(plan: SweepPlan, trainable: Any, resume: bool) -> tune.Tuner:
    settings, output = plan.settings, plan.output
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", STATE_EVERY)
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    # Tune's newer output prints a table of its own at every verbosity.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Failed trials are reported at the end.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    system, path = storage.filesystem(output)
    if resume and _has_state(output) and tune.Tuner.can_restore(path, storage_filesystem=system):
        return tune.Tuner.restore(
            path, trainable=trainable, resume_unfinished=True, resume_errored=True, storage_filesystem=system
        )
    searches = settings.searcher != "random"
    total = settings.num_samples if searches else len(space.trials(settings))
    progress = SweepProgress(settings.ranking[0] if settings.ranking else None, total)
    return tune.Tuner(
        trainable,
        param_space={} if searches else {"trial": tune.grid_search(space.trials(settings))},
        tune_config=tune.TuneConfig(
            metric=settings.metric,
            mode=settings.mode if settings.metric else None,
            num_samples=settings.num_samples if searches else 1,
            search_alg=plugins.load("searchers", settings.searcher, "tune", SEARCHERS)(settings) if searches else None,
            scheduler=_scheduler(settings),
            max_concurrent_trials=settings.max_concurrent,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=posixpath.basename(path),
            storage_path=posixpath.dirname(path),
            storage_filesystem=system,
            callbacks=[progress],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=tune.CheckpointConfig(
                # Keeps the best by this score, and the last one, from which the trial resumes.
                checkpoint_score_attribute=plan.scorer.metric if plan.scorer is not None else None,
                num_to_keep=settings.keep_checkpoints,
                checkpoint_frequency=settings.checkpoint_every,
                checkpoint_at_end=True,
            ),
        ),
    )


def _scheduler(settings: TuneSettings) -> ASHAScheduler | None:
    """Return the scheduler, whose metric and mode Tune sets; None: trials end by their own schedule."""
    if settings.scheduler.name == "none":
        return None
    return ASHAScheduler(
        grace_period=settings.scheduler.grace_iterations,
        reduction_factor=settings.scheduler.reduction_factor,
        max_t=MAX_ITERATIONS,
    )


def _has_state(output: str) -> bool:
    """Return whether the sweep had a trial before it stopped: Tune writes its settings just before the first."""
    return any(posixpath.basename(file).startswith("experiment_state") for file in storage.list_files(output, ".json"))


def _name(trial: Any) -> str:
    return str(trial.config["trial"]["name"])


def _check(output: str, rows: Sequence[Row], metric: str | None) -> None:
    """Raise the error of the sweep, if any."""
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        first = failed[0]
        raise UserError(
            f"{output}: {len(failed)} of {len(rows)} trials failed, {first['trial']} with: {first['error']} "
            f"(--resume tries them again)"
        )
    if any(row["status"] == "waiting" for row in rows):
        raise KeyboardInterrupt
    if metric is not None and all(row[metric] is None for row in rows):
        reported = [name for name, value in rows[0].items() if isinstance(value, float)]
        raise UserError(f"{output}: no trial reported the metric '{metric}'; {nearest(metric, reported)}")
