"""An ensemble of models of users of different kinds, and the support of policies by the log.

Models of one kind differ less from each other than from the truth. The disagreement of kinds is a better measure of
their error, and is part of every interval (docs/results/truth.md).

The support of a policy by the log is the share of its impressions with histories like logged ones. A log shows the
effect of an item on users with logged histories. A policy that shows one topic for hours leads users to histories that
the log does not contain. Its effect there is unknown: it harms if users tire, and may be the best policy otherwise
(docs/evaluation.md). Histories are described by the exposure to the item and its kinds, and by the running means of
exposures and embeddings. An impression is supported if each of them lies within the range of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import ray

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.ids import repetition_seed
from prefrec_ray.runtime.progress import Progress, silent
from prefrec_ray.runtime.tasks import run_tasks
from prefrec_ray.users import WARM
from prefrec_ray.users.checks import IMPRESSIONS, Specification, specification_test
from prefrec_ray.users.fit import KINDS, fit_member
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import Inputs
from prefrec_ray.users.member import FoundError, Member
from prefrec_ray.users.roll_out import KEPT_EVERY, Platform

#: Share of logged impressions that are within all ranges.
WITHIN = 0.99


@dataclass(frozen=True)
class LoggedPasts:
    """Ranges of the inputs in `columns` int64 [P] that contain the share WITHIN of the log: `low` and `high` [P]."""

    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def from_histories(cls, data: Histories, inputs: Inputs, logged: np.ndarray) -> LoggedPasts:
        """Create from impressions of `data` at the positions that roll-outs record, if there are any.

        `logged`: `inputs.logged(data)`. All inputs have equal tails outside of their ranges.
        """
        step = np.arange(len(data.row)) - data.starts[data.user]
        late = np.flatnonzero((step >= WARM) & (step % KEPT_EVERY == 0))
        columns = np.flatnonzero(inputs.history)
        values = logged[np.ix_(late, columns)] if len(late) else logged[:, columns]
        ordered = np.sort(values, axis=0)
        outermost = np.full(len(values), len(values))  # rank of an impression's most extreme input, from 1
        for own, column in zip(ordered.T, values.T, strict=True):
            below = np.searchsorted(own, column, side="right")
            above = len(own) - np.searchsorted(own, column, side="left")
            outermost = np.minimum(outermost, np.minimum(below, above))
        cut = max(1, int(np.quantile(outermost, 1 - WITHIN, method="lower")))
        return cls(columns, ordered[cut - 1], ordered[-cut])

    def share(self, inputs: np.ndarray) -> float:
        """Return the share of impressions with `inputs` [..., W] that are supported; 1 if there are none."""
        values = inputs[..., self.columns].reshape(-1, len(self.columns))
        values = values[~np.isnan(values).any(axis=1)]  # NaN: items that were not examined
        return float(((values >= self.low) & (values <= self.high)).all(axis=1).mean()) if len(values) else 1.0


@dataclass(frozen=True)
class Ensemble:
    """Fitted models, the range of the log's histories, and the specification test of each model, if requested."""

    members: Sequence[Member]
    pasts: LoggedPasts
    tests: Sequence[Specification] = ()

    @property
    def kinds(self) -> list[str]:
        return [KINDS[number % len(KINDS)].name for number in range(len(self.members))]

    @property
    def corrections(self) -> list[FoundError | None]:
        """Return the error of each model that its test found, if every model is rejected; otherwise None for each.

        A model that passes has the law of the log, and its difference from the others is a part of intervals.
        """
        every = bool(self.tests) and all(test.rejected for test in self.tests)
        return [test.error if every else None for test in self.tests]


class Fits(NamedTuple):
    """Ray tasks that fit an ensemble: `members` return a model and its test or None each, `pasts` `LoggedPasts`.

    `held`: `Histories` of the users of the tests, who are in no part of the fits; None without tests.
    """

    members: Sequence[ray.ObjectRef]
    pasts: ray.ObjectRef
    held: ray.ObjectRef | None

    def ensemble(self, progress: Progress = silent) -> Ensemble:
        """Wait for the tasks, and return the ensemble. Raises the errors of the tasks."""
        fitted = run_tasks(lambda task: task, self.members, "fit models of users: models", progress)
        return Ensemble(
            [member for member, _ in fitted], ray.get(self.pasts), [test for _, test in fitted if test is not None]
        )


def start_fits(
    uri: str, histories: ray.ObjectRef, seed: int, models: int = len(KINDS), held: ray.ObjectRef | None = None
) -> Fits:
    """Start to fit `models` models to the `Histories` of some users, the kinds in turn. Ray must run.

    Each is tested (checks.py) with the `Histories` of the users `held`, if any. The result depends only on the
    arguments. Histories must be long enough (`check_long_enough`). `uri`: the data set.
    """
    inputs, made, pasts = _inputs.remote(uri, histories)
    members = [_fit.remote(number, inputs, histories, made, seed, uri, held) for number in range(models)]
    return Fits(members, pasts, held)


@ray.remote(num_cpus=1, num_returns=3)
def _inputs(uri: str, data: Histories) -> tuple[Inputs, np.ndarray, LoggedPasts]:
    """Return the inputs of a data set, their values for the examined impressions of `data`, and the log's range."""
    dataset = PreparedDataset.open(uri)
    items = dataset.items()
    data = data.examined_only(items.kinds)
    if not data.ends.any():
        raise UserError(
            f"{uri}: no user of the sample has two sessions; expected longer histories, or estimators without 'model'"
        )
    inputs, logged = Inputs.from_histories(dataset.state, dataset.normaliser, items, data)
    pasts = LoggedPasts.from_histories(data, inputs, logged)
    return inputs, inputs.scaled(logged), pasts


@ray.remote(num_cpus=1)
def _fit(
    number: int, inputs: Inputs, data: Histories, made: np.ndarray, seed: int, uri: str, held: Histories | None
) -> tuple[Member, Specification | None]:
    """Fit model `number` of the data set at `uri`, and test it with the users `held`; None: no test."""
    own_seed = repetition_seed(seed, number)
    member = fit_member(KINDS[number % len(KINDS)], inputs, data.examined_only(inputs.kinds), made, own_seed)
    if held is None:
        return member, None
    dataset, users = PreparedDataset.open(uri), np.arange(len(held.starts))
    weight = dataset.metadata.mixture_weight
    platform = Platform(
        dataset.state, dataset.normaliser, dataset.items(), held, users, weight, IMPRESSIONS, rest_ms=0.0
    )
    return member, specification_test(platform, member, own_seed)
