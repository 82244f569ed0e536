"""Validation score of a policy: its level in a model of validation users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import ray

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.subject_roll_outs import platform_of, policy_server, with_rest
from prefrec_ray.evaluation.results.scores import Z, error_of_kinds
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.guard_rails import GuardRail
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.settings import Task
from prefrec_ray.users.ensemble import Ensemble, LoggedPasts, start_fits
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.log_server import server_of_log, with_pins
from prefrec_ray.users.measures import broken
from prefrec_ray.users.member import Member
from prefrec_ray.users.reading import check_long_enough, read_histories
from prefrec_ray.users.roll_out import Imagined, Platform, Traits, roll_out

#: Fewer users than in an evaluation, because many policies are scored. Models are of all kinds, because their
#: disagreement counts, and roll-outs are as long as in an evaluation, because errors grow with their length.
SETTINGS = ModelSettings(users=30)
ROWS = 150_000


class Rolled(NamedTuple):
    """Result of a roll-out: mean level, gain over the logging policy and its lower end, and support by the log.

    `broken`: the guard-rails, relative to the logging policy, that the mean over users breaks in at least one model.
    """

    level: float
    gain: float
    low: float
    support: float
    broken: Sequence[str] = ()


@dataclass(frozen=True)
class ModelScore:
    """Scores policies on a `platform` with users simulated by an ensemble of models.

    `logging`: roll-out of the users' logged items. `traits`: of the users, in each model. `rails`: guard-rails that
    policies should keep.
    """

    platform: Platform
    ensemble: Ensemble
    logging: Imagined
    traits: Traits
    rails: Sequence[GuardRail] = ()

    def rolled(self, policy: Policy, task: Task) -> Rolled:
        """Roll out the policy.

        The lower end of the 95 % interval of the gain contains the errors of users, of the mean over models, and of
        models of different kinds, as in an evaluation.
        """
        platform = with_rest(self.platform, policy)
        server = with_pins(platform, policy_server(policy, platform.items, np.random.default_rng(1)))
        imagined = roll_out(platform, self.ensemble.members, server, seed=0, traits=self.traits)
        levels = imagined.levels[task]
        gains = levels - self.logging.levels[task]
        by_user, by_model = (np.ma.masked_invalid(gains).mean(axis=axis).compressed() for axis in (0, 1))
        gain, of_users = by_model.mean(), Z * by_user.std() / np.sqrt(len(by_user))
        low = gain - math.hypot(of_users, error_of_kinds(by_model))
        support = self.ensemble.pasts.share(imagined.inputs)
        lost = broken(self.rails, imagined, self.logging, self.platform.state.feedback, self.platform.items)
        return Rolled(float(np.nanmean(levels)), float(gain), float(low), support, lost)


class ScoreFit(NamedTuple):
    """Ray tasks that fit a `ModelScore`: `models` of users, and the `score`, which waits for them."""

    models: Sequence[ray.ObjectRef]
    score: ray.ObjectRef

    def wait(self, progress: Progress, stage: str, later: int = 0) -> int:
        """Wait for the tasks, as units of a stage with `later` further units; return their number.

        Raises the errors of the tasks.
        """
        tasks = [*self.models, self.score]
        _, waiting = ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)
        while waiting:
            progress(stage, len(tasks) - len(waiting), len(tasks) + later)
            _, waiting = ray.wait(waiting, fetch_local=False)
        ray.get(self.score)
        progress(stage, len(tasks), len(tasks) + later)
        return len(tasks)


def fit_score(uri: str, split: str, limits: ModelSettings = SETTINGS, rails: Sequence[GuardRail] = ()) -> ScoreFit:
    """Start to fit a `ModelScore` with users of the split and models of training users.

    Its roll-outs have the sizes of `SETTINGS`, or of `limits` if these are smaller. Raises `UserError` if histories are
    too short for it.
    """
    dataset = PreparedDataset.open(uri)
    check_long_enough(dataset, ["train", split])
    runtime.start_ray()  # otherwise Ray starts by itself, and joins any cluster that runs on this machine
    held = read_histories.remote(uri, split, 0, ROWS)
    sizes = ModelSettings(
        models=min(SETTINGS.models, limits.models),
        users=min(SETTINGS.users, limits.users),
        requests=min(SETTINGS.requests, limits.requests),
    )
    fits = start_fits(uri, read_histories.remote(uri, "train", 0, ROWS), 0, sizes.models)
    return ScoreFit(fits.members, _score.remote(uri, held, sizes, rails, fits.pasts, *fits.members))


@ray.remote(num_cpus=1)
def _score(
    uri: str,
    held: Histories,
    sizes: ModelSettings,
    rails: Sequence[GuardRail],
    pasts: LoggedPasts,
    *fitted: tuple[Member, None],
) -> ModelScore:
    platform, members = platform_of(PreparedDataset.open(uri), held, sizes, seed=0), [member for member, _ in fitted]
    traits = Traits.find(platform, members)
    logging = roll_out(platform, members, server_of_log(platform), seed=0, traits=traits)
    return ModelScore(platform, Ensemble(members, pasts), logging, traits, rails)
