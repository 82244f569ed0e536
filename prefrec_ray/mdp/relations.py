"""What candidates have in common with a user's past items: the columns of a plain model of items in a history.

A user may tire of a topic, grow fond of a maker, or need a pause between two items of a kind. Such laws depend on the
pair of a candidate and a history, not on either of them. Neither the columns nor their constants are those of a law:
counts and means of feedback over similar items and items of the same kind, with how long ago they were.
"""

from __future__ import annotations

import numpy as np

from prefrec_ray.mdp.items import ItemTable

#: Past impressions of a user that are kept.
HISTORY = 50
#: Half-lives of the mean likeness to past items, impressions.
HALF_LIVES = (3, 12, 40)
#: Last impressions in which items of a kind are counted.
WINDOWS = (5, 15, HISTORY)
#: Last impressions over which a user's feedback is averaged.
MEANS = (3, 10, 30, HISTORY)
#: Weight of a past item with likeness c to a candidate: exp(SHARPNESS (c - 1)).
SHARPNESS = 6.0
#: Weight of the user's mean feedback in the feedback on similar items, and on items of a kind.
OF_MEAN = (0.1, 1.0)
#: Hours since an impression are cut off here, also if there is none.
MOST_HOURS = 500.0

_AGE = np.arange(HISTORY - 1, -1, -1)
_RECENT = np.exp2(-_AGE[:, None] / np.array(HALF_LIVES)).astype(np.float32)  # [HISTORY, half-lives]
_IN_WINDOW = (_AGE[:, None] < np.array(WINDOWS)).astype(np.float32)  # [HISTORY, windows]
_PLACE = np.arange(1, HISTORY + 1, dtype=np.uint8)


class Relations:
    """The last `HISTORY` impressions of n users, oldest first, who advance in lock-step.

    Memory: 24 + 4 F bytes per past impression of a user, with F feedback columns.
    """

    def __init__(self, items: ItemTable, users: int, feedback: int, session_gap_ms: int) -> None:
        """Args: the table of items, the numbers n and F, and the pause that ends a session."""
        norm = np.linalg.norm(items.embeddings, axis=1, keepdims=True)
        unit = items.embeddings / np.maximum(norm, 1e-9)
        # The last row stands for no item: it is like no item.
        self._unit = np.concatenate([unit, np.zeros((1, unit.shape[1]), np.float32)])
        self._kinds = [] if items.kind_codes is None else [np.append(codes, -1) for codes in items.kind_codes.T]
        self._gap = session_gap_ms
        self.rows = np.full((users, HISTORY), -1)
        self.feedback = np.zeros((users, HISTORY, feedback), np.float32)
        self.time_ms = np.zeros((users, HISTORY), np.int64)
        self.count = np.zeros(users, np.int64)
        self.depth = np.zeros(users, np.int64)  # impressions so far in the session of the last one

    def observe(self, time_ms: np.ndarray, rows: np.ndarray, feedback: np.ndarray) -> None:
        """Append one impression per user: int64 [n], rows of the table of items [n], float32 [n, F]."""
        self.depth = np.where(self._in_session(time_ms), self.depth, 0) + 1
        for past, new in ((self.time_ms, time_ms), (self.rows, rows), (self.feedback, feedback)):
            past[:, :-1] = past[:, 1:]
            past[:, -1] = new
        self.count += 1

    def of_items(self, time_ms: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return float32 [n, m, columns] for the candidates `rows` [n, m] at `time_ms` [n].

        Columns: mean likeness at each half-life, likeness to the last item, highest likeness, impressions of the item
        itself, weight of similar items and the feedback on them; for each kind the impressions in each window,
        impressions and hours since the last one, and the feedback.
        """
        there = (self.rows >= 0).astype(np.float32)[:, :, None]
        like = self._unit[rows] @ self._unit[self.rows].swapaxes(1, 2)
        recent = _RECENT * there
        columns = [like @ (recent / np.maximum(recent.sum(axis=1, keepdims=True), 1e-3)), like[:, :, -1:]]
        columns += [like.max(axis=2, keepdims=True)]
        columns += [(self.rows[:, None, :] == rows[:, :, None]).sum(axis=2, keepdims=True, dtype=np.float32)]
        outcome = np.concatenate([there, self.feedback], axis=2)
        mean = self.feedback.sum(axis=1) / np.maximum(there.sum(axis=1), 1.0)
        near = np.exp(SHARPNESS * (like - 1.0)) @ outcome
        columns += [near[:, :, :1], _shrunk(near, mean, OF_MEAN[0])]
        # Place 0 of the hours is for a kind that was not shown.
        hours = np.minimum((time_ms[:, None] - self.time_ms) / 3_600_000, MOST_HOURS)
        hours = np.concatenate([np.full((len(hours), 1), MOST_HOURS), hours], axis=1).astype(np.float32)
        for codes in self._kinds:
            past = codes[self.rows]
            past = np.where(past < 0, -2, past)  # an unknown kind is not a kind
            same = past[:, None, :] == codes[rows][:, :, None]
            last = (same.view(np.uint8) * _PLACE).max(axis=2).astype(np.int64)
            found = same.astype(np.float32) @ np.concatenate(
                [np.broadcast_to(_IN_WINDOW, (len(past), *_IN_WINDOW.shape)), outcome], axis=2
            )
            since = np.stack([HISTORY - last, np.take_along_axis(hours, last, axis=1)], axis=2)
            columns += [found[:, :, : len(WINDOWS)], since, _shrunk(found[:, :, len(WINDOWS) :], mean, OF_MEAN[1])]
        return np.concatenate(columns, axis=2, dtype=np.float32)

    def of_users(self, time_ms: np.ndarray) -> np.ndarray:
        """Return float32 [n, columns] at `time_ms` [n]: what is the same for all candidates.

        Columns: hour of the day, day of the week, impressions so far, mean feedback in each of `MEANS`, impressions so
        far in the session, hours since the last impression.
        """
        shown = self.rows >= 0
        hours = np.minimum((time_ms - self.time_ms[:, -1]) / 3_600_000, MOST_HOURS)
        count = [np.maximum(shown[:, -last:].sum(axis=1), 1)[:, None] for last in MEANS]
        means = [self.feedback[:, -last:].sum(axis=1) / n for last, n in zip(MEANS, count, strict=True)]
        clock = [time_ms / 3_600_000 % 24, time_ms // 86_400_000 % 7, self.count]
        inside = [np.where(self._in_session(time_ms), self.depth, 0), np.where(self.count > 0, hours, MOST_HOURS)]
        return np.concatenate([np.stack(clock, axis=1), *means, np.stack(inside, axis=1)], axis=1).astype(np.float32)

    def _in_session(self, time_ms: np.ndarray) -> np.ndarray:
        return (self.count > 0) & (time_ms - self.time_ms[:, -1] <= self._gap)


def _shrunk(sums: np.ndarray, mean: np.ndarray, weight: float) -> np.ndarray:
    """Return the mean feedback from `sums` [n, m, 1 + F] of weights and feedback, with `weight` of the user's mean."""
    return (sums[:, :, 1:] + weight * mean[:, None]) / (sums[:, :, :1] + weight)
