"""Scores on validation users, for runs and for the trials of a sweep; it starts no tasks of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.algorithms.settings import ValidationSettings
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import task_levels
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.clone import BehaviourClone, fit_clone
from prefrec_ray.evaluation.ncis import NcisSettings
from prefrec_ray.evaluation.records import task_records
from prefrec_ray.evaluation.scoring import Pass, score_file
from prefrec_ray.evaluation.sessions import Sessions
from prefrec_ray.evaluation.subjects import scored_subjects
from prefrec_ray.policy import Policy

_SPLIT = "validation"
_NAME = "trial"


@dataclass(frozen=True)
class Judge:
    """Scores policies of one data set. The same clone, users and noise for all of them."""

    uri: str
    settings: ValidationSettings
    clone: BehaviourClone

    @classmethod
    def prepare(cls, uri: str, settings: ValidationSettings) -> Judge:
        """Fits the behaviour clone. Raises `UserError` for roll-outs on logs that no simulator made."""
        dataset = PreparedDataset.open(uri)
        if settings.online and dataset.metadata.world is None:
            raise UserError(f"{uri}: validation.online rolls out in the simulator, which did not make these logs")
        return cls(uri, settings, fit_clone(dataset, seed=0))

    def due(self, iteration: int, last: bool) -> bool:
        """Whether a trial is scored after this iteration."""
        return last or (self.settings.every is not None and iteration % self.settings.every == 0)

    def scores(self, policy: Policy, task: str) -> dict[str, float]:
        """`SCORES` of a policy (without the true level where it is not asked for)."""
        dataset = PreparedDataset.open(self.uri)
        found = Pass(self.uri, _SPLIT, {_NAME: policy}, self.clone, NcisSettings(), seed=0, served_rows=1)
        sessions = Sessions.concatenate([score_file(file, found)[0] for file in dataset.files("requests", _SPLIT)])
        level = task_levels(task, sessions.depth_level, sessions.frequency_level, dataset.metadata.mixture_weight)
        subjects = scored_subjects({_NAME: policy})
        records = task_records(sessions, np.asarray(level), subjects, NcisSettings().cap, seed=0)
        record = next(record for record in records if record["subject"] == _NAME)
        scores = {"validation/ncis": record["value"], "validation/ess": record["ess"]}
        if self.settings.online:
            from prefrec_ray.simulator.online import true_level

            scores["validation/online"] = true_level(dataset, policy, task, _SPLIT, self.settings.users)
        return scores
