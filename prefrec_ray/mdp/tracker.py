"""The states of live users, step by step: what `bulk.py` computes for a log, for roll-outs and serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from prefrec_ray.engagement.sessions import whole_dwell
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.columns import (
    RequestMeans,
    SessionMeans,
    TasteMeans,
    answers,
    count_columns,
    recency_columns,
    scaled_feedback,
    session_values,
    time_columns,
)
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition, UserFeatures


class _Coming(NamedTuple):
    """Where the coming request of each user stands, given its time: the session it opens closes the one before."""

    position: np.ndarray  # in its session, from 0
    sessions: np.ndarray  # number of sessions before its own
    last_exit: np.ndarray  # of the session before its own
    sums: np.ndarray  # of the session means, [n, 2 * half-lives]
    weights: np.ndarray


class StateTracker:
    """States of n users who start without history.

    `user_features`: a table or mapping with n strings a feature (None: unknown), or n where no feature is known.
    All times are in ms, UTC, and do not run backwards for a user. A request opens a session after a gap of more than
    the definition's, or, where session ids are given, when the id changes; give ids always or never.
    """

    def __init__(
        self, definition: StateDefinition, normaliser: Normaliser, items: ItemTable, user_features: UserFeatures
    ) -> None:
        self._definition, self._normaliser, self._items = definition, normaliser, items
        self._requests_mean, self._tastes_mean = RequestMeans(definition), TasteMeans(definition)
        self._sessions_mean = SessionMeans(definition)
        profile = definition.one_hot(user_features)
        n = len(profile)
        self._raw = np.zeros((n, definition.width), dtype=np.float32)
        self._raw[:, definition.groups["profile"]] = profile
        self._sums, self._weights = np.zeros((2, n, len(self._requests_mean.decay)))
        self._taste_sums, self._taste_weights = np.zeros((2, n, len(self._tastes_mean.decay)))
        self._session_sums, self._session_weights = np.zeros((2, n, len(self._sessions_mean.decay)))
        self._requests, self._depth, self._sessions = np.zeros((3, n), dtype=np.int64)  # _depth: of the open session
        self._first, self._last, self._exit, self._last_exit = np.zeros((4, n), dtype=np.int64)
        self._session_id: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._raw)

    def states(
        self, timestamps: np.ndarray, session_ids: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Scaled states float32 [n, width] just before requests at `timestamps` [n]; rows outside `mask` are zero."""
        now = np.asarray(timestamps, dtype=np.int64)
        coming = self._coming(slice(None), now, session_ids)
        raw, groups = self._raw, self._definition.groups
        raw[:, self._requests_mean.columns] = _means(self._sums, self._weights)
        raw[:, self._tastes_mean.columns] = _means(self._taste_sums, self._taste_weights)
        raw[:, self._sessions_mean.columns] = _means(coming.sums, coming.weights)
        started = self._requests > 0
        since_exit = np.where(coming.sessions > 0, now - coming.last_exit, 0)
        since_request = np.where(started, now - self._last, 0)
        since_first = np.where(started, now - self._first, 0)
        raw[:, groups["time"]] = time_columns(now)
        raw[:, groups["recency"]] = recency_columns(since_exit, since_request, coming.position)
        raw[:, groups["counts"]] = count_columns(self._requests, coming.sessions, since_first)
        scaled = self._normaliser(raw)
        if mask is not None:
            scaled[~np.asarray(mask, dtype=bool)] = 0.0
        return scaled

    def observe(
        self,
        timestamps: np.ndarray,
        item_ids: np.ndarray,
        feedback: Mapping[str, np.ndarray],
        session_ids: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        dwell_ms: np.ndarray | None = None,
    ) -> None:
        """Takes in one request a user, of those in `mask`; what stands outside it is not looked at.

        Raises `UserError` for a missing feedback column or an unknown item; nothing is taken in then.
        """
        users: Any = slice(None) if mask is None else np.flatnonzero(mask)
        now = np.asarray(timestamps, dtype=np.int64)[users]
        for name in self._definition.feedback:
            if name not in feedback:
                raise UserError(f"feedback '{name}' is missing; found {', '.join(feedback) or 'none'}")
        given = [np.asarray(feedback[name], dtype=np.float32)[users, None] for name in self._definition.feedback]
        embeddings = self._items.embeddings[self._items.rows(np.asarray(item_ids)[users])]
        none = embeddings[:, :0]  # so that there is something to join where a log has no feedback
        scaled = scaled_feedback(np.concatenate([none, *given], axis=1), self._definition)

        coming = self._coming(users, now, session_ids)
        tastes = self._tastes_mean
        rates = _means(self._sums[users, tastes.rates], self._weights[users, tastes.rates])
        _take_in(self._taste_sums, self._taste_weights, users, tastes, answers(scaled, rates, embeddings))
        values = np.concatenate([scaled, embeddings], axis=1)
        _take_in(self._sums, self._weights, users, self._requests_mean, values)
        self._session_sums[users], self._session_weights[users] = coming.sums, coming.weights
        self._sessions[users], self._last_exit[users] = coming.sessions, coming.last_exit
        self._depth[users] = coming.position + 1
        self._first[users] = np.where(self._requests[users] == 0, now, self._first[users])
        self._requests[users] += 1
        self._last[users] = now
        self._exit[users] = now if dwell_ms is None else now + whole_dwell(np.asarray(dwell_ms)[users])
        if session_ids is not None:
            if self._session_id is None:
                self._session_id = np.empty(len(self), dtype=object)
            self._session_id[users] = np.asarray(session_ids)[users]

    def _coming(self, users: Any, now: np.ndarray, session_ids: np.ndarray | None) -> _Coming:
        started = self._requests[users] > 0
        if session_ids is None:
            changes = now - self._last[users] > self._definition.session_gap_ms
        elif self._session_id is None:
            changes = np.ones(len(now), dtype=bool)
        else:
            changes = np.asarray(session_ids)[users] != self._session_id[users]
        closes = started & changes
        revisit = np.maximum(now - self._exit[users], 1)
        value = session_values(self._depth[users], revisit).take(self._sessions_mean.source, axis=1)
        sums, weights = self._session_sums[users], self._session_weights[users]
        decay = self._sessions_mean.decay
        return _Coming(
            position=np.where(changes, 0, self._depth[users]),
            sessions=self._sessions[users] + closes,
            last_exit=np.where(closes, self._exit[users], self._last_exit[users]),
            sums=np.where(closes[:, None], sums * decay + value, sums),
            weights=np.where(closes[:, None], weights * decay + 1.0, weights),
        )


def _take_in(
    sums: np.ndarray, weights: np.ndarray, users: Any, layout: RequestMeans | TasteMeans, values: np.ndarray
) -> None:
    """Adds one request's `values` [m, C] to the running means of the `users`."""
    sums[users] = sums[users] * layout.decay + values.take(layout.source, axis=1)
    weights[users] = weights[users] * layout.decay + 1.0


def _means(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Running means; 0 where nothing was taken in yet."""
    return sums / np.maximum(weights, 1.0)
