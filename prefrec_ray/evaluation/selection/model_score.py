"""What validation users say of a policy in a model of users: a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray

from prefrec_ray import runtime
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.engagement.levels import MAX_LEVEL
from prefrec_ray.evaluation.estimators.model import fit_users, logged_pasts, platform_of, policy_server
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.evaluation.users.histories import check_long_enough, read_histories
from prefrec_ray.evaluation.users.roll_out import Platform, roll_out
from prefrec_ray.evaluation.users.support import THRESHOLD, LoggedPasts
from prefrec_ray.evaluation.users.user_model import UserModel
from prefrec_ray.policy import Policy
from prefrec_ray.settings import Task

#: Fewer than an evaluation has: many policies are scored.
SETTINGS = ModelSettings(models=2, users=100, requests=200)
ROWS = 150_000
#: Of the models' weights, and of their users: others than an evaluation's, which would judge what it chose itself.
SEED = 0x5E1E


@dataclass(frozen=True)
class ModelScore:
    """Scores policies on a `platform`, whose users answer as `models` say."""

    platform: Platform
    models: Sequence[UserModel]
    pasts: LoggedPasts

    def __call__(self, policy: Policy, task: Task) -> float:
        """The mean level; less the highest level there is where the log cannot vouch for the policy (support.py)."""
        level, support = self.rolled(policy, task)
        return level if support >= THRESHOLD else level - MAX_LEVEL

    def rolled(self, policy: Policy, task: Task) -> tuple[float, float]:
        """The mean level, and the share of the policy's states that the log vouches for."""
        server = policy_server(policy, self.platform.items, np.random.default_rng(1))
        imagined = roll_out(self.platform, self.models, server, seed=0)
        return float(np.nanmean(imagined.levels[task])), self.pasts.share(imagined.states)


def fit_score(uri: str, split: str, limits: ModelSettings = SETTINGS) -> ray.ObjectRef:
    """Returns a `ModelScore` with users of the split, whose models know only training users. All its tasks have ended.

    Its roll-outs have the sizes of `SETTINGS`, or of `limits` if these are smaller. Raises `UserError` if histories are
    too short for it.
    """
    dataset = PreparedDataset.open(uri)
    check_long_enough(dataset, ["train", split])
    runtime.start_ray()  # else Ray starts by itself, and joins whatever cluster runs on this machine
    training, held = read_histories.remote(uri, "train", SEED, ROWS), read_histories.remote(uri, split, 0, ROWS)
    sizes = ModelSettings(
        models=min(SETTINGS.models, limits.models),
        users=min(SETTINGS.users, limits.users),
        requests=min(SETTINGS.requests, limits.requests),
    )
    models = ray.get([fit_users.remote(uri, training, SEED, number) for number in range(sizes.models)])
    platform = platform_of(dataset, ray.get(held), sizes, seed=0)
    return ray.put(ModelScore(platform, models, ray.get(logged_pasts.remote(uri, training))))
