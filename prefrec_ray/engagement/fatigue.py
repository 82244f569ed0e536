"""Estimate of fatigue with similar items, in the unit of the serving setting `variety`.

It is a model of the hidden satisfaction of user u after impression t, with shown embeddings e:

    I_t = a_u + w_u . M_t - tau R_t         M_t: running mean of e;  R_t: running mean of the similarity e_t . M_(t-1)
    outcome_j = b_j s + c_j s^2 + g_j . e + d_j + d_ju,     s = tanh(I_t / 2)

The outcomes are the end of the session, the logarithm of the revisit time, and the feedback on the next item. The model
is fitted by least squares, each outcome in units of its error, with a ridge on the parameters of single users.

A regression of an outcome on similarity is biased: a logging policy shows items that the user likes, so that similarity
is confounded with the quality of service (corrected by w_u), and outcomes saturate, so that similarity, a square of the
shown embeddings, is confounded with their curvature (corrected by s and c_j).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefrec_ray.engagement.impressions import REQUESTS, Impressions

#: Half-lives of M and R, in impressions. The best fit is used.
HALF_LIVES = (10.0, 20.0, 40.0)
#: Disjoint groups of users whose estimates are compared.
PARTS = 4
#: Factor from the cost of similarity, in deviations of item values, to `variety`: 2, because an item shown now also
#: causes fatigue with later similar items, times 1.5, because Q's deviation includes the errors of Q
#: (docs/results/recipe.md).
PER_COST = 3.0
#: The smallest value costs little without fatigue, and limits harm from fatigue that this model does not describe.
LEAST, LARGEST = 1.0, 12.0
#: Largest standard error of a usable estimate.
PRECISE = 2.5
_STEPS, _RATE, _RIDGE = 150, 0.05, 3.0


class FatigueEstimate(NamedTuple):
    """Estimates of `variety` from each part of the users [PARTS], and the half-life of the best fit."""

    parts: tuple[float, ...]
    half_life: float

    @property
    def error(self) -> float:
        """Return the standard error of the mean of `parts`."""
        return float(np.std(self.parts, ddof=1) / np.sqrt(len(self.parts)))

    @property
    def variety(self) -> float | None:
        """Return the estimate between LEAST and LARGEST; None if the parts differ too much."""
        return None if not self.error < PRECISE else float(np.clip(np.mean(self.parts), LEAST, LARGEST))


def estimate(shown: Impressions, seed: int) -> FatigueEstimate | None:
    """Estimate fatigue; None if the log has too few users or too few sessions with a following session."""
    users = np.random.default_rng(seed).permutation(len(shown.starts))
    users = users[np.cumsum(shown.lengths[users]) <= REQUESTS]
    groups = [shown.take(np.sort(users[part::PARTS])) for part in range(PARTS)]
    if any(not _ends(group).any() or len(group.starts) < 2 for group in groups):
        return None
    fits = {half: [fit(group, half) for group in groups] for half in HALF_LIVES}
    best = min(HALF_LIVES, key=lambda half: sum(one.loss for one in fits[half]))
    return FatigueEstimate(tuple(one.variety for one in fits[best]), best)


class Fit(NamedTuple):
    """Estimate of `variety` from one group of users, and the loss, a negative log-likelihood."""

    variety: float
    loss: float


def _followed(shown: Impressions) -> np.ndarray:
    """Return a mask of impressions with a later impression of the user, bool [N]."""
    followed = np.ones(len(shown.timestamp), dtype=bool)
    followed[shown.starts - 1] = False
    return followed


def _ends(shown: Impressions) -> np.ndarray:
    """Return a mask of the last impressions of sessions with a following session, bool [N]."""
    return _followed(shown) & np.append(np.diff(shown.session) != 0, False)


def fit(shown: Impressions, half_life: float) -> Fit:
    """Fit the model. At least one user must have a session with a following session."""
    starts, lengths = shown.starts, shown.lengths
    embeddings = shown.embeddings - shown.embeddings.mean(axis=0)
    embeddings = embeddings / max(float(np.sqrt(np.square(embeddings).sum(axis=1).mean())), 1e-9)
    items, likeness = _running_means(embeddings, starts, lengths, 0.5 ** (1.0 / half_life))
    rows = np.flatnonzero(_followed(shown))
    item_scale, scale = float(items.std()) or 1.0, float(likeness[rows].std()) or 1.0
    outcomes, known = _outcomes(shown, rows)
    model = _Model(
        user=torch.from_numpy(np.repeat(np.arange(len(starts)), lengths)[rows]),
        items=torch.from_numpy(items[rows] / item_scale),
        likeness=torch.from_numpy(likeness[rows] / scale),
        now=torch.from_numpy(embeddings[rows]),
        then=torch.from_numpy(embeddings[rows + 1]),
        outcomes=outcomes,
        known=known,
    )
    loss, tau, tastes = model.fit(len(starts))
    covariance = embeddings.T @ embeddings / len(embeddings)
    spread = float(np.sqrt(((tastes @ covariance) * tastes).sum(axis=1).mean()))  # of w . e over items
    return Fit(PER_COST * tau / scale / max(spread / item_scale, 1e-9), loss)


def _running_means(
    embeddings: np.ndarray, starts: np.ndarray, lengths: np.ndarray, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return M, float32 [N, A], and R, float32 [N], after each impression."""
    items = np.zeros_like(embeddings, dtype=np.float32)
    likeness = np.zeros(len(embeddings), np.float32)
    mean, tired = np.zeros((len(starts), embeddings.shape[1]), np.float32), np.zeros(len(starts), np.float32)
    for step in range(int(lengths.max())):
        live = np.flatnonzero(lengths > step)
        row = starts[live] + step
        shown = embeddings[row]
        tired[live] = likeness[row] = decay * tired[live] + (1 - decay) * np.einsum("na,na->n", shown, mean[live])
        mean[live] = items[row] = decay * mean[live] + (1 - decay) * shown
    return items, likeness


def _outcomes(shown: Impressions, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return outcomes of the impressions `rows` [n] in standard units, float32 [n, 2 + F], and a mask of known ones.

    Constant outcomes count as unknown: their error would be 0 and their likelihood would outweigh all others.
    """
    ends = _ends(shown)[rows]
    wait = np.log(np.maximum(np.diff(shown.timestamp, append=0)[rows], 1))
    values = np.column_stack([ends, wait, shown.feedback[rows + 1]]).astype(np.float64)
    known = np.ones(values.shape, dtype=bool)
    known[:, 1] = ends
    mean = values.mean(axis=0, where=known)
    deviation = values.std(axis=0, where=known)
    values = (values - mean) / np.where(deviation > 0, deviation, 1.0)
    known &= deviation > 1e-9 * np.abs(mean)  # smaller deviations are rounding
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(known.astype(np.float32))


@dataclass(frozen=True)
class _Model:
    """The impressions [n] with a following one; `now` and `then`: embeddings of their items and of the next items."""

    user: Tensor
    items: Tensor
    likeness: Tensor
    now: Tensor
    then: Tensor
    outcomes: Tensor
    known: Tensor

    def fit(self, users: int) -> tuple[float, float, np.ndarray]:
        """Return the loss, tau, and the tastes w [users, A], in units of `items` and `likeness`."""
        torch.manual_seed(0)
        width, count = self.items.shape[1], self.outcomes.shape[1]
        taste, own_taste, own_index = torch.zeros(width), 0.02 * torch.randn(users, width), torch.zeros(users)
        tau, level, own_level = torch.zeros(()), torch.zeros(count), torch.zeros(users, count)
        slope, curve, item = torch.full((count,), 0.3), torch.zeros(count), torch.zeros(count, width)
        slope[:2] = -0.3  # satisfied users stay, and come back soon
        parameters = [taste, own_taste, own_index, tau, level, own_level, slope, curve, item]
        optimizer = torch.optim.Adam([one.requires_grad_() for one in parameters], lr=_RATE)
        told = self.known.any(dim=0)
        total = self.known.sum(dim=0)[told]
        for step in range(_STEPS):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min(1.0, 2.0 * (1.0 - step / _STEPS))
            index = own_index[self.user] + (self.items * (taste + own_taste[self.user])).sum(1) - tau * self.likeness
            s = torch.tanh(index / 2)[:, None]
            direct = torch.cat([self.now @ item[:2].T, self.then @ item[2:].T], dim=1)
            error = self.outcomes - (level + own_level[self.user] + s * slope + s.square() * curve + direct)
            loss = 0.5 * (total * ((error.square() * self.known).sum(dim=0)[told] / total).log()).sum()
            ridge = _RIDGE * (own_taste.square().sum() + 0.3 * own_index.square().sum()) + 2 * own_level.square().sum()
            optimizer.zero_grad()
            ((loss + ridge) / len(self.user)).backward()
            optimizer.step()
        # The index has the sign of staying.
        sign = -1.0 if float(slope.detach()[0]) > 0 else 1.0
        return float(loss.detach()), sign * float(tau.detach()), (taste + own_taste).detach().numpy()
