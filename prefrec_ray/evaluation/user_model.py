"""A model of users, fitted on the log: what a request is answered with, whether the session ends, and the time until
the next request. With the tracker, which makes the next state of it, it is all that a policy can be rolled out in.

Three heads:

    feedback ~ P(. | s, a)    ends ~ P(. | s, a, feedback)    wait ~ P(. | s, a, feedback, ends)

The time away between sessions is that of an accelerated failure time model, log(wait / own mean) = mu(s, a, f) + e, e
drawn from its residuals: unlike bins it says something of users who are happier than most of the log's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.evaluation.histories import Histories
from prefrec_ray.evaluation.quantiles import Bins
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.networks.layers import Mlp, mlp

HIDDEN = (64, 64)
BATCH = 512
#: Passes over the requests, and updates at most: networks of small logs learn them by heart.
PASSES, UPDATES = 10, 3000
#: Falls to 0 over the updates.
LEARNING_RATE = 2e-3
#: Inner products of parts of a state with the action and with one another are some times larger than its numbers.
_PRODUCT_SCALE = 0.35
#: Residuals of the time away that are kept.
_RESIDUALS = 20_000


class Answers(NamedTuple):
    """What n requests are answered with."""

    feedback: np.ndarray  # float32 [n, F]
    ends: np.ndarray  # bool [n]: the session ends here
    wait_ms: np.ndarray  # float64 [n], to the next request, at least 1


class People(NamedTuple):
    """What a log says of n users from its start to its end: more than a policy knows of them.

    Without it a model takes a logging policy that knows its users better than states do for one that does not, and
    half of what other items would do is lost (docs/evaluation.md).
    """

    numbers: np.ndarray  # float32 [n, 2]: log of mean depth and mean time away, relative to the mean user's
    tastes: np.ndarray  # float32 [n, 1 + F, A]: mean embedding shown, and covariances of it with feedback
    mean_revisit_ms: np.ndarray  # float64 [n]

    def take(self, rows: np.ndarray) -> People:
        """The users at `rows`."""
        return People(*(column[rows] for column in self))


@dataclass(frozen=True)
class Inputs:
    """What the networks see: state, action, a user's numbers, and all inner products between the action, the parts of
    the state that are embeddings (`parts` [P, A], columns) and a user's tastes. The rest is scale: of the mean user."""

    parts: np.ndarray
    log_depth: float
    log_revisit: float
    taste_rms: np.ndarray  # float32 [1 + F]

    @classmethod
    def of(cls, state: StateDefinition, data: Histories) -> Inputs:
        """Those of a data set."""
        columns = [np.arange(group.start, group.stop) for group in (state.groups["items"], state.groups["tastes"])]
        parts = np.concatenate(columns).reshape(-1, state.action_dim)
        rms = np.sqrt(np.square(data.tastes).mean(axis=(0, 2)))
        log_depth, log_revisit = np.log(data.mean_depth).mean(), np.nanmean(np.log(data.mean_revisit_ms))
        return cls(parts, float(log_depth), float(log_revisit), np.maximum(rms, 1e-6).astype(np.float32))

    @property
    def vectors(self) -> int:
        """How many vectors have inner products with one another."""
        return 1 + len(self.parts) + len(self.taste_rms)

    @property
    def products(self) -> int:
        """How many inner products there are."""
        return self.vectors * (self.vectors - 1) // 2

    def people(self, data: Histories) -> People:
        """The users of `data`; one without a mean time away counts as the mean user."""
        depth, revisit = np.log(data.mean_depth) - self.log_depth, np.log(data.mean_revisit_ms) - self.log_revisit
        numbers = np.nan_to_num(np.stack([depth, revisit], axis=1)).astype(np.float32)
        mean_revisit_ms = np.exp(self.log_revisit + numbers[:, 1].astype(np.float64))
        return People(numbers, data.tastes / self.taste_rms[:, None], mean_revisit_ms)

    def __call__(self, state: np.ndarray, action: np.ndarray, people: People) -> Tensor:
        """float32 [n, S + A + products + 2]."""
        vectors = np.concatenate([action[:, None], state[:, self.parts], people.tastes], axis=1)
        inner = np.matmul(vectors, vectors.transpose(0, 2, 1))
        first, second = np.triu_indices(vectors.shape[1], 1)
        products = _PRODUCT_SCALE * inner[:, first, second]
        return torch.from_numpy(np.concatenate([state, action, products, people.numbers], axis=1, dtype=np.float32))


@dataclass(frozen=True)
class UserModel:
    """Made by `fit_user_model`. The first network gives logits of the bins of all feedback columns; the second, which
    sees feedback too, the logit of an end, those of the bins of a wait within a session, and mu."""

    inputs: Inputs
    answers: Mlp
    leaves: Mlp
    feedback: Sequence[Bins]
    within: Bins  # log of the wait in ms
    feedback_mean: np.ndarray  # [F]
    feedback_std: np.ndarray  # [F]
    away_std: float
    residuals: np.ndarray  # of log(time away / own mean)

    def step(
        self,
        state: np.ndarray,
        action: np.ndarray,
        people: People,
        rng: np.random.Generator,
    ) -> Answers:
        """Draws the answers of n users (`people`, of `inputs`) to the items of embeddings `action` [n, A] in scaled
        states [n, S]. Takes as many numbers from `rng` whatever the states."""
        n, columns = len(state), len(self.feedback)
        uniform, away = rng.random((2 * columns + 3, n)), rng.integers(0, len(self.residuals), n)
        with torch.inference_mode():
            seen = self.inputs(state, action, people)
            logits = np.split(self.answers(seen).numpy(), np.cumsum([len(bins) for bins in self.feedback]), axis=1)
            drawn = [bins.draw(logits[j], uniform[2 * j : 2 * j + 2]) for j, bins in enumerate(self.feedback)]
            feedback = np.stack(drawn, axis=1) if drawn else np.empty((n, 0))
            leaves = self.leaves(torch.cat([seen, self.scaled(feedback)], dim=1)).numpy().astype(np.float64)
        ends = uniform[-1] < 1.0 / (1.0 + np.exp(-leaves[:, 0]))
        pause = np.exp(self.within.draw(leaves[:, 1:-1], uniform[-3:-1]))
        gone = np.exp(np.minimum(leaves[:, -1] * self.away_std + self.residuals[away], _LONGEST))
        gone *= people.mean_revisit_ms
        return Answers(feedback.astype(np.float32), ends, np.maximum(np.where(ends, gone, pause), 1.0))

    def scaled(self, feedback: np.ndarray) -> Tensor:
        """Feedback [n, F] as the second network sees it."""
        return torch.from_numpy(((feedback - self.feedback_mean) / self.feedback_std).astype(np.float32))


#: exp of it: no user of a model stays away longer than some hundred times the own mean.
_LONGEST = 5.0


def fit_user_model(data: Histories, state: StateDefinition, seed: int) -> UserModel:
    """By maximum likelihood on the requests of `data` that have one after them, of as many users drawn again with
    replacement: models of several seeds differ as far as users do.

    A function of its arguments. Raises `ValueError` for histories without an end of a session.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows = np.flatnonzero(data.followed)
    if not data.ends.any():
        raise ValueError("no session ends in these histories")
    times = np.bincount(rng.integers(0, len(data.starts), len(data.starts)), minlength=len(data.starts))
    rows = np.repeat(rows, times[data.user[rows]])
    inputs = Inputs.of(state, data)
    people = inputs.people(data)
    feedback = [Bins.of(column, rng) for column in data.feedback.T]
    log_wait = np.log(data.wait_ms)
    within = Bins.of(log_wait[data.followed & ~data.ends] if (data.followed & ~data.ends).any() else log_wait, rng)
    away = log_wait - np.log(people.mean_revisit_ms)[data.user]
    away_std = float(away[data.ends].std()) or 1.0
    codes = [bins.code(column) for bins, column in zip(feedback, data.feedback.T, strict=True)]
    pause = within.code(log_wait)

    width = data.state.shape[1] + data.action.shape[1] + inputs.products + 2
    columns, sizes = data.feedback.shape[1], [len(bins) for bins in feedback]
    answers, leaves = mlp(width, HIDDEN, max(1, sum(sizes))), mlp(width + columns, HIDDEN, 2 + len(within))
    model = UserModel(
        inputs,
        answers,
        leaves,
        feedback,
        within,
        data.feedback.mean(axis=0),
        np.maximum(data.feedback.std(axis=0), 1e-6),
        away_std,
        np.zeros(1),
    )
    optimizer = torch.optim.Adam([*answers.parameters(), *leaves.parameters()])
    updates = min(UPDATES, -(-PASSES * len(rows) // BATCH))
    for update in range(updates):
        at = rows[rng.integers(0, len(rows), BATCH)]
        seen = inputs(data.state[at], data.action[at], people.take(data.user[at]))
        ends = torch.from_numpy(data.ends[at].astype(np.float32))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - update / updates)
        loss = _answers_loss(answers(seen), sizes, [torch.from_numpy(code[at]) for code in codes])
        given = leaves(torch.cat([seen, model.scaled(data.feedback[at])], dim=1))
        loss = loss + _leaves_loss(given, ends, torch.from_numpy(pause[at]), torch.from_numpy(away[at] / away_std))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for network in (answers, leaves):
        network.requires_grad_(False)
    ended = rng.permutation(np.flatnonzero(data.ends))[:_RESIDUALS]
    seen = inputs(data.state[ended], data.action[ended], people.take(data.user[ended]))
    mu = leaves(torch.cat([seen, model.scaled(data.feedback[ended])], dim=1))[:, -1].numpy()
    return UserModel(**{**model.__dict__, "residuals": away[ended] - away_std * mu})


def _answers_loss(logits: Tensor, sizes: Sequence[int], codes: Sequence[Tensor]) -> Tensor:
    """Sum over feedback columns of the cross-entropy of their bins."""
    parts = logits.split(list(sizes), dim=1) if sizes else ()
    losses = [nn.functional.cross_entropy(part, code) for part, code in zip(parts, codes, strict=True)]
    return torch.stack(losses).sum() if losses else logits.sum() * 0.0


def _leaves_loss(given: Tensor, ends: Tensor, pause: Tensor, away: Tensor) -> Tensor:
    """Cross-entropy of ends, and of pauses where the session goes on; half the squared error of mu where it ends."""
    end = nn.functional.binary_cross_entropy_with_logits(given[:, 0], ends)
    stays = (nn.functional.cross_entropy(given[:, 1:-1], pause, reduction="none") * (1 - ends)).mean()
    return end + stays + (0.5 * (given[:, -1] - away.float()) ** 2 * ends).mean()
