"""A model of users, fitted on the log: feedback, session ends, and the time until the next impression.

With the tracker, which computes the next state, it is an environment for roll-outs of a policy.

Three heads:

    feedback ~ P(. | s, a)    ends ~ P(. | s, a, feedback)    wait ~ P(. | s, a, feedback, ends)

The revisit time follows an accelerated failure time model, log(wait) = mu(s, a, f) + u + e, with e drawn from its
residuals. Unlike bins, it extrapolates to users who return sooner than most of the log. Users have random intercepts u
of the revisit time and of the logit of an end (a mixed model), which represent traits independent of the shown items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.evaluation.users.histories import Histories
from prefrec_ray.evaluation.users.inputs import NetworkInputs, UserTraits
from prefrec_ray.evaluation.users.quantiles import Bins
from prefrec_ray.evaluation.users.traits import Known, Spread, intercepts, spread_of
from prefrec_ray.ids import taken_runs
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy.networks.adam import Adam
from prefrec_ray.policy.networks.layers import Mlp, mlp

HIDDEN = (64, 64)
BATCH = 512
#: Passes over the impressions, and the largest number of updates. More passes overfit small logs.
PASSES, UPDATES = 10, 3000
#: Falls to 0 over the updates.
LEARNING_RATE = 2e-3
#: Learning rate of users' intercepts, each of which is in few batches.
OWN_LEARNING_RATE = 1e-2
#: Largest number of stored residuals of the revisit time.
_RESIDUALS = 20_000
#: Number of users from which the spread of intercepts is estimated.
_SPREAD_USERS = 200
#: Impressions of one forward pass.
_CHUNK = 8192

#: Returns the network inputs of impressions, float32 [n, width], by their rows [n].
Seen = Callable[[np.ndarray], Tensor]


class Outcomes(NamedTuple):
    """Outcomes of n impressions."""

    feedback: np.ndarray  # float32 [n, F]
    ends: np.ndarray  # bool [n]: the session ends here
    wait_ms: np.ndarray  # float64 [n], to the next impression, at least 1


@dataclass(frozen=True)
class UserModel:
    """A fitted model (see `fit_user_model`).

    The first network returns logits of the bins of all feedback columns. The second network, with feedback as an input,
    returns the logit of an end, logits of the bins of a wait within a session, and mu.
    """

    inputs: NetworkInputs
    answers: Mlp
    leaves: Mlp
    feedback: Sequence[Bins]
    within: Bins  # log of the wait in ms
    feedback_mean: np.ndarray  # [F]
    feedback_std: np.ndarray  # [F]
    away_mean: float  # of the log of the revisit time in ms
    away_std: float
    residuals: np.ndarray  # of the log of the revisit time
    spread: Spread  # of the intercepts

    def traits(self, data: Histories) -> UserTraits:
        """Return the users of `data` with intercepts estimated from their logs."""
        bare = self.inputs.traits(data)
        known = self.known(data, lambda rows: self.inputs.logged(data, rows, bare))
        return bare._replace(intercepts=intercepts(known, self.spread).astype(np.float32))

    def known(self, data: Histories, seen: Seen) -> Known:
        """Return session ends of `data` and the networks' predictions."""
        rows = np.flatnonzero(data.followed)
        given = np.empty((len(rows), 2))
        with torch.inference_mode():
            for start in range(0, len(rows), _CHUNK):
                at = rows[start : start + _CHUNK]
                leaves = self.leaves(torch.cat([seen(at), self.scaled(data.feedback[at])], dim=1))
                given[start : start + _CHUNK] = leaves[:, [0, -1]].numpy()
        error = (np.log(data.wait_ms[rows]) - self.away_mean) / self.away_std - given[:, 1]
        return Known(data.user[rows], len(data.starts), data.ends[rows], given[:, 0], error)

    def step(
        self,
        state: np.ndarray,
        memory: np.ndarray,
        action: np.ndarray,
        traits: UserTraits,
        rng: np.random.Generator,
    ) -> Outcomes:
        """Draw the outcomes of items with embeddings `action` [n, A] for n users (`traits`) in scaled states [n, S].

        `memory` [n, M] describes recent items. The number of random numbers from `rng` does not depend on the states.
        """
        n, columns = len(state), len(self.feedback)
        uniform, away = rng.random((2 * columns + 3, n)), rng.integers(0, len(self.residuals), n)
        with torch.inference_mode():
            seen = self.inputs(state, memory, action, traits)
            logits = np.split(self.answers(seen).numpy(), np.cumsum([len(bins) for bins in self.feedback]), axis=1)
            drawn = [bins.draw(logits[j], uniform[2 * j : 2 * j + 2]) for j, bins in enumerate(self.feedback)]
            feedback = np.stack(drawn, axis=1) if drawn else np.empty((n, 0))
            leaves = self.leaves(torch.cat([seen, self.scaled(feedback)], dim=1)).numpy().astype(np.float64)
        ends = uniform[-1] < 1.0 / (1.0 + np.exp(-(leaves[:, 0] + traits.intercepts[:, 0])))
        pause = np.exp(self.within.draw(leaves[:, 1:-1], uniform[-3:-1]))
        mu = self.away_std * (leaves[:, -1] + traits.intercepts[:, 1])
        gone = np.exp(self.away_mean + np.minimum(mu + self.residuals[away], _LONGEST))
        return Outcomes(feedback.astype(np.float32), ends, np.maximum(np.where(ends, gone, pause), 1.0))

    def scaled(self, feedback: np.ndarray) -> Tensor:
        """Return feedback [n, F] as the input of the second network."""
        return torch.from_numpy(((feedback - self.feedback_mean) / self.feedback_std).astype(np.float32))


#: A revisit time is at most exp(_LONGEST), about a thousand times, the mean.
_LONGEST = 7.0


def fit_user_model(data: Histories, state: StateDefinition, seed: int) -> UserModel:
    """Fit a model by maximum likelihood on a bootstrap sample of the users of `data`.

    Models with different seeds therefore differ by the sampling error over users. The result depends only on the
    arguments. Raises `ValueError` for histories without an end of a session.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows = np.flatnonzero(data.followed)
    if not data.ends.any():
        raise ValueError("no session ends in these histories")
    times = np.bincount(rng.integers(0, len(data.starts), len(data.starts)), minlength=len(data.starts))
    rows = np.repeat(rows, times[data.user[rows]])
    inputs = NetworkInputs.from_histories(state, data)
    traits = inputs.traits(data)
    feedback = [Bins.from_values(column, rng) for column in data.feedback.T]
    log_wait = np.log(data.wait_ms)
    within = Bins.from_values(
        log_wait[data.followed & ~data.ends] if (data.followed & ~data.ends).any() else log_wait, rng
    )
    away_mean, away_std = float(log_wait[data.ends].mean()), float(log_wait[data.ends].std()) or 1.0
    away = (log_wait - away_mean) / away_std
    pause = within.code(log_wait)

    columns, sizes = data.feedback.shape[1], [len(bins) for bins in feedback]
    codes = np.empty((len(data.row), columns), np.int64)
    for j, bins in enumerate(feedback):
        codes[:, j] = bins.code(data.feedback[:, j])
    answers = mlp(inputs.width, HIDDEN, max(1, sum(sizes)))
    leaves = mlp(inputs.width + columns, HIDDEN, 2 + len(within))
    model = UserModel(
        inputs,
        answers,
        leaves,
        feedback,
        within,
        data.feedback.mean(axis=0),
        np.maximum(data.feedback.std(axis=0), 1e-6),
        away_mean,
        away_std,
        np.zeros(1),
        Spread(),
    )
    own = torch.zeros(len(data.starts), 2, requires_grad=True)  # the intercepts
    count = np.bincount(data.user[rows], minlength=len(own))
    made = _made(inputs, data, traits)  # once, because each impression is in about ten batches
    some_users = rng.permutation(np.flatnonzero(times))[:_SPREAD_USERS]
    some, some_rows = data.take(some_users), taken_runs(data.starts, len(data.row), some_users)[1]

    def seen_of(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(made.take(rows, axis=0))

    def spread() -> Spread:
        return spread_of(model.known(some, lambda rows: seen_of(some_rows[rows])))

    groups: list[dict[str, Any]] = [{"params": [*answers.parameters(), *leaves.parameters()]}, {"params": [own]}]
    optimizer = Adam(groups)
    updates = min(UPDATES, -(-PASSES * len(rows) // BATCH))
    for update in range(updates):
        if update in (updates // 4, updates // 2, 3 * updates // 4):
            model = replace(model, spread=spread())
        at = rows[rng.integers(0, len(rows), BATCH)]
        seen = seen_of(at)
        ends = torch.from_numpy(data.ends[at].astype(np.float32))
        for group, rate in zip(optimizer.param_groups, (LEARNING_RATE, OWN_LEARNING_RATE), strict=True):
            group["lr"] = rate * (1 - update / updates)
        loss = _answers_loss(answers(seen), sizes, torch.from_numpy(codes[at]))
        given = leaves(torch.cat([seen, model.scaled(data.feedback[at])], dim=1))
        mine, prior = own[torch.from_numpy(data.user[at])], model.spread
        given = torch.cat([given[:, :1] + mine[:, :1], given[:, 1:-1], given[:, -1:] + mine[:, 1:]], dim=1)
        loss = loss + _leaves_loss(given, ends, torch.from_numpy(pause[at]), torch.from_numpy(away[at]))
        scale = torch.tensor([0.5 / prior.stays, 0.5 * prior.noise / prior.away])  # Gaussian, once per user
        loss = loss + (scale * mine.square() / torch.from_numpy(count[data.user[at], None]).float()).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for network in (answers, leaves):
        network.requires_grad_(False)
    model = replace(model, spread=spread())
    at = rng.permutation(np.flatnonzero(data.ends))[:_RESIDUALS]
    given = leaves(torch.cat([seen_of(at), model.scaled(data.feedback[at])], dim=1))
    own_mu = intercepts(model.known(data, seen_of), model.spread)[data.user[at], 1]
    return replace(model, residuals=away_std * (away[at] - given[:, -1].numpy() - own_mu))


def _made(inputs: NetworkInputs, data: Histories, traits: UserTraits) -> np.ndarray:
    """Return the network inputs of all impressions of `data`, float32 [N, width]."""
    seen = np.empty((len(data.row), inputs.width), np.float32)
    for start in range(0, len(seen), _CHUNK):
        at = np.arange(start, min(len(seen), start + _CHUNK))
        seen[start : start + _CHUNK] = inputs.logged(data, at, traits).numpy()
    return seen


def _answers_loss(logits: Tensor, sizes: Sequence[int], codes: Tensor) -> Tensor:
    """Return the sum over feedback columns of the cross-entropy of their bins; `codes` [n, F]."""
    parts = logits.split(list(sizes), dim=1) if sizes else ()
    losses = [nn.functional.cross_entropy(part, code) for part, code in zip(parts, codes.T, strict=True)]
    return torch.stack(losses).sum() if losses else logits.sum() * 0.0


def _leaves_loss(given: Tensor, ends: Tensor, pause: Tensor, away: Tensor) -> Tensor:
    """Return the cross-entropy of ends and of pauses within sessions, plus half the squared error of mu at ends."""
    end = nn.functional.binary_cross_entropy_with_logits(given[:, 0], ends)
    stays = (nn.functional.cross_entropy(given[:, 1:-1], pause, reduction="none") * (1 - ends)).mean()
    return end + stays + (0.5 * (given[:, -1] - away.float()) ** 2 * ends).mean()
