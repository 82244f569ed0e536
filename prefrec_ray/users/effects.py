"""Effects of items on users, estimated before the networks: of kinds of items, and of embeddings at each time of day.

Networks of embeddings cannot learn that neighbouring kinds differ. They learn products of the clock and the embedding
slowly, and no running mean of embeddings shows that an item was good in the morning only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrec_ray.mdp.kinds import effects_of_items, kind_effects
from prefrec_ray.users.histories import Histories

#: Impressions after an item in which its effect on session ends and times away is looked for.
AHEAD = 32
#: Users with equal remainders by this number form a part. Two parts are a half, and are compared for the signal.
_PARTS = 4
#: Ridge penalty of the effects by time, as a share of the mean variance. Weekdays are collinear.
_RIDGE = 1e-4
#: Rows of one product of matrices.
_CHUNK = 8192


@dataclass(frozen=True)
class Effects:
    """Effects of I items on O = F + 2 outcomes: feedback, and session ends and times away in the next `AHEAD`
    impressions.

    The effect of an item at a time with the C columns t of a scaled state is that of its kinds, plus the sum over c of
    t_c (embedding - `center`) . `by_time`[c]. Effects are estimated from users with even numbers, from the others, and
    from all users. A fit uses the half without the user (`half` = 1 - number % 2), because outcomes would explain
    themselves; other users have the effects from all (`half` = 2).
    """

    of_kinds: np.ndarray  # float32 [3, I, O]
    center: np.ndarray  # float32 [A], mean logged embedding
    by_time: np.ndarray  # float32 [3, A, C, O]

    @classmethod
    def from_histories(cls, data: Histories, kinds: np.ndarray, time: np.ndarray) -> Effects:
        """Estimate the effects of items with `kinds` int32 [I, K], at the logged times float32 [N, C]."""
        outcomes, number = _outcomes(data), data.user % 2
        halves = [number == 0, number == 1, np.ones(len(number), dtype=bool)]
        center = data.action.mean(axis=0)
        return cls(
            np.stack([_kinds(outcomes[half], data.user[half], data.row[half], kinds) for half in halves]),
            center,
            _by_time(outcomes, data.user, data.action - center, time),
        )

    def at(self, rows: np.ndarray, action: np.ndarray, time: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Return the effects, float32 [n, O], of the items in `rows` [n] with embeddings `action` [n, A] at `time`
        [n, C], from the `half` int64 [n] of the users."""
        effects = self.of_kinds[half, rows]
        for number in np.unique(half):
            of = half == number
            slopes = np.tensordot(action[of] - self.center, self.by_time[number], axes=1)  # [m, C, O]
            effects[of] += np.matmul(time[of, None], slopes)[:, 0]
        return effects


def _outcomes(data: Histories) -> np.ndarray:
    """Return the outcomes of impressions, float64 [N, O]."""
    count = len(data.row)
    stop = np.minimum(np.arange(count) + AHEAD, np.append(data.starts, count)[data.user + 1])
    ends = data.ends.astype(np.float64)

    def ahead(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values)])
        return total[stop] - total[:count]

    left, away = ahead(ends), ahead(np.where(data.ends, np.log(data.wait_ms), 0.0))
    mean_away = float(away.sum() / max(left.sum(), 1.0))
    return np.stack([*data.feedback.T, left, away - left * mean_away], axis=1, dtype=np.float64)


def _kinds(outcomes: np.ndarray, user: np.ndarray, row: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the effects of the kinds of all items, float32 [I, O]."""
    users = np.unique(user, return_inverse=True)[1]
    return np.stack([effects_of_items(kind_effects(each, users, kinds[row]), kinds) for each in outcomes.T], axis=1)


def _by_time(outcomes: np.ndarray, user: np.ndarray, action: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the effects of embeddings by time, float32 [3, A, C, O].

    Outcomes, without a user's mean, are regressed on the embedding and its products with the columns of `time`. The
    slopes of a column are then shrunk by the share of their variance that two parts of the users agree on.
    """
    means = np.stack([np.bincount(user, each) for each in outcomes.T], axis=1) / np.bincount(user)[:, None]
    width, columns = action.shape[1], time.shape[1]
    size = width * (columns + 1)
    squares, moments = np.zeros((_PARTS, size, size)), np.zeros((_PARTS, size, outcomes.shape[1]))
    for part in range(_PARTS):
        rows = np.flatnonzero(user % _PARTS == part)
        for at in np.array_split(rows, max(1, len(rows) // _CHUNK)):
            with_mean = np.insert(time[at], 0, 1.0, axis=1)
            products = (with_mean[:, :, None] * action[at, None]).reshape(len(at), size)
            squares[part] += products.T @ products
            moments[part] += products.T @ (outcomes[at] - means[user[at]])

    def slopes(parts: list[int]) -> np.ndarray:
        total = squares[parts].sum(axis=0)
        ridge = _RIDGE * np.trace(total) / size + 1e-12
        return np.linalg.solve(total + ridge * np.eye(size), moments[parts].sum(axis=0)).reshape(columns + 1, width, -1)

    def shrunk(one: list[int], other: list[int]) -> np.ndarray:
        first, second, both = slopes(one), slopes(other), slopes([*one, *other])
        own = squares[[*one, *other]].sum(axis=0).reshape(columns + 1, width, columns + 1, width)
        for column in range(1, columns + 1):
            variance = own[column, :, column]
            agreed = np.einsum("ao,ab,bo->o", first[column], variance, second[column])
            total = np.einsum("ao,ab,bo->o", both[column], variance, both[column])
            both[column] *= np.clip(agreed / np.maximum(total, 1e-12), 0.0, 1.0)
        return both[1:].transpose(1, 0, 2)

    return np.stack([shrunk([0], [2]), shrunk([1], [3]), shrunk([0, 2], [1, 3])], dtype=np.float32)
