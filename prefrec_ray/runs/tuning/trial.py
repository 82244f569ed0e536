"""Trials of a sweep as Tune runs them: a method's algorithm as a trainable, its resources, and their progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune import Callback
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.result import SHOULD_CHECKPOINT

from prefrec_ray import storage
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.runs.columns import finite
from prefrec_ray.runs.tracking import Tracking
from prefrec_ray.runs.train import build_config, run_iteration
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.shared import Shared
from prefrec_ray.runs.tuning.space import train_settings
from prefrec_ray.runtime.progress import Report, silent
from prefrec_ray.storage.checksums import damage

#: The stage of a sweep while its trials run.
STAGE = "run trials: %"
_ENDED = ("TERMINATED", "ERROR")


@dataclass(frozen=True)
class SweepPlan:
    """Settings and data that all trials of a sweep share. `output`: the URI of its folder."""

    settings: TuneSettings
    dataset: str
    shared: Shared
    scorer: ValidationScorer | None
    output: str


class SweepTrial(tune.Trainable):
    """Reports a row of progress.csv for each iteration, with `SCORES` if it is scored, and three further values.

    `reported`: the columns of the row. `finished`: the end of its schedule. `resumed_from`: the iteration of the
    checkpoint that it resumed from, else 0. A scored iteration has a checkpoint, so that the best one can be kept.
    A metric that the method does not have is NaN.
    """

    def setup(self, config: dict[str, Any], plan: SweepPlan) -> None:
        """Build the algorithm of `config["trial"]` (from `space`)."""
        self.plan = plan
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Continue as another trial. A reused process saves seconds of imports."""
        self.algorithm.stop()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        plan = self.plan
        run = train_settings(plan.settings, config["trial"])
        algorithm_config = plan.shared.give(build_config(run, plan.dataset))
        if plan.settings.resources.gpus and not algorithm_config.num_learners:
            algorithm_config.learners(num_gpus_per_learner=plan.settings.resources.gpus)
        self.name, self.settings = config["trial"]["name"], run
        self.algorithm: OfflineAlgorithm = algorithm_config.build_algo()
        self.resumed_from = 0

    def step(self) -> dict[str, Any]:
        """Train for one iteration, and return its row."""
        scorer = self.plan.scorer
        row = run_iteration(self.algorithm, self.settings, self.name, scorer)
        reported = list(row)
        scored = scorer is not None and row[scorer.metric] is not None
        finished = row["progress"] >= 1
        if self.plan.settings.metric is not None:
            row.setdefault(self.plan.settings.metric)  # Tune requires it in every row, but only some methods report it
        row = {name: math.nan if value is None else value for name, value in row.items()}
        row |= {"resumed_from": self.resumed_from, "finished": finished, "done": finished}
        return {**row, "reported": reported, SHOULD_CHECKPOINT: scored}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the algorithm's checkpoint. Raises `UserError` if a weight is not finite."""
        self.algorithm.save_to_path(checkpoint_dir)

    def restore(self, checkpoint_path: Any) -> None:
        """Continue from the result of `save` or, if it is gone or damaged, from the trial's newest complete checkpoint.

        If a sweep is killed while a checkpoint replaces an older one, its state still names the older one, of which
        files may be missing.
        """
        try:
            super().restore(checkpoint_path)
        except ValueError:  # also a `UserError`
            with first_whole(reversed(checkpoints(storage.join(self.plan.output, self.name)))) as newest:
                if newest is None:
                    raise
                super().restore(newest[1])

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a checkpoint. Raises `UserError` if it is damaged."""
        problem = damage(checkpoint_dir)
        if problem is not None:
            raise UserError(f"{self.name}: its checkpoint is damaged ({problem}); expected an unchanged checkpoint")
        self.algorithm.restore_from_path(checkpoint_dir)
        self.resumed_from = self.algorithm.iteration

    def cleanup(self) -> None:
        self.algorithm.stop()


def resources(config: dict[str, Any], settings: TuneSettings) -> PlacementGroupFactory:
    """Return a bundle for the trial, and one for each of its learners."""
    chosen = {**settings.base, **config["trial"]["config"]}
    learners, gpus = int(chosen.get("num_learners", 0)), chosen.get("num_gpus_per_learner", 0)
    # Without learners the trial's own process is one.
    own = {"CPU": settings.resources.cpus, "GPU": settings.resources.gpus or (0 if learners else gpus)}
    cpus = chosen.get("num_cpus_per_learner", 1)
    learner = {"CPU": cpus if isinstance(cpus, int | float) else 1, "GPU": gpus}
    learner |= chosen.get("custom_resources_per_learner", {})
    return PlacementGroupFactory([own | settings.resources.custom] + [learner] * learners)


class SweepProgress(Callback):
    """Reports the share of a sweep that is done, and a line for each trial that ends or resumes; tracks trials.

    Tune pickles callbacks into the sweep's folder, and restores them if the sweep is resumed. The functions `report`
    and `say`, and the trackers, are therefore in an attribute of the class, which is not pickled. `total`: the number
    of trials.
    """

    calls: ClassVar[tuple[Report, Callable[[str], None], Tracking]] = (silent, lambda line: None, Tracking())

    def __init__(self, metric: str | None, total: int) -> None:
        super().__init__()
        self._metric, self._total = metric, total

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.calls[2].start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Report the progress, track the row, and print a line for a trial that resumed from a checkpoint."""
        report, say, tracking = self.calls
        tracking.log(trial, {name: finite(result.get(name)) for name in result.get("reported", ())})
        if result.get("resumed_from") and result["iterations_since_restore"] == 1:
            say(f"{trial}: resuming from iteration {result['resumed_from']}")
        ended = [one for one in trials if one.status in _ENDED]
        shares = [float((one.last_result or {}).get("progress") or 0.0) for one in trials if one not in ended]
        running = sum(one.status == "RUNNING" for one in trials)
        percent = int(100 * (len(ended) + sum(shares)) / self._total)
        report(STAGE, percent, 100, f"{len(ended)} of {self._total} trials ended, {running} running")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print a line for a trial that failed, and continues from its last checkpoint."""
        reason = Path(trial.error_file).read_text("utf-8").strip().splitlines()[-1].partition(". ")[0]
        self.calls[1](f"{trial}: failure {trial.num_failures} of at most {trial.max_failures}: {reason}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune calls this just before it sets the status of a trial that completes.
        state = "failed" if trial.status == "ERROR" else "finished" if trial.last_result.get("finished") else "stopped"
        value = (trial.last_result or {}).get(self._metric)
        score = f", {self._metric} {value:.4g}" if value is not None and math.isfinite(value) else ""
        ended = sum(one is trial or one.status in _ENDED for one in trials)
        self.calls[1](f"{trial}: {state}{score} ({ended} of {self._total})")
        self.calls[2].end(trial, failed=state == "failed")

    on_trial_error = on_trial_complete
