"""One model of users: feedback, session ends and the time until the next impression.

With the tracker, which computes the next state, it is an environment for roll-outs of a policy. Three distributions:

    feedback ~ P(. | inputs)    ends ~ P(. | inputs, feedback)    time away ~ P(. | inputs, feedback)

The time away follows an accelerated failure time model, log(time) = mu(inputs, feedback) + u + e, with e drawn from its
residuals. Unlike bins, it extrapolates to users who return sooner than most of the log. Users have random intercepts u
of the time away and of the logit of an end (a mixed model), which represent traits independent of the shown items.

A session ends with a page. The logit and mu of a page are the means over its examined items, as items of a page do not
interact (SlateQ: Ie et al. 2019). Items that the user did not examine (mdp/examination.py) have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prefrec_ray.ids import run_lengths, taken_runs
from prefrec_ray.mdp.excluded import HOUR_MS
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Inputs
from prefrec_ray.users.traits import Known, Spread, intercepts

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

#: A time away is at most exp(_LONGEST), about a thousand times, the mean.
_LONGEST = 7.0
#: Impressions of one forward pass.
_CHUNK = 8192
#: A corrected chance of an end is at least this, and at most 1 minus this.
_LEAST_CHANCE = 1e-3
#: Bins of a feedback column, and the largest number of values from which they are made and drawn.
BINS = 16
_KEPT = 50_000


@dataclass(frozen=True)
class Bins:
    """Quantile bins of a number, with which a classifier can draw from any distribution.

    The bins are of ascending `values` [n]. Bin k starts at `first[k]`; `edges` [K] are the lowest values of the bins.
    """

    values: np.ndarray
    edges: np.ndarray
    first: np.ndarray

    @classmethod
    def from_values(cls, values: np.ndarray, rng: np.random.Generator) -> Bins:
        """Create bins with equal shares of `values` (at least one value), or one bin per value if there are few."""
        kept = np.sort(values if len(values) <= _KEPT else rng.choice(values, _KEPT, replace=False))
        unique = np.unique(kept)
        edges = unique if len(unique) <= BINS else np.unique(kept[np.arange(BINS) * len(kept) // BINS])
        return cls(kept, edges, np.searchsorted(kept, edges))

    def __len__(self) -> int:
        return len(self.edges)

    def code(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of each value, int64 [n]. Values below the lowest edge are in the first bin."""
        return np.maximum(np.searchsorted(self.edges, values, side="right") - 1, 0)

    def draw(self, logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draw values [n]: a bin by the softmax of `logits` [n, K], then any of its values.

        `uniform` [2, n] is below 1.
        """
        weights = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64).cumsum(axis=1)
        bins = np.minimum((weights <= (uniform[0] * weights[:, -1])[:, None]).sum(axis=1), len(self) - 1)
        return self.values[self.first[bins] + (uniform[1] * self._counts[bins]).astype(np.int64)]

    @cached_property
    def _counts(self) -> np.ndarray:
        """Return the number of values of each bin, int64 [K]."""
        return run_lengths(self.first, len(self.values))


def known_before(exposure: np.ndarray, number: np.ndarray, time_ms: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """Return the features of an impression that are known before it, without feedback, float32 [..., D].

    They are the `exposure` [..., X] to the item, the impression's `number` [...] in the user's history, the hour of the
    day, and the position in the session, whose first impression has the number `opened` [...].
    """
    own = np.stack([number, time_ms / HOUR_MS % 24, number - opened], axis=-1)
    return np.concatenate([exposure, own], axis=-1, dtype=np.float32)


@dataclass(frozen=True)
class FoundError:
    """Regressions of a model's errors on `known_before`, from a specification test (checks.py).

    Roll-outs in the model with the found errors show how much they change a policy's gain. The mean prediction of
    `ends` is the error of the chance that a session ends, the mean prediction of `away` the error of log(time away).
    Without regressions the error is 0.
    """

    ends: Sequence[HistGradientBoostingRegressor]
    away: Sequence[HistGradientBoostingRegressor]

    def corrected(self, leaves: np.ndarray, own: np.ndarray, known: np.ndarray, away_std: float) -> np.ndarray:
        """Return the outputs `leaves` [n, 2] of a member's second network with the errors added.

        `own` [n, 2] are the users' intercepts, `known` [n, D], and `away_std` the unit of the second output.
        """
        chance = 1.0 / (1.0 + np.exp(-(leaves[:, 0] + own[:, 0])))
        chance = np.clip(chance + _mean_prediction(self.ends, known), _LEAST_CHANCE, 1.0 - _LEAST_CHANCE)
        logit = np.log(chance / (1.0 - chance)) - own[:, 0]
        return np.stack([logit, leaves[:, 1] + _mean_prediction(self.away, known) / away_std], axis=1)


def _mean_prediction(models: Sequence[HistGradientBoostingRegressor], known: np.ndarray) -> np.ndarray:
    return np.mean([model.predict(known) for model in models], axis=0) if models else np.zeros(len(known))


class Outcomes(NamedTuple):
    """Outcomes of n impressions."""

    feedback: np.ndarray  # float32 [n, F]
    ends: np.ndarray  # bool [n]: the session ends here
    wait_ms: np.ndarray  # float64 [n], to the next page, at least 1
    leaves: np.ndarray  # float64 [n, 2], outputs of the second network, the mean over the page's examined items
    items: np.ndarray  # int64 [n], examined items of the page
    expected: np.ndarray  # float64 [n, 2], chance of an end, and mean log(time away in ms) at an end


@dataclass(frozen=True)
class Member:
    """A fitted model (fit.py). It uses the inputs in `columns`.

    The first network returns logits of the bins of all feedback columns. The second network, with feedback as an input,
    returns the logit of an end, and mu in units of `away_std`. Waits within sessions are logged ones, drawn at random.
    """

    inputs: Inputs
    columns: np.ndarray  # int64
    answers: nn.Module
    leaves: nn.Module
    feedback: Sequence[Bins]
    pauses: np.ndarray  # float64 [P], logged waits within sessions in ms
    feedback_mean: np.ndarray  # [F]
    feedback_std: np.ndarray  # [F]
    away_mean: float  # of the log of the time away in ms
    away_std: float
    residuals: np.ndarray  # equally likely e, ascending
    spread: Spread  # of the intercepts
    error: FoundError | None = None  # added to the outputs of the second network

    @cached_property
    def _mean_residual(self) -> float:
        return float(self.residuals.mean())

    def intercepts(self, data: Histories, made: np.ndarray) -> np.ndarray:
        """Return the most likely intercepts of the users of `data`, float32 [U, 2]. `made`: their scaled inputs."""
        rows = np.flatnonzero(data.followed & data.opens)
        return intercepts(self.known(data, made, rows), self.spread).astype(np.float32)

    def known(self, data: Histories, made: np.ndarray, rows: np.ndarray) -> Known:
        """Return the session ends of the pages of `data` that begin at `rows`, and the second network's predictions."""
        given = self.predict(data, made, rows)
        error = (np.log(data.wait_ms[rows]) - self.away_mean) / self.away_std - given[:, 1]
        return Known(data.user[rows], len(data.starts), data.ends[rows], given[:, 0], error)

    def predict(self, data: Histories, made: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the outputs of the second network for the pages of `data` that begin at `rows` [n], float64 [n, 2]."""
        parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        with torch.inference_mode():
            given = [self.of_pages(data, made, at).numpy() for at in parts]
        return np.concatenate([np.empty((0, 2)), *given])

    def of_pages(self, data: Histories, made: np.ndarray, rows: np.ndarray) -> Tensor:
        """Return the outputs of the second network for the pages that begin at `rows` [n], [n, 2]: means over items."""
        first, items = taken_runs(data.pages.first, len(data.row), data.pages.of_row[rows])
        outputs: Tensor = self.leaves(self.second(self.used(made[items]), data.feedback[items]))
        if len(items) == len(rows):
            return outputs
        sizes = run_lengths(first, len(items))
        page = torch.from_numpy(np.repeat(np.arange(len(rows)), sizes))
        sums = torch.zeros(len(rows), outputs.shape[1]).index_add(0, page, outputs)
        return sums / torch.from_numpy(sizes.astype(np.float32))[:, None]

    def used(self, made: np.ndarray) -> Tensor:
        """Return the inputs of the first network, from inputs [n, W]."""
        return torch.from_numpy(made if len(self.columns) == made.shape[1] else made.take(self.columns, axis=1))

    def second(self, used: Tensor, feedback: np.ndarray) -> Tensor:
        """Return the inputs of the second network, from the first network's and the feedback [n, F]."""
        scaled = (feedback - self.feedback_mean) / self.feedback_std
        return torch.cat([used, torch.from_numpy(scaled.astype(np.float32))], dim=1)

    def step(
        self,
        made: np.ndarray,
        own: np.ndarray,
        rng: np.random.Generator,
        before: Outcomes | None,
        examined: np.ndarray,
        known: np.ndarray,
    ) -> Outcomes:
        """Draw the outcomes of impressions with scaled inputs `made` [n, W] for users with the intercepts `own` [n, 2].

        `before` are the outcomes of the position before, None for the first position of a page, which all users
        examine. `examined` bool [n]: users who examine a later item. `known` [n, D]: features of the impressions
        (`known_before`), on which an `error` depends. The number of random numbers from `rng` does not depend on the
        inputs.
        """
        n, columns = len(made), len(self.feedback)
        uniform = rng.random((2 * columns + 1, n))
        away, pause = rng.integers(0, len(self.residuals), n), rng.integers(0, len(self.pauses), n)
        with torch.inference_mode():
            used = self.used(made)
            logits, drawn, first = self.answers(used).numpy(), [], 0
            for j, bins in enumerate(self.feedback):
                drawn.append(bins.draw(logits[:, first : first + len(bins)], uniform[2 * j : 2 * j + 2]))
                first += len(bins)
            feedback = np.stack(drawn, axis=1) if drawn else np.empty((n, 0))
            leaves = self.leaves(self.second(used, feedback)).numpy().astype(np.float64)
        if self.error is not None:
            leaves = self.error.corrected(leaves, own, known, self.away_std)
        items = np.ones(n, np.int64)
        if before is not None:
            seen = examined[:, None]
            items = before.items + seen[:, 0]
            leaves = before.leaves + np.where(seen, leaves - before.leaves, 0.0) / items[:, None]
            feedback = np.where(seen, feedback, 0.0)
        chance = 1.0 / (1.0 + np.exp(-(leaves[:, 0] + own[:, 0])))
        ends = uniform[-1] < chance
        mu = self.away_std * (leaves[:, 1] + own[:, 1])
        gone = np.exp(self.away_mean + np.minimum(mu + self.residuals[away], _LONGEST))
        wait_ms = np.maximum(np.where(ends, gone, self.pauses[pause]), 1.0)
        expected = np.stack([chance, self.away_mean + mu + self._mean_residual], axis=1)
        return Outcomes(feedback.astype(np.float32), ends, wait_ms, leaves, items, expected)
