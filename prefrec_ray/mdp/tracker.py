"""States of live users, step by step, for roll-outs and serving; equal to the states of `bulk.py`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from prefrec_ray.engagement import whole_dwell
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.exposure import MEMORY
from prefrec_ray.mdp.frozen import at_once
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import (
    RequestMeans,
    SessionMeans,
    StateDefinition,
    TasteMeans,
    UserFeatures,
    count_columns,
    recency_columns,
    scaled_feedback,
    session_values,
    time_columns,
)
from prefrec_ray.mdp.users import FrozenTracker, UserRows

#: Whole numbers of a user: counts (`depth` is the count of the open session), and times in ms.
_WHOLE = ("requests", "depth", "sessions", "first", "last", "exit", "last_exit", "session_id")
#: For logs with pages also the number of pages, and the last page. `depth` is in pages, `requests` in impressions.
_OF_PAGES = ("pages", "page")


class StateTracker:
    """State vectors of users who start without history, one row per user.

    `user_features`: a table or mapping with n strings per feature (None: unknown), or the number n of users without
    features. Times are in ms, UTC. If they decrease for a user, the clock was wrong before: later times of the user
    become the time of the impression. An impression opens a session after a gap longer
    than the definition's timeout. If session ids (int64) are given, a change of the id opens a session instead; give
    ids always or never. Without `pages` in the definition, or in `observe`, each impression is a page.

    `states` and `observe` take the rows `users` [m] (None: all users in order); all other arguments have one entry per
    row. `observe` takes each user at most once.
    """

    #: Number of observed impressions of items that are not in the table.
    unknown_items: int = 0

    def __init__(
        self, definition: StateDefinition, normaliser: Normaliser, items: ItemTable, user_features: UserFeatures
    ) -> None:
        self._definition, self._normaliser, self._items = definition, normaliser, items
        self._requests_mean, self._tastes_mean = RequestMeans(definition), TasteMeans(definition)
        self._sessions_mean = SessionMeans(definition)
        whole = (*_WHOLE, *(_OF_PAGES if definition.pages else ()))
        numbers: dict[str, np.ndarray] = {name: np.zeros(0, dtype=np.int64) for name in whole}
        numbers["profile"] = np.zeros((0, definition.groups["profile"].stop), dtype=np.float32)
        decays = (self._requests_mean.decay, self._tastes_mean.decay, self._sessions_mean.decay)
        for of, decay in zip(("", "taste_", "session_"), decays, strict=True):
            numbers[f"{of}sums"] = np.zeros((0, len(decay)))
        # Kinds of the last impressions plus 1 (0: none), impression i at position i modulo MEMORY.
        self._kinds = 0 if items.kind_codes is None else items.kind_codes.shape[1]
        numbers["kinds"] = np.zeros((0, MEMORY * self._kinds), dtype=np.int32)
        self._weights, self._taste_weights, self._session_weights = map(MeanDivisors, decays)
        self._users = UserRows(numbers)
        self.grow(user_features)

    def __len__(self) -> int:
        return len(self._users)

    def grow(self, user_features: UserFeatures) -> np.ndarray:
        """Add users without history; return their rows, int64."""
        profile = self._definition.one_hot(user_features)
        rows = self._users.grow(len(profile))
        self._users.write(rows, "profile", profile)
        return rows

    def keep(self, count: int) -> None:
        """Keep the first `count` users."""
        self._users.keep(count)

    def profiles(self, users: np.ndarray) -> np.ndarray:
        """Return features of the users in the rows `users` [m], float32 [m, P] as from `StateDefinition.one_hot`."""
        return self._users.read(self._users.rows(users, len(users), once=False))["profile"]

    def describe(self, users: np.ndarray, profiles: np.ndarray) -> None:
        """Replace the features of the users."""
        self._users.write(self._users.rows(users, len(users)), "profile", profiles)

    def scaled_by(self, normaliser: Normaliser) -> StateTracker:
        """Return a view of the same users with another scale. Both share their observations."""
        other = copy(self)
        other._normaliser = normaliser
        return other

    def use_items(self, items: ItemTable) -> None:
        """Use another item table for later observations. Earlier observations stay as they are."""
        self._items = items

    def states(
        self, timestamps: np.ndarray, session_ids: np.ndarray | None = None, users: np.ndarray | None = None
    ) -> np.ndarray:
        """Return scaled states before impressions at `timestamps` [m], float32 [m, width]. Raises `UserError`."""
        now = np.asarray(timestamps, dtype=np.int64)
        past = self._past(self._users.rows(users, len(now), once=False), now)
        position, sessions, last_exit, session_sums = self._coming(past, now, session_ids)
        raw, groups = np.empty((len(now), self._definition.width), dtype=np.float32), self._definition.groups
        raw[:, groups["profile"]] = past["profile"]
        raw[:, self._requests_mean.columns] = past["sums"] / self._weights.after(past["requests"])
        raw[:, self._tastes_mean.columns] = past["taste_sums"] / self._taste_weights.after(past["requests"])
        raw[:, self._sessions_mean.columns] = session_sums / self._session_weights.after(sessions)
        started = past["requests"] > 0
        since_exit = np.where(sessions > 0, now - last_exit, 0)
        since_request = np.where(started, now - past["last"], 0)
        since_first = np.where(started, now - past["first"], 0)
        raw[:, groups["time"]] = time_columns(now)
        raw[:, groups["recency"]] = recency_columns(since_exit, since_request, position)
        raw[:, groups["counts"]] = count_columns(past.get("pages", past["requests"]), sessions, since_first)
        return self._normaliser(raw, out=raw)

    def recent(self, users: np.ndarray | None = None) -> np.ndarray:
        """Return the kinds of each user's last impressions, int32 [m, MEMORY, K], equal to `exposure.recent_kinds`."""
        past = self._users.read(self._users.rows(users, len(self) if users is None else len(users), once=False))
        position = (past["requests"][:, None] - 1 - np.arange(MEMORY)) % MEMORY
        ring = past["kinds"].reshape(len(position), MEMORY, self._kinds)
        return np.take_along_axis(ring, position[:, :, None], axis=1) - 1

    def observe(
        self,
        timestamps: np.ndarray,
        item_ids: np.ndarray,
        feedback: Mapping[str, np.ndarray],
        session_ids: np.ndarray | None = None,
        dwell_ms: np.ndarray | None = None,
        users: np.ndarray | None = None,
        pages: np.ndarray | None = None,
    ) -> None:
        """Record one impression for each user.

        `pages` int64 [m]: a hash of each page's id. An impression with the page of the user's last impression has the
        time and the session of that page, and its dwell is added. An item that is not in the table has the embedding 0,
        and is counted in `unknown_items`. Raises `UserError` for a missing feedback column, for ids of another type
        than the table's, and for the errors of `states`; nothing is recorded then.
        """
        rows = self._users.rows(users, len(timestamps))
        now = np.asarray(timestamps, dtype=np.int64)
        for name in self._definition.feedback:
            if name not in feedback:
                raise UserError(f"feedback '{name}' is missing; found {', '.join(feedback) or 'none'}")
        columns = [np.asarray(feedback[name], dtype=np.float32)[:, None] for name in self._definition.feedback]
        item = self._items.find(np.asarray(item_ids))
        shown = np.zeros((len(item), self._definition.action_dim), dtype=np.float32)
        shown[item >= 0] = self._items.embeddings[item[item >= 0]]
        none = shown[:, :0]  # an operand for the join if a log has no feedback
        scaled = scaled_feedback(np.concatenate([none, *columns], axis=1), self._definition)

        past = self._past(rows, now)
        page = None if pages is None or "page" not in past else np.asarray(pages)
        same = np.zeros(len(now), bool) if page is None else (past["pages"] > 0) & (page == past["page"])
        now = np.where(same, past["last"], now)
        ids = None if session_ids is None else np.where(same, past["session_id"], session_ids)
        position, sessions, last_exit, session_sums = self._coming(past, now, ids)
        exits = np.where(same, past["exit"], now)
        if dwell_ms is not None:
            exits = exits + whole_dwell(np.asarray(dwell_ms))
        tastes = self._tastes_mean
        # float32 as in the state vectors of a data set, so that both implementations agree bit for bit.
        means = (past["sums"] / self._weights.after(past["requests"])).astype(np.float32)
        values = {"": np.concatenate([scaled, shown], axis=1), "taste_": tastes.answers(scaled, shown, means)}
        after = {
            "session_sums": session_sums,
            "first": np.where(past["requests"] == 0, now, past["first"]),
            "requests": past["requests"] + 1,
            "depth": position + ~same,
            "sessions": sessions,
            "last": now,
            "exit": exits,
            "last_exit": last_exit,
        }
        if ids is not None:
            after["session_id"] = ids
        if "pages" in past:
            after["pages"] = past["pages"] + ~same
        if page is not None:
            after["page"] = page
        if self._kinds:
            assert self._items.kind_codes is not None
            codes = np.where(item[:, None] >= 0, self._items.kind_codes[item], -1)
            column = (past["requests"] % MEMORY)[:, None] * self._kinds + np.arange(self._kinds)
            kinds = past["kinds"]
            np.put_along_axis(kinds, column, codes + 1, axis=1)
            self._users.write(rows, "kinds", kinds)
        for of, mean in (("", self._requests_mean), ("taste_", tastes)):
            sums = past[f"{of}sums"] * mean.decay + values[of].take(mean.source, axis=1)
            self._users.write(rows, f"{of}sums", sums)
        for name, value in after.items():
            self._users.write(rows, name, value)
        self.unknown_items += int((item < 0).sum())

    def save(self, uri: str) -> None:
        """Write all users to the new folder `uri`, all or nothing. Raises `UserError` if it exists."""
        frozen = self.freeze()
        try:
            frozen.save(uri, at_once)
        finally:
            frozen.rows.end()

    def freeze(self) -> FrozenTracker:
        """Return all users as they are now, to write them while later impressions are observed."""
        return FrozenTracker(self._users.freeze(), self._definition.model_dump(mode="json"), self.unknown_items)

    def load(self, uri: str) -> None:
        """Replace all users by the result of `save`; if it is damaged or of another definition, raise `UserError`."""
        self.unknown_items = self._users.load(uri, self._definition.model_dump(mode="json"))

    def _past(self, rows: Any, now: np.ndarray) -> dict[str, np.ndarray]:
        """Return the users at `rows`, with no impression after `now` [m]."""
        past = self._users.read(rows)
        if (early := now < past["last"]).any():
            for name in ("first", "last", "exit", "last_exit"):
                past[name] = np.where(early, np.minimum(past[name], now), past[name])
        return past

    def _coming(
        self, past: dict[str, np.ndarray], now: np.ndarray, session_ids: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Return the place of each user's next page, given its time. A new session closes the previous one.

        Its position in its session, the number of earlier sessions, the exit of the last of them, and the sums of the
        session means, [m, 2 * half-lives].
        """
        if session_ids is None:
            changes = now - past["last"] > self._definition.session_gap_ms
        else:
            changes = np.asarray(session_ids) != past["session_id"]
        closes = (past["requests"] > 0) & changes
        revisit = np.maximum(now - past["exit"], 1)
        value = session_values(past["depth"], revisit).take(self._sessions_mean.source, axis=1)
        sums, decay = past["session_sums"], self._sessions_mean.decay
        return (
            np.where(changes, 0, past["depth"]),
            past["sessions"] + closes,
            np.where(closes, past["exit"], past["last_exit"]),
            np.where(closes[:, None], sums * decay + value, sums),
        )


class MeanDivisors:
    """Divisors of the sums behind running means with `decay` [K], which depend only on the number of values.

    A table by this number replaces half of the memory per user. The results are equal bit for bit.
    """

    def __init__(self, decay: np.ndarray) -> None:
        self._decay, self._column = np.unique(decay, return_inverse=True)
        self._table = np.ones((1, len(self._decay)))  # sums without values are 0 with any divisor
        self._settled = False  # True if further rows would equal the last row

    def after(self, counts: np.ndarray) -> np.ndarray:
        """Return the divisors, float64 [m, K], after `counts` [m] values."""
        most = int(counts.max(initial=0))
        if most >= len(self._table) and not self._settled:
            rows = [self._table]
            last = rows[0][-1] if len(rows[0]) > 1 else np.zeros(len(self._decay))
            for _ in range(len(self._table), max(most + 1, 2 * len(self._table))):
                before, last = last, last * self._decay + 1.0
                rows.append(last[None])
                if np.array_equal(before, last):
                    self._settled = True
                    break
            self._table = np.concatenate(rows)
        return self._table[np.clip(counts, 0, len(self._table) - 1)].take(self._column, axis=1)
