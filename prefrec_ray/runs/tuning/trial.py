"""One trial of a sweep: the algorithm of a method as a Tune trainable, on shared data."""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from typing import Any

from pyarrow import fs
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.result import SHOULD_CHECKPOINT

from prefrec_ray import storage
from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.selection.validation import ValidationScorer
from prefrec_ray.runs.checkpoints import checkpoints, first_whole
from prefrec_ray.runs.train import build_config, run_iteration
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.shared import Shared
from prefrec_ray.runs.tuning.space import train_settings
from prefrec_ray.storage.manifest import damage


@dataclass(frozen=True)
class SweepPlan:
    """Settings and data that all trials of a sweep share; `output`: the URI of its folder."""

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
        """Continue from the result of `save` or, if it is gone, from the trial's newest complete checkpoint.

        If a sweep is killed just after a checkpoint replaced an older one, its state still names the older one.
        """
        checkpoint = checkpoint_path.checkpoint
        if checkpoint.filesystem.get_file_info(checkpoint.path).type == fs.FileType.NotFound:
            trial = storage.join(self.plan.output, posixpath.basename(posixpath.dirname(checkpoint.path)))
            with first_whole(reversed(checkpoints(trial))) as newest:
                if newest is not None:
                    system, path = storage.filesystem(newest[0])
                    checkpoint_path.checkpoint = tune.Checkpoint(path, system)
        super().restore(checkpoint_path)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from a checkpoint. Raises `UserError` if it is damaged."""
        problem = damage(checkpoint_dir)
        if problem is not None:
            raise UserError(f"{self.name}: its checkpoint is damaged ({problem}); expected an unchanged checkpoint")
        self.algorithm.restore_from_path(checkpoint_dir)
        self.resumed_from = self.algorithm.iteration

    def cleanup(self) -> None:
        """Stop learners."""
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
