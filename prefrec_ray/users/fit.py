"""Fit of one model of users by maximum likelihood, on a resample of the training users.

Users outside of the resample decide when to stop. Most models of a log are best after a few hundred updates; later ones
learn the users by heart, and predict gains that do not exist (docs/results/estimators.md).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.acceleration import Adam
from prefrec_ray.policy.networks.layers import mlp, polyak_update, target_copy
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Inputs
from prefrec_ray.users.member import Bins, Member
from prefrec_ray.users.traits import Spread, intercepts, spread_of

BATCH = 1024
#: Updates between two evaluations on held-out users, and evaluations without an improvement after which a fit ends.
EVERY, PATIENCE = 50, 4
#: Largest number of updates.
UPDATES = 3000
LEARNING_RATE = 2e-3
#: Weight of an update in the average of the weights, which is evaluated and kept: single updates are noisy.
AVERAGED = 0.01
#: Learning rate of users' intercepts, each of which is in few batches.
OWN_LEARNING_RATE = 1e-2
#: Impressions on which the fit is evaluated.
_HELD = 20_000
#: Number of stored residuals.
_RESIDUALS = 2_000


@dataclass(frozen=True)
class ModelKind:
    """A class of models: a mask of the inputs that it does not use, and the sizes of its networks' hidden layers."""

    name: str
    unused: Callable[[Inputs], np.ndarray]
    hidden: tuple[int, ...]


def _nothing(inputs: Inputs) -> np.ndarray:
    return np.zeros(inputs.width, dtype=bool)


#: The first two, which also score policies during training, have the smallest errors in roll-outs in simulated worlds
#: (docs/results/truth.md). The others are worse if kinds of items count; their disagreement widens intervals.
KINDS = (
    ModelKind("counts", _nothing, (64, 64)),
    ModelKind("wide", _nothing, (256,)),
    ModelKind("means", lambda inputs: inputs.counts, (64, 64)),
    ModelKind("open loop", lambda inputs: inputs.feedback, (64, 64)),
)


def fit_member(kind: ModelKind, inputs: Inputs, data: Histories, made: np.ndarray, seed: int) -> Member:
    """Fit a model of this kind. `made`: scaled inputs of `data`. The result depends only on the arguments.

    Members with different seeds differ by the sampling error over users. Histories must contain an end of a session.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    users = len(data.starts)
    times = np.bincount(rng.integers(0, users, users), minlength=users)  # how often each is in the resample
    gap = inputs.state.session_gap_ms
    rows = np.flatnonzero(data.followed | (data.away_ms > gap))
    held = _held_rows(data, times, rows, rng)
    rows = np.repeat(rows, times[data.user[rows]])
    member = _start(kind, inputs, data, rng)
    feedback = _Feedback(member, data, made)
    _fit(member.answers, feedback.loss, lambda: float(feedback.loss(held)), rows, rng)
    # One row per page, because a session ends with a page.
    pages, held = rows[data.opens[rows]], held[data.opens[held]]
    leaves = _Leaves(member, data, made, held, pages)
    _fit(member.leaves, leaves.loss, leaves.held_loss, pages, rng, leaves.own)
    return leaves.fitted(rng)


def _start(kind: ModelKind, inputs: Inputs, data: Histories, rng: np.random.Generator) -> Member:
    columns = np.flatnonzero(~kind.unused(inputs))
    feedback = [Bins.from_values(column, rng) for column in data.feedback.T]
    log_away, pauses = np.log(data.wait_ms[data.ends]), data.wait_ms[data.followed & ~data.ends]
    outputs = max(1, sum(len(bins) for bins in feedback))
    return Member(
        inputs=inputs,
        columns=columns,
        answers=mlp(len(columns), kind.hidden, outputs),
        leaves=mlp(len(columns) + len(feedback), kind.hidden, 2),
        feedback=feedback,
        pauses=rng.choice(pauses, _RESIDUALS) if len(pauses) else np.ones(1),
        feedback_mean=data.feedback.mean(axis=0),
        feedback_std=np.maximum(data.feedback.std(axis=0), 1e-6),
        away_mean=float(log_away.mean()),
        away_std=float(log_away.std()) or 1.0,
        residuals=np.zeros(1),
        spread=Spread(),
    )


def _held_rows(data: Histories, times: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the impressions among `rows` of users outside of the resample; of all users if there are none."""
    users = rng.permutation(np.flatnonzero(times == 0)) if (times == 0).any() else np.arange(len(times))
    chosen = users[: max(1, int((np.cumsum(data.lengths[users]) <= _HELD).sum()))]
    return rows[np.isin(data.user[rows], chosen)]


def _fit(
    network: nn.Module,
    loss: Callable[[np.ndarray], Tensor],
    held_loss: Callable[[], float],
    rows: np.ndarray,
    rng: np.random.Generator,
    own: Tensor | None = None,
) -> None:
    """Minimise `loss` over the impressions `rows` until `held_loss` stops improving; leave the best weights.

    `own`: further parameters, with a learning rate of their own.
    """
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if own is not None:
        groups.append({"params": [own], "lr": OWN_LEARNING_RATE})
    optimizer = Adam(groups, LEARNING_RATE)
    average, best, weights, since = target_copy(network), np.inf, deepcopy(network.state_dict()), 0
    for update in range(1, UPDATES + 1):
        optimizer.descend(loss(rows[rng.integers(0, len(rows), BATCH)]))
        polyak_update(average, network, max(AVERAGED, 1 / update))
        if update % EVERY == 0:
            current = deepcopy(network.state_dict())
            network.load_state_dict(average.state_dict())
            with torch.inference_mode():
                now = held_loss()
            since += 1
            if now < best:
                best, weights, since = now, deepcopy(network.state_dict()), 0
            if since == PATIENCE:
                break
            network.load_state_dict(current)
    network.load_state_dict(weights)
    network.requires_grad_(False)


class _Feedback:
    """Loss of the first network: the cross-entropy of the bins, summed over columns of feedback."""

    def __init__(self, member: Member, data: Histories, made: np.ndarray) -> None:
        self._member, self._made = member, made
        self._sizes = [len(bins) for bins in member.feedback]
        codes = [bins.code(column) for bins, column in zip(member.feedback, data.feedback.T, strict=True)]
        self._codes = torch.from_numpy(np.stack(codes, axis=0) if codes else np.empty((0, len(data.row)), np.int64))

    def loss(self, rows: np.ndarray) -> Tensor:
        """Return the mean loss of the impressions `rows`."""
        logits = self._member.answers(self._member.used(self._made[rows]))
        if not self._sizes:
            return logits.sum() * 0.0
        parts, codes = logits.split(self._sizes, dim=1), self._codes[:, torch.from_numpy(rows)]
        return torch.stack([nn.functional.cross_entropy(*pair) for pair in zip(parts, codes, strict=True)]).sum()


class _Leaves:
    """Loss of the second network: session ends and times away of pages, with intercepts of users.

    `held` and `rows` are the first impressions of pages.
    """

    def __init__(self, member: Member, data: Histories, made: np.ndarray, held: np.ndarray, rows: np.ndarray) -> None:
        self._member, self._data, self._made, self._held = member, data, made, held
        self._censored = ~data.followed
        self._ends = data.ends | self._censored
        self._away = (np.log(np.maximum(data.away_ms, 1.0)) - member.away_mean) / member.away_std
        self._count = np.maximum(np.bincount(data.user[rows], minlength=len(data.starts)), 1)
        self._spread = Spread()
        self.own = torch.zeros(len(data.starts), 2, requires_grad=True)

    def loss(self, rows: np.ndarray) -> Tensor:
        """Return the mean negative log-likelihood of `rows`, and of the intercepts once per user."""
        mine = self.own[torch.from_numpy(self._data.user[rows])]
        given = self._member.of_pages(self._data, self._made, rows)
        prior = torch.tensor([self._spread.stays, self._spread.away])
        own = (0.5 * mine.square() / prior).sum(dim=1) / torch.from_numpy(self._count[self._data.user[rows]])
        return (self._likelihood(given, mine, rows) + own).mean()

    def held_loss(self) -> float:
        """Return the loss on held-out users with their most likely intercepts; update the spread of intercepts."""
        member, held = self._member, self._held
        followed = held[self._data.followed[held]]
        known = member.known(self._data, self._made, followed)
        self._spread = spread_of(known, self._spread)
        own = intercepts(known, self._spread)[self._data.user[held]]
        given = torch.from_numpy(member.predict(self._data, self._made, held)).float()
        return float(self._likelihood(given, torch.from_numpy(own).float(), held).mean())

    def _likelihood(self, given: Tensor, own: Tensor, rows: np.ndarray) -> Tensor:
        ends = torch.from_numpy(self._ends[rows].astype(np.float32))
        end = nn.functional.binary_cross_entropy_with_logits(given[:, 0] + own[:, 0], ends, reduction="none")
        away = away_loss(
            given[:, 1] + own[:, 1],
            torch.from_numpy(self._away[rows]).float(),
            torch.from_numpy(self._censored[rows]),
            self._spread.noise**0.5,
        )
        return end + ends * away

    def fitted(self, rng: np.random.Generator) -> Member:
        """Return the member with its spread and its residuals."""
        member, data = self._member, self._data
        followed = np.flatnonzero(data.followed & data.opens)
        known = member.known(data, self._made, followed)
        spread = spread_of(known, self._spread)
        known_away = data.followed | (data.away_ms > member.inputs.state.session_gap_ms)
        ends = np.flatnonzero(self._ends & known_away & data.opens)
        ends = rng.permutation(ends)[:20_000]
        given, own = member.predict(data, self._made, ends), intercepts(known, spread)[data.user[ends]]
        residual = member.away_std * (self._away[ends] - given[:, 1] - own[:, 1])
        return replace(member, spread=spread, residuals=residual_quantiles(residual, self._censored[ends]))


def away_loss(mean: Tensor, away: Tensor, censored: Tensor, noise: float) -> Tensor:
    """Return the negative log-likelihood of times `away` ~ N(mean, noise^2), [n]; if `censored`, of at least `away`."""
    z = (away - mean) / noise
    density = 0.5 * z.square() + np.log(noise) + 0.5 * np.log(2 * np.pi)
    return torch.where(censored, -torch.special.log_ndtr(-z), density)


def residual_quantiles(residual: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """Return equally likely values of the residuals by the estimator of Kaplan and Meier (1958), ascending."""
    # At equal values, ends come before bounds. scipy.stats has it too, for .7 s of imports per process.
    order = np.lexsort((censored, residual))
    at_risk = np.arange(len(order), 0, -1)
    reached = 1.0 - np.cumprod((at_risk - ~censored[order]) / at_risk)
    chance = (np.arange(_RESIDUALS) + 0.5) / _RESIDUALS - 1e-9  # rounding of `reached` must not choose the next value
    place = np.searchsorted(reached, chance)
    return residual[order[np.minimum(place, len(order) - 1)]]
