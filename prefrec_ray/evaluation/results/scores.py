"""Records from scores by user: means, and bootstrap intervals over users (not over sessions or impressions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from prefrec_ray.engagement import MAX_LEVEL
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import Subject
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.settings import Task

RESAMPLES = 1000
#: Standard deviations in half of a 95 % interval.
Z = 1.96


@dataclass(frozen=True)
class Scores:
    """Scores of one estimator on one task: U users, L subjects, K networks.

    `networks`: means over users for each network, of the subjects and of the logging policy. Intervals contain their
    scatter. `of_kinds`: networks are models of different kinds, and intervals contain their disagreement.
    """

    task: Task
    estimator: str
    subjects: Sequence[Subject]
    values: np.ndarray  # float64 [U, L]
    logging: np.ndarray  # float64 [U], of the logging policy
    ess: np.ndarray | None  # float64 [L]
    counts: Mapping[str, Any]  # int: users, sessions, users_left_out
    settings: Mapping[str, Any]
    networks: tuple[np.ndarray, np.ndarray] | None = None  # [K, L], [K, 1]
    own: Sequence[Mapping[str, Any]] = ()  # fields of each subject's record; `settings` are added to the common ones
    of_kinds: bool = False
    relative_error: np.ndarray | None = None  # [L], of a gain; intervals contain it
    current: int | None = None  # column of the current policy, with which policies are compared

    def records(self, seed: int) -> list[Record]:
        """Return one record per subject; `seed` draws the users of the bootstrap.

        Raises `UserError` if a value is not finite, for example of an estimator of a plug-in.
        """
        if not (np.isfinite(self.values).all() and np.isfinite(self.logging).all()):
            raise UserError(f"evaluation: estimator '{self.estimator}': found a value that is not finite")
        means, logging_mean = self.values.mean(axis=0), float(self.logging.mean())
        policies = [i for i, subject in enumerate(self.subjects) if subject.role == "policy"]
        best = max(policies, key=lambda i: means[i], default=0)
        low, high, reaches = self._intervals(best, seed)
        records = []
        for i, subject in enumerate(self.subjects):
            own: dict[str, Any] = dict(self.own[i]) if i < len(self.own) else {}
            settings = {**self.settings, **own.pop("settings", {})}
            if i in policies and i != best:
                behind = {"behind_ci_low": float(low[2, i]), "behind_ci_high": float(high[2, i])}
                own |= {"best": self.subjects[best].name, **behind}
            if i in policies and self.current is not None:
                over = float(means[i] - means[self.current])
                own |= {"gain_over_current": over, "gain_over_current_ci": (float(low[3, i]), float(high[3, i]))}
            record = Record(
                method=subject.method,
                task=self.task,
                estimator=self.estimator,
                subject=subject.name,
                role=subject.role,
                value=within(means[i]),
                ci_low=float(low[0, i]),
                ci_high=float(high[0, i]),
                reaches_end=bool(reaches[i]),
                ess=None if self.ess is None else float(self.ess[i]),
                behaviour=within(logging_mean),
                gain_ci_low=float(low[1, i]),
                gain_ci_high=float(high[1, i]),
                **self.counts,
                settings=settings,
                **own,
            )
            records.append(record)
        return records

    def _intervals(self, best: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return low and high bounds [D, L], and a mask [L] of values with an interval that reaches 0 or MAX_LEVEL.

        The rows are the values, the gains over the logging policy, the lead of the best subject, and the gains over the
        current policy if there is one. The mask is computed before the errors of models are added.

        Bounds are clipped to the possible range. The true value lies in this range, so that clipping does not change
        the coverage. With only one user a resample is always this user, and the bounds are the whole range.
        """
        gains, behind = self.values - self.logging[:, None], self.values[:, [best]] - self.values
        columns = [self.values, gains, behind]
        if self.current is not None:
            columns.append(self.values - self.values[:, [self.current]])
        drawn = bootstrap_interval(np.hstack(columns), seed)
        low, high = (bound.reshape(len(columns), -1) for bound in drawn)
        if len(self.values) < 2:
            low, high = low - MAX_LEVEL, high + MAX_LEVEL
        means = np.stack([column.mean(axis=0) for column in columns])
        errors = np.zeros_like(means)
        if self.networks is not None:
            own, logging = self.networks
            repeated = [own, own - logging, own[:, [best]] - own]
            if self.current is not None:
                repeated.append(own - own[:, [self.current]])
            by_network = np.stack(repeated, axis=1)
            if self.of_kinds:
                errors = error_of_kinds(by_network)
            else:
                low, high = widened(low, high, by_network)
        reaches = ~((low[0] > 0) & (high[0] < MAX_LEVEL))  # also True for NaN
        if self.relative_error is not None:
            share, of_gain = self.relative_error, self.relative_error * np.abs(means[1])
            of_models = [of_gain, of_gain]
            for difference, other in zip(means[2:], [best, self.current], strict=False):
                # The error of the difference of two gains is a share of it, and at most the sum of their errors.
                proportional = np.maximum(share, share[other]) * np.abs(difference)
                of_models.append(np.minimum(proportional, of_gain + of_gain[other]))
            errors = np.hypot(errors, np.stack(of_models))
        errors[0] = errors[1]  # a level is the logging policy's, which the log shows, and a gain
        low, high = means - np.hypot(means - low, errors), means + np.hypot(high - means, errors)
        least, most = np.array([[0]] + [[-MAX_LEVEL]] * (len(columns) - 1)), MAX_LEVEL
        return low.clip(least, most), high.clip(least, most), reaches


class Findings(NamedTuple):
    """Results of an estimator: its scores, and other fields of the `Evaluation` by name, if any."""

    scores: Sequence[Scores]
    fields: Mapping[str, Any] = {}


def within(level: float) -> float:
    return float(np.clip(level, 0, MAX_LEVEL))


def bootstrap_interval(values: np.ndarray, seed: int, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile interval of the mean over users: (low, high), each [...], for `values` [U, ...].

    All columns have the same bootstrap samples, so that the interval of a difference of two columns is paired.
    """
    rng = np.random.default_rng(seed)
    users = len(values)
    flat = values.reshape(users, -1).astype(np.float64)
    means = np.empty((resamples, flat.shape[1]))
    for draw in range(resamples):
        times_drawn = np.bincount(rng.integers(0, users, users), minlength=users)
        means[draw] = times_drawn @ flat / users
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def widened(low: np.ndarray, high: np.ndarray, repeated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widen the 95 % intervals (low, high) [...] of a mean by the scatter of its repetitions `repeated` [K, ...].

    The error of a mean of K values (Student's t) and the error over users are independent: half-widths add as squares.
    One repetition has no scatter.

    Each repetition has its own initial weights, order of batches and bootstrap sample of training users. The difference
    of the training users from other users is an error common to all repetitions, for which division by sqrt(K) is too
    optimistic. It is at most half of the scatter; Student's t compensates for it.
    """
    mean, half = repeated.mean(axis=0), mean_error(repeated)
    return mean - np.hypot(mean - low, half), mean + np.hypot(high - mean, half)


def mean_error(repeated: np.ndarray, missed: float = 0.05) -> np.ndarray:
    """Return the half-width [...] of an interval of the mean of `repeated` [K, ...], by Student's t.

    The interval misses the mean with the probability `missed`. The half-width is 0 for less than two repetitions.
    """
    count = len(repeated)
    if count < 2:
        return np.zeros(repeated.shape[1:])
    return stdtrit(count - 1, 1 - missed / 2) * repeated.std(axis=0, ddof=1) / np.sqrt(count)


def disagreement(by_model: np.ndarray, missed: float = 0.05) -> np.ndarray:
    """Return the half-width [...] of the interval of a truth that differs from models as they differ from each other.

    `by_model` [K, ...]: means in K models of different kinds. More users do not reduce this error. The truth is a
    further draw from the normal distribution of the models, whose deviation is estimated from K values (Student's t).
    `missed`: probability that it is further than this from the mean of the distribution. 0 for less than two models.
    """
    return mean_error(by_model, missed) * np.sqrt(len(by_model))


def error_of_kinds(by_model: np.ndarray, missed: float = 0.05) -> np.ndarray:
    """Return the half-width [...] of an interval around the mean of models of different kinds [K, ...].

    It is the prediction interval of a further draw from a normal distribution, t s sqrt(1 + 1 / K). `missed`:
    probability that the draw is outside, under this distribution.
    """
    return np.hypot(mean_error(by_model, missed), disagreement(by_model, missed))
