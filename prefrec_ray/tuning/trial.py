"""One trial of a sweep: a method's algorithm under Tune, on what the driver has loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.result import SHOULD_CHECKPOINT

from prefrec_ray.algorithms.base.algorithm import OfflineAlgorithm
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.validation import Judge
from prefrec_ray.runs.config import build_config
from prefrec_ray.runs.monitoring import publish
from prefrec_ray.runs.train import SCORES, flatten, policy_now
from prefrec_ray.storage.manifest import damage
from prefrec_ray.tuning.settings import TuneSettings
from prefrec_ray.tuning.shared import Shared
from prefrec_ray.tuning.space import train_settings


@dataclass(frozen=True)
class Plan:
    """What all trials of a sweep have in common."""

    settings: TuneSettings
    dataset: str
    smoke: bool
    shared: Shared
    judge: Judge | None


class SweepTrial(tune.Trainable):
    """Reports a row of progress.csv an iteration, `SCORES` where it is scored, and `finished` at its own end.

    Beside them `resumed_from`: the iteration of the checkpoint that it went on from, 0 where it began.
    A scored iteration has a checkpoint, so that the best one can be kept. Figures that a method does not have are NaN:
    every row has the same columns.
    """

    def setup(self, config: dict[str, Any], plan: Plan) -> None:
        """Builds the algorithm of `config["trial"]` (from `space`)."""
        self.plan = plan
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Goes on as another trial: a process that has imported everything already saves seconds."""
        self.algorithm.stop()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        plan = self.plan
        run = train_settings(plan.settings, config["trial"], plan.smoke)
        built = plan.shared.give(build_config(run, plan.dataset))
        if plan.settings.resources.gpus and not built.num_learners:
            built.learners(num_gpus_per_learner=plan.settings.resources.gpus)
        self.name, self.method, self.task = config["trial"]["name"], run.method, run.task
        self.algorithm: OfflineAlgorithm = built.build_algo()
        self.resumed_from = 0

    def step(self) -> dict[str, Any]:
        """One iteration."""
        row = flatten(self.algorithm.train())
        stop = self.plan.settings.stop
        finished = (
            row["progress"] >= 1
            or (stop.iterations is not None and row["training_iteration"] >= stop.iterations)
            or (stop.epochs is not None and row["phase"] == "train" and row["epoch"] >= stop.epochs)
        )
        judge = self.plan.judge
        scored = judge is not None and judge.due(row["training_iteration"], finished)
        if judge is not None:
            row |= dict.fromkeys(SCORES)
            if scored:
                row |= judge.scores(policy_now(self.algorithm), self.task)
        publish(row, self.name, self.method, self.task)
        row = {name: math.nan if value is None else value for name, value in row.items()}
        row |= {"resumed_from": self.resumed_from, "finished": finished, "done": finished}
        return {**row, SHOULD_CHECKPOINT: scored}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The algorithm's own checkpoint. Raises `UserError` where a weight is not finite."""
        self.algorithm.save_to_path(checkpoint_dir)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on from a checkpoint, of this trial or (population-based training) of another.

        Raises `UserError` where it is damaged.
        """
        problem = damage(checkpoint_dir)
        if problem is not None:
            raise UserError(f"{self.name}: its checkpoint is damaged ({problem}); expected it as it was written")
        self.algorithm.restore_from_path(checkpoint_dir)
        self.resumed_from = self.algorithm.iteration

    def cleanup(self) -> None:
        """Stops learners."""
        self.algorithm.stop()


def resources(config: dict[str, Any], settings: TuneSettings) -> PlacementGroupFactory:
    """A bundle for the trial itself, and one for each learner of its own."""
    chosen = {**settings.base, **config["trial"]["config"]}
    own = {"CPU": settings.resources.cpus, "GPU": settings.resources.gpus, **settings.resources.custom}
    cpus = chosen.get("num_cpus_per_learner", 1)
    learner = {"CPU": cpus if isinstance(cpus, int | float) else 1, "GPU": chosen.get("num_gpus_per_learner", 0)}
    learner |= chosen.get("custom_resources_per_learner", {})
    return PlacementGroupFactory([own] + [learner] * int(chosen.get("num_learners", 0)))
