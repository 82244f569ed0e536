"""Would weights correct a model of users? What its heads miss of the requests that a policy would make, in the log.

    python -m benchmarks residuals DATASET [--policies POLICY ...]

A model is fitted on half of the training users and asked about the other half, and the other way round. Each request
is weighed by the product of pi / b over its user's last requests, b as logged, pi of random items and of each POLICY
(one that samples from all items): that is the correction that a doubly robust estimate would add, a request at a time.
bench/residuals.csv has a row a policy and window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import FOLDER, markdown
from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.histories import Histories, histories_of
from prefrec_ray.evaluation.names import RANDOM_ITEMS
from prefrec_ray.evaluation.trajectories import read_trajectories
from prefrec_ray.evaluation.user_model import fit_user_model
from prefrec_ray.evaluation.weighted import log_chances
from prefrec_ray.evaluation.weights import kish, repeats
from prefrec_ray.policy import Policy

#: Requests whose weights are multiplied.
WINDOWS = (1, 2, 4)
RESAMPLES = 500


@dataclass(frozen=True)
class Residuals:
    """Of requests [n] that another one follows: `row` in the histories, `user`, whether the session `ends`, the chance
    that a model gave that, and of the log of the time away, in deviations, what it missed (0 where none ends)."""

    row: np.ndarray
    user: np.ndarray
    ends: np.ndarray
    chance: np.ndarray
    away: np.ndarray


def main(dataset: Path, policies: Sequence[Path] = ()) -> dict[str, Any]:
    """Prints a line a policy and window."""
    torch.set_num_threads(1)
    opened = PreparedDataset.open(str(dataset))
    data, logged = histories_of(opened, "train", 0), read_trajectories._function(opened.uri, "train", 0, 10**9)
    assert np.array_equal(data.row, logged.row), "not the same requests"
    missed = residuals(data, opened)
    rows = []
    for policy in (None, *policies):
        served = None if policy is None else Policy.load(str(policy))
        log_pi = log_chances(served, logged, len(opened.items()), repeats(logged))
        log_weight = log_pi - np.log(logged.propensity)
        name = RANDOM_ITEMS if policy is None else policy.name
        rows += [
            {"policy": name, "requests": window, **weighed(log_weight, data, missed, window)} for window in WINDOWS
        ]
    storage.write_csv(storage.make_room(str(FOLDER / "residuals.csv")), rows)
    print(markdown(tuple(rows[0]), [list(map(str, row.values())) for row in rows]))
    return {"rows": rows}


def residuals(data: Histories, dataset: PreparedDataset) -> Residuals:
    """What models miss of users that they were not fitted on; users' intercepts are those that their own logs say."""
    order = np.random.default_rng(0).permutation(len(data.starts))
    halves = [np.sort(order[::2]), np.sort(order[1::2])]
    parts = []
    for asked, fitted in (halves, halves[::-1]):
        model, half = fit_user_model(data.take(fitted), dataset.state, 0), data.take(asked)
        people = model.people(half)
        known, own = model.known(half, partial(model.inputs.logged, half, people=people)), people.intercepts
        row = np.flatnonzero(data.followed & np.isin(data.user, asked))
        chance = 1.0 / (1.0 + np.exp(-(known.stays + own[known.user, 0])))
        away = np.where(known.ends, known.error - own[known.user, 1], 0.0)
        parts.append((row, data.user[row], known.ends, chance, away))
    return Residuals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def weighed(log_weight: np.ndarray, data: Histories, missed: Residuals, window: int) -> dict[str, Any]:
    """Weighted means of the residuals, less the plain ones, ± their standard error over users."""
    running = np.concatenate([[0.0], np.cumsum(log_weight)])
    row = np.arange(len(log_weight))
    recent = running[1:] - running[row - np.minimum(row - data.starts[data.user], window - 1)]
    recent = recent[missed.row]
    weight = np.exp(recent - recent.max())
    drawn = np.random.default_rng(0).multinomial(
        len(data.starts), np.full(len(data.starts), 1 / len(data.starts)), RESAMPLES
    )

    def mean(values: np.ndarray, by: np.ndarray) -> tuple[float, float]:
        above, below = (np.bincount(missed.user, column, len(data.starts)) for column in (values * by, by))
        return float(above.sum() / below.sum()), float((drawn @ above / (drawn @ below)).std())

    one = np.ones(len(weight))
    end, end_error = mean(missed.ends - missed.chance, weight)
    away, away_error = mean(missed.away, weight * missed.ends)
    return {
        "effective": round(kish(recent) * len(recent)),
        "of": len(recent),
        "ends": round(mean(missed.chance, weight)[0], 3),
        "ends_missed": round(end - mean(missed.ends - missed.chance, one)[0], 4),
        "ends_error": round(end_error, 4),
        "away_missed": round(away - mean(missed.away, one * missed.ends)[0], 3),
        "away_error": round(away_error, 3),
    }
