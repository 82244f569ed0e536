"""Specification test and back-test of models of users, on users who are not in the fit.

Specification test: does the error of a model depend on what users were shown? Held-out users are shown their logged
items again, and the model draws what they do (open loop: logged feedback would reveal how users feel, and hide the
error). In a model with the law of the log, the difference between logged and mean simulated engagement has no relation
to anything known before the impression. Gradient boosting looks for a relation to generic features, cross-fitted by
user. Its R2 is compared with its R2 if a simulation takes the place of the log.

The test is necessary, not sufficient: it compares the law of the log, not what the model does beyond it.

Back-test: does the error of a model change within a user's history if the history changes towards a policy's? Users are
shown their logged items again; the error is the logged level minus the simulated level of a part of the history. A
policy leads users to other histories than the log does. The parts that lie further in this direction than the user's
other parts are a small experiment on the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prefrec_ray.mdp.exposure import WINDOWS, RecentRows
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.log_server import server_of_log
from prefrec_ray.users.member import FoundError, Member, known_before
from prefrec_ray.users.roll_out import Platform, simulate

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

#: With 9 simulations in the place of the log, a correct model fails once in 10 tests.
SIMULATIONS = 9
#: Largest numbers of users and of impressions of a user.
USERS, IMPRESSIONS = 150, 150
#: Impressions of a block over which engagement is averaged before its direction is estimated.
_BLOCK = 10
_FOLDS = 2
#: Of the standard normal distribution, for the 95 % interval of the back-test's slope.
_QUANTILE = 1.96
#: Impressions per leaf of a correction: a policy may make frequent what is rare in the log.
_RARE = 20
#: Simulations whose features are compared with those of the log if a model is rejected.
_COMPARED = 2


@dataclass(frozen=True)
class Specification:
    """R2 of the test on the log and on each simulation (`controls`).

    `feature`: the feature whose part of R2 differs most between log and simulations; None if the test is passed.
    `error`: the found error of a rejected model.
    """

    r2: float
    controls: tuple[float, ...]
    feature: str | None
    error: FoundError | None = None

    @property
    def rejected(self) -> bool:
        """Return True if the error of the model depends on the features more than in any simulation."""
        return self.r2 > max(self.controls)


def specification_test(platform: Platform, member: Member, seed: int) -> Specification:
    """Test a model with some users of the `platform`, none of whom it was fitted to.

    The result depends only on the arguments.
    """
    data = platform.data
    long = platform.users[data.lengths[platform.users] > 1][:USERS]
    if not len(long):
        return Specification(0.0, (0.0,), None)
    count = int(min(IMPRESSIONS, data.lengths[long].max())) // platform.page * platform.page
    small = replace(platform, users=long, requests=count)
    rows = data.starts[long][:, None] + np.minimum(np.arange(count), data.lengths[long][:, None] - 1)
    made = np.arange(count) < data.lengths[long][:, None]  # bool [n, T]: the impression is in the log
    logged = _Course.from_log(small, rows)
    drawn = _Course.from_model(small, member, seed)
    weights = _engagement_weights(data, logged.outcomes[0], made)
    engagement, others = logged.outcomes[0] @ weights, drawn.outcomes @ weights
    found = _explained(logged.known[0], engagement - others.mean(axis=0), made)
    total = others.sum(axis=0)
    errors = [own - (total - own) / (SIMULATIONS - 1) for own in others]
    controls = [_explained(own, error, made) for own, error in zip(drawn.known, errors, strict=True)]
    result = Specification(found.r2, tuple(control.r2 for control in controls), None)
    if not result.rejected:
        return result
    # Even a correct model's engagement depends on the sessions of its own course.
    excess = found.importance() - np.mean([control.importance() for control in controls[:_COMPARED]], axis=0)
    name = _names(data.exposure.shape[1])[int(excess.argmax())]
    missed = logged.expected[0] - drawn.expected.mean(axis=0)
    ends = _explained(logged.known[0], missed[..., 0], made, _RARE)
    away = _explained(logged.known[0], missed[..., 1], made & data.ends[rows], _RARE)
    return replace(result, feature=name, error=FoundError(ends.models, away.models))


@dataclass(frozen=True)
class _Course:
    """R courses of T impressions of n users."""

    outcomes: np.ndarray  # float64 [R, n, T, F + 2] (`_outcomes`)
    known: np.ndarray  # float32 [R, n, T, D] (`known_before`)
    expected: np.ndarray  # float64 [R, n, T, 2], as in `member.Outcomes`; for the log the end and log(wait) themselves

    @classmethod
    def from_log(cls, platform: Platform, rows: np.ndarray) -> _Course:
        data = platform.data
        session, number = data.session[rows], np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
        first = np.ones(rows.shape, dtype=bool)
        first[:, 1:] = session[:, 1:] != session[:, :-1]
        opened = np.maximum.accumulate(np.where(first, number, 0), axis=1)
        exposure = data.exposure[rows] if data.examined is None else _to_examined(platform, data.examined, rows)
        known = known_before(exposure, number, data.timestamp[rows], opened)
        ends, wait_ms = data.ends[rows], data.wait_ms[rows]
        own = np.stack([ends, np.log(wait_ms)], axis=-1)
        return cls(_outcomes(data.feedback[rows], ends, wait_ms)[None], known[None], own[None])

    @classmethod
    def from_model(cls, platform: Platform, member: Member, seed: int) -> _Course:
        shape = (SIMULATIONS, len(platform.users), platform.requests, -1)
        copies = replace(platform, users=np.tile(platform.users, SIMULATIONS))
        steps = [
            (_outcomes(step.feedback, step.ends, step.wait_ms), step.known, step.expected)
            for step in simulate(copies, [member], server_of_log(copies), seed)
        ]
        outcomes, known, expected = (np.stack(column, axis=1).reshape(shape) for column in zip(*steps, strict=True))
        return cls(outcomes, known, expected)


def _to_examined(platform: Platform, examined: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the exposure to examined items before the impressions `rows` [n, T] of n users, float32 [n, T, X].

    `rows` begin with the users' first impressions. Items that a user did not examine have no effect in models of users.
    """
    recent, each = RecentRows(len(rows), platform.items.kinds), []
    for step in rows.T:
        shown, users = platform.data.row[step], np.flatnonzero(examined[step])
        each.append(recent.exposures(shown))
        recent.observe(shown[users], users)
    return np.stack(each, axis=1)


def _outcomes(feedback: np.ndarray, ends: np.ndarray, wait_ms: np.ndarray) -> np.ndarray:
    """Return feedback [..., F], session ends [...] and log(time away) at ends, else 0, as float64 [..., F + 2]."""
    away = np.where(ends, np.log(wait_ms), 0.0)
    return np.concatenate([feedback, ends[..., None], away[..., None]], axis=-1, dtype=np.float64)


def _engagement_weights(data: Histories, outcomes: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return the weights [F + 2] whose product with the outcomes of an impression is its engagement, up to a constant.

    Outcomes are in units of their deviations in the log. The direction is the first principal component of means of
    `outcomes` [n, T, F + 2] over blocks of impressions (those in `made`). Noise of single impressions differs between
    outcomes. Means over blocks mainly differ by how users feel.
    """
    middle = np.log(data.wait_ms[data.ends]).mean()
    centred = np.eye(outcomes.shape[-1])
    centred[-2, -1] = -middle  # the time away is a deviation from its mean at ends
    everything = _outcomes(data.feedback, data.ends, data.wait_ms) @ centred
    scaled = centred / np.maximum(everything.std(axis=0), 1e-6)
    return scaled @ _direction(outcomes @ scaled, made)


def _direction(outcomes: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return the first principal component [F + 2] of means over blocks of impressions."""
    blocks = range(0, max(1, outcomes.shape[1] - _BLOCK + 1), _BLOCK)
    whole = [
        outcomes[made[:, first : first + _BLOCK].all(axis=1), first : first + _BLOCK].mean(axis=1) for first in blocks
    ]
    values = np.concatenate(whole)
    if len(values) < 2:
        return np.ones(outcomes.shape[-1])
    return np.linalg.eigh(np.cov(values.T))[1][:, -1]


def _names(exposures: int) -> list[str]:
    """Return the names of the features of `known_before`, with X `exposures`."""
    kinds = (exposures - 1) // (len(WINDOWS) + 1)
    names = [
        name
        for kind in range(kinds)
        for name in (
            *(f"impressions of the item's {_kind(kind)} among the last {window}" for window in WINDOWS),
            f"impressions since the item's {_kind(kind)}",
        )
    ]
    return [
        *names,
        "earlier impressions of the item",
        "number of the impression",
        "hour of the day",
        "position in the session",
    ]


def _kind(number: int) -> str:
    """Return the name of a kind of items: the cluster of embeddings, then kinds from the item file."""
    return "kind" if number == 0 else f"category {number}"


@dataclass(frozen=True)
class _Explained:
    """Cross-fitted regression of an error [m] on features [m, D]: the models, and the rows that each predicts."""

    values: np.ndarray
    error: np.ndarray
    models: Sequence[HistGradientBoostingRegressor]
    held: Sequence[np.ndarray]  # bool [m] each
    r2: float

    def importance(self) -> np.ndarray:
        """Return the rise of the loss [D], as a share, if a feature is permuted among the predicted rows."""
        rng = np.random.default_rng(0)
        losses = np.zeros(self.values.shape[1])
        for model, held in zip(self.models, self.held, strict=True):
            for column in range(len(losses)):
                values = self.values[held]
                values[:, column] = rng.permutation(values[:, column])
                losses[column] += np.square(self.error[held] - model.predict(values)).sum()
        return losses / np.square(self.error).sum() if self.error.any() else losses


def _explained(features: np.ndarray, error: np.ndarray, made: np.ndarray, least: int = 100) -> _Explained:
    """Regress the `error` [n, T] of the impressions `made` on `features` [n, T, D], with `least` of them per leaf.

    Users are in one fold each.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # a second of imports, for evaluations only

    user, values, wanted = np.nonzero(made)[0], features[made], error[made]
    fold = np.random.default_rng(0).permutation(len(made)) % _FOLDS
    held = [own for number in range(_FOLDS) if (own := fold[user] == number).any() and not own.all()]
    models, loss, squares = [], 0.0, 0.0
    for own in held:
        model = HistGradientBoostingRegressor(
            max_iter=60, max_depth=3, learning_rate=0.05, min_samples_leaf=least, random_state=0
        )
        models.append(model.fit(values[~own], wanted[~own]))
        loss += np.square(wanted[own] - model.predict(values[own])).sum()
        squares += np.square(wanted[own] - wanted[~own].mean()).sum()
    return _Explained(values, wanted, models, held, 1.0 - float(loss) / float(squares) if squares else 0.0)


def backtest_error(error: np.ndarray, logged: np.ndarray, policy: np.ndarray) -> float:
    """Return the error of a gain that the errors within users' histories indicate, in levels, at least 0.

    `error` [n, B] of the level of each part of a user's history, `logged` [n, B, P] the mean history of the part in the
    log, `policy` [m, B, P] under the policy. Parts with NaN do not count. Differences between users do not count
    either: levels are relative to a user's mean, and the models have an intercept for each user, from the same log.

    Errors are regressed, within users, on the position of a part in the direction from the log to the policy: the
    direction that best separates both, since inputs are correlated (Fisher's discriminant, with the covariance of
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 88, 2004). The result is the error that the regression predicts at the mean position of the policy, or 0 if
    the 95 % interval of the slope contains 0. Its variance is robust to errors that are correlated within users.
    """
    from sklearn.covariance import ledoit_wolf  # a second of imports, for evaluations only

    counted = np.isfinite(error) & np.isfinite(logged).all(axis=2)
    counted &= counted.sum(axis=1, keepdims=True) > 1
    user, policy = np.nonzero(counted)[0], policy[np.isfinite(policy).all(axis=2)]
    missed, history = error[counted], logged[counted].astype(np.float64)
    if len(np.unique(user)) < 3 or not len(policy):
        return 0.0
    mean, std = history.mean(axis=0), history.std(axis=0)
    varies = std > 0
    if not varies.any():
        return 0.0
    scaled = ((history - mean)[:, varies]) / std[varies]
    away = (policy.mean(axis=0, dtype=np.float64) - mean)[varies] / std[varies]
    direction = np.linalg.solve(ledoit_wolf(scaled, assume_centered=True)[0], away)
    missed, place = _within(user, missed), _within(user, scaled @ direction)
    squares = float(place @ place)
    if squares == 0:
        return 0.0
    slope = float(place @ missed) / squares
    variance = float(np.square(np.bincount(user, place * (missed - slope * place))).sum()) / squares**2
    return abs(slope * float(away @ direction)) if slope**2 > _QUANTILE**2 * variance else 0.0


def _within(user: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return `values` [m] minus the mean of their user, who counts from 0."""
    return values - (np.bincount(user, values) / np.maximum(np.bincount(user), 1))[user]
