"""Validation score from preferences, on users outside of training, for the choice of checkpoints and trials.

A separate reward with its own seed is learned from the preferences of training users. Every impression of the
validation users is labelled with the mean reward of the next impressions (algorithms/reward/labels.py), and networks of
(state, action) are fitted to these labels once for all policies. The score of a policy is the networks' prediction for
its items. Fitted-Q evaluation learns from levels instead, which are one per session and noisier
(docs/results/recipe.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray
import torch
from torch import nn

from prefrec_ray.acceleration import Adam
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.algorithms.requests import DataRequest, RewardRequest
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_histories
from prefrec_ray.algorithms.reward.model import pretrain
from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.estimators.fqe import action_value, pairs_of
from prefrec_ray.policy import Policy
from prefrec_ray.users.histories import Histories

#: Seed of the reward's weights and batches, different from the seeds of runs.
SEED = 0x1D6E
HIDDEN_SIZES = (64, 64)
PAIRS_A_BATCH, EPOCHS = 32, 3
#: Settings of the fit. Each network takes a few seconds.
NETWORKS, UPDATES, BATCH, LEARNING_RATE = 3, 1500, 512, 1e-3
#: Impressions for which a policy selects items. This takes most of the time.
STATES = 6000
_UNITS = 1000


@dataclass(frozen=True)
class PreferenceScore:
    """Scores policies by `nets` of (state, action) on `states` [n, S]. `logged`: their prediction for logged items.

    `shown` int32 [n, MEMORY] are the rows of the items before each state, the newest first, -1 for none.
    """

    nets: tuple[nn.Module, ...]
    states: np.ndarray
    shown: np.ndarray
    logged: float

    def __call__(self, policy: Policy) -> float:
        """Return the prediction for the policy's items minus logged items, in thousandths of the labels' deviation."""
        recent = None
        if policy.penalises_repetition:
            recent = np.where(self.shown[:, :, None] >= 0, policy.items.kinds[self.shown], -1)
        served = policy.served_for(policy.act(self.states, recent=recent))
        return _UNITS * (_expected(self.nets, self.states, served) - self.logged)


def fit_score(held: Histories, reward: RewardFunction, horizon: int) -> PreferenceScore:
    """Fit the score to a learned reward, on the users of `held`. The result depends only on the arguments."""
    rows, label = label_histories(reward, held.state, held.action, held.pages, horizon)
    known = pairs_of(held.state[rows], held.action[rows])
    wanted = torch.from_numpy((label - label.mean()) / (label.std() or 1.0))
    nets = tuple(_fit(known, wanted, seed) for seed in range(NETWORKS))
    drawn = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:STATES])]
    states = held.state[drawn]
    shown = held.recent(np.arange(held.row.max() + 1)[:, None], drawn)[:, :, 0]  # each item as a kind
    return PreferenceScore(nets, states, shown, _expected(nets, states, held.action[drawn]))


def learn_scores(
    uri: str, tasks: Sequence[str], teachers: Sequence[str] | None, held: ray.ObjectRef
) -> dict[str, ray.ObjectRef]:
    """Return a `PreferenceScore` on the users of `held` (`Histories`) by task, after one Ray task each.

    `teachers`: None selects the teachers of the recipe `robust` if they exist, else all. Raises `UserError` for a data
    set without preferences.
    """
    dataset = PreparedDataset.open(uri)
    there = (*dataset.metadata.teachers, *dataset.people())
    if not there:
        raise UserError(
            f"{uri}: no preferences for the validation estimator 'preference'; expected fqe or ncis instead"
        )
    chosen = tuple(teachers or (() if TrainingSettings().teacher_names[0] in there else there))
    scores = {}
    for task in tasks:
        settings = _settings(task, chosen)
        data = load_data(
            replace(DataRequest.from_settings(settings, dataset), transitions="streaming")
        )  # no transitions
        reward = RewardRequest.from_settings(
            settings.model_copy(update={"preference_batch_size": min(PAIRS_A_BATCH, data.pairs)}), dataset
        )
        scores[task] = _learn.remote(reward, settings.reward_horizon, data, held)
    ray.get(list(scores.values()))
    return scores


def _settings(task: str, teachers: tuple[str, ...]) -> TrainingSettings:
    """Return the settings of the recipe `robust` for the separate reward. Without teachers: the recipe's teachers."""
    return TrainingSettings.model_validate(
        {
            "task": task,
            "teachers": teachers,
            "seed": SEED,
            "hidden_sizes": HIDDEN_SIZES,
            "preference_batch_size": PAIRS_A_BATCH,
            "pretrain_epochs": EPOCHS,
        }
    )


@ray.remote(num_cpus=1)
def _learn(request: RewardRequest, horizon: int, data: LoadedData, held: Histories) -> PreferenceScore:
    return fit_score(held, RewardFunction.from_state(request, pretrain(request, data)), horizon)


def _fit(known: torch.Tensor, wanted: torch.Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = action_value(known.shape[1])
    optimizer = Adam(net.parameters())
    for update in range(UPDATES):
        drawn = torch.from_numpy(rng.integers(0, len(known), BATCH))
        loss = nn.functional.mse_loss(net(known[drawn]), wanted[drawn])
        optimizer.descend(loss, LEARNING_RATE * (1 - update / UPDATES))
    return net


def _expected(nets: Sequence[nn.Module], states: np.ndarray, actions: np.ndarray) -> float:
    with torch.inference_mode():
        return float(np.mean([net(pairs_of(states, actions)).mean().item() for net in nets]))
