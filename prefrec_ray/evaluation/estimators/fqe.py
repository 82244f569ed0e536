"""Fitted-Q evaluation: a policy's value from a network of action values, fitted on logged impressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prefrec_ray.acceleration import Adam
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import FqeSettings
from prefrec_ray.ids import run_lengths
from prefrec_ray.policy.networks.layers import Scalar, polyak_update, start_at_zero, target_copy
from prefrec_ray.users.histories import Histories

HIDDEN = 64
BATCH = 256
#: Falls to 0 over the updates.
LEARNING_RATE = 1e-3
#: Values are backed up over about 60 impressions (ten sessions), so the target network must follow quickly.
TAU = 0.3
_CHUNK = 16_384


@dataclass(frozen=True)
class Steps:
    """The impressions [n] of sessions with a level and a following session.

    A user's last session is excluded, because the state after its last impression is not known.
    """

    row: np.ndarray  # int64 [n], ascending
    following: np.ndarray  # int64 [n], first impression of the next page
    ends: np.ndarray  # bool [n]: the session ends with the page of this impression
    reward: np.ndarray  # float64 [n]: the session's level at its end, else 0
    user: np.ndarray  # int64 [n]: 0 for the first remaining user
    start: np.ndarray  # int64 [m]: first impressions of the sessions
    start_user: np.ndarray  # int64 [m]
    users_left_out: int

    @property
    def users(self) -> int:
        """Return the number of remaining users."""
        return int(self.start_user[-1]) + 1

    def redrawn(self, rng: np.random.Generator) -> np.ndarray:
        """Return the steps (int64) of a bootstrap sample of the users."""
        times = np.bincount(rng.integers(0, self.users, self.users), minlength=self.users)
        return np.repeat(np.arange(len(self.row)), times[self.user])


def steps(data: Histories, level: np.ndarray) -> Steps:
    """Return the steps for levels [M] of a task (NaN: null). Raises `UserError` if no session remains."""
    user_of = data.user[data.first]
    followed = np.append(user_of[1:] == user_of[:-1], False)
    kept = followed & np.isfinite(level)
    if not kept.any():
        raise UserError("evaluation: no session has a level and a following session; expected longer histories")
    users, user = np.unique(user_of[kept], return_inverse=True)
    code = np.zeros(len(level), dtype=np.int64)
    code[kept] = user
    session = np.repeat(np.arange(len(level)), run_lengths(data.first, len(data.row)))
    row = np.flatnonzero(kept[session])
    ends = data.ends[row]
    return Steps(
        row=row,
        following=data.following[row],
        ends=ends,
        reward=np.where(ends, level[session[row]], 0.0),
        user=code[session[row]],
        start=data.first[kept],
        start_user=user,
        users_left_out=len(data.starts) - len(users),
    )


@dataclass(frozen=True)
class FittedQFunction:
    """Q^pi(s, a) of one policy, in units of levels: (1 - gamma) Q, the mean level of this and later sessions."""

    net: nn.Module
    mean: float
    scale: float

    def mean_level(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return (1 - gamma) Q, float64 [n], for states [n, S] and actions [n, A]."""
        values = np.empty(len(states))
        with torch.inference_mode():
            for start in range(0, len(states), _CHUNK):
                rows = slice(start, start + _CHUNK)
                values[rows] = self.net(pairs_of(states[rows], actions[rows])).numpy()
        return self.mean + self.scale * values


def fit_q(
    data: Histories,
    known: Steps,
    policy_actions: np.ndarray,
    settings: FqeSettings,
    seed: int,
    among: np.ndarray | None = None,
) -> FittedQFunction:
    """Fit Q of the policy with actions `policy_actions` [N, A] at the impressions of `data`, on the steps `known`.

    Q(s, a) = E[r + gamma_t Q(s', pi(s'))] (Le et al. 2019, Batch Policy Learning under Constraints, Algorithm 3, by
    minibatches and a Polyak target). r is the session's level at its last impression, else 0; gamma_t is
    `gamma_session` there, else 1. Targets are clipped to the range of levels. Rewards are standardised, with the mean
    subtracted at session ends, so that Q starts at the mean of all users. `among` (int64): the steps from which
    mini-batches are drawn, with repetitions; None: all.

    The result depends only on the arguments. Equal seeds give equal batches for any policy.
    """
    gamma = settings.gamma_session
    levels = known.reward[known.ends]
    mean, std = float(levels.mean()), float(levels.std()) or 1.0
    reward = np.where(known.ends, (known.reward - mean) / std, 0.0).astype(np.float32)
    discount = np.where(known.ends, gamma, 1.0).astype(np.float32)
    scale = (1 - gamma) * std
    low, high = (float(level - mean) / scale for level in (levels.min(), levels.max()))

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    among = np.arange(len(known.row)) if among is None else among
    net = action_value(data.state.shape[1] + data.action.shape[1])
    target = target_copy(net)
    optimizer = Adam(net.parameters())
    for update in range(settings.updates):
        drawn = among[rng.integers(0, len(among), BATCH)]
        row, following = known.row[drawn], known.following[drawn]
        with torch.no_grad():
            after = target(pairs_of(data.state[following], policy_actions[following])).clamp(low, high)
            wanted = torch.from_numpy(reward[drawn]) + torch.from_numpy(discount[drawn]) * after
        loss = nn.functional.mse_loss(net(pairs_of(data.state[row], data.action[row])), wanted)
        optimizer.descend(loss, LEARNING_RATE * (1 - update / settings.updates))
        polyak_update(target, net, TAU)
    return FittedQFunction(net, mean, scale)


def action_value(inputs: int) -> Scalar:
    """Create a network of (s, a), [n, S + A] to [n], with two hidden layers. Its initial output is 0 everywhere."""
    nn.Linear(HIDDEN, 1)  # Unused: it draws random numbers, so that a seed gives the same networks as before.
    return start_at_zero(Scalar(inputs, (HIDDEN, HIDDEN)))


def pairs_of(states: np.ndarray, actions: np.ndarray) -> torch.Tensor:
    """Return states [n, S] and actions [n, A] as one tensor, float32 [n, S + A]."""
    return torch.from_numpy(np.concatenate([states, actions], axis=1, dtype=np.float32))
