"""Questions and votes of a store, without HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray.annotation.aggregate import Votes, VoteScores
from prefrec_ray.annotation.page.board import Board
from prefrec_ray.annotation.page.settings import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import Lease, Store, Vote
from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse

_MOST_SECONDS = 3600.0  # of a vote; longer times are breaks


class Stale(Exception):
    """The vote belongs to an earlier question of this annotator."""


@dataclass(frozen=True)
class Question:
    """A pair for an annotator: the segment on the left (A) first."""

    lease: Lease
    segments: list[Any]


class Desk:
    """An opened store. Raises `UserError` if it was made with other settings, or is damaged.

    `clock`: seconds since 1970.
    """

    def __init__(self, folder: str, settings: LabelSettings, clock: Callable[[], float]) -> None:
        self.store, self.now = Store(folder), clock
        self.settings = settings = _as_made(self.store.about["settings"], settings, self.store.file)
        pairs = self.store.pairs()
        self.gold = {pair: label for pair, label in pairs if label is not None}
        self._rng = np.random.default_rng()
        order = self._rng.permutation([pair for pair, _ in pairs]).tolist()
        self.board = Board(order, self.gold, settings.votes, (settings.gold, settings.repeats))
        for vote in self.store.votes():
            self.board.voted(vote.annotator, vote.pair, vote.label, vote.repeat)
        for lease in self.store.leases():
            self.board.leased(lease.annotator, lease.pair, lease.expires)
        self.take(VoteScores.fit(self.judged(), self.gold))

    @property
    def votes(self) -> int:
        """Return the number of votes, without repeats."""
        return sum(map(len, self.board.labels.values()))

    @property
    def left(self) -> int:
        """Return the remaining votes of the budget, or the largest number of votes until every pair is decided."""
        most = self.board.left
        return most if self.settings.budget is None else max(0, min(most, self.settings.budget - self.votes))

    def question(self, annotator: str) -> Question | None:
        """Return this annotator's current question until it has a vote or expires; None if no question is left."""
        now = self.now()
        lease = self._lease_of(annotator)
        if lease is not None and lease.expires < now and not self._is_useful(lease, now):
            self.board.release(annotator, lease.pair)
            lease = None
        if lease is None:
            lease = self._next(annotator, now)
        if lease is None:
            return None
        segments = self.store.segments(lease.pair)
        return Question(lease, segments[::-1] if lease.flipped else segments)

    def vote(self, annotator: str, token: str, label: str, seconds: float | None) -> None:
        """Store a vote (first: A, on the left; second, tie or skip) on the question with this token, at most once.

        The vote is on the disk on return. Raises `Stale` if the token belongs to another question.
        """
        lease = self._lease_of(annotator)
        if lease is None or lease.token != token:
            if not self.store.votes(token=token, annotator=annotator):
                raise Stale
            return
        now = self.now()
        taken = now - lease.since if seconds is None else seconds
        vote = Vote(
            pair=lease.pair,
            annotator=annotator,
            label=exchanged(label, lease.flipped),
            repeat=lease.repeat,
            flipped=lease.flipped,
            changed=lease.changed,
            seconds=round(min(max(taken, 0.0), _MOST_SECONDS), 2),
            time=now,
            token=token,
        )
        self.store.vote(vote)
        self.board.voted(annotator, vote.pair, vote.label, vote.repeat)
        self.board.decided |= self.scores.decided(self.judged([vote.pair]), self.settings.posterior)

    def undo(self, annotator: str) -> None:
        """Take back the last vote, and ask its question again; do nothing without a vote."""
        vote = self.last_vote(annotator)
        if vote is None:
            return
        current = self._lease_of(annotator)
        if current is not None:
            self.board.release(annotator, current.pair)
        lease = self._lease(annotator, vote.pair, vote.repeat, vote.flipped, vote.changed + 1, self.now())
        self.store.undo(vote, lease)
        self.board.undone(annotator, vote.pair, vote.repeat)
        self.board.leased(annotator, vote.pair, lease.expires)

    def last_vote(self, annotator: str) -> Vote | None:
        """Return the last vote of an annotator, or None."""
        return next(iter(self.store.votes(last=True, annotator=annotator)), None)

    def invite(self, annotator: str) -> None:
        """Invite an annotator. An earlier invitation ends."""
        now = self.now()
        self.store.invite(annotator, now + 86_400.0 * self.settings.invitation_days, now)

    def withdraw(self, annotator: str) -> None:
        """End an annotator's invitation at once; their votes stay."""
        lease = self._lease_of(annotator)
        self.store.withdraw(annotator, self.now())
        if lease is not None:
            self.board.release(annotator, lease.pair)

    def judged(self, pairs: Iterable[int] | None = None) -> Votes:
        """Return the votes on `pairs`, or on all, without skips and repeats."""
        labels = self.board.labels
        chosen = labels if pairs is None else pairs
        return [(pair, who, label) for pair in chosen for who, label in labels[pair].items() if label != "skip"]

    def take(self, scores: VoteScores) -> None:
        """Use these scores from now on, also for votes that came later."""
        self.scores = scores
        self.board.decided = scores.decided(self.judged(), self.settings.posterior)

    def _lease_of(self, annotator: str) -> Lease | None:
        return next(iter(self.store.leases(annotator=annotator)), None)

    def _is_useful(self, lease: Lease, now: float) -> bool:
        return lease.repeat or self.board.is_open(lease.pair, lease.annotator, now)

    def _next(self, annotator: str, now: float) -> Lease | None:
        if self.settings.budget is not None and self.votes >= self.settings.budget:
            return None
        following = self.board.next(annotator, now, self._rng)
        if following is None:
            return None
        pair, repeat = following
        flipped = bool(self._rng.integers(2))
        if repeat:  # with sides exchanged
            (first,) = self.store.votes(annotator=annotator, pair=pair, repeat=False)
            flipped = not first.flipped
        lease = self._lease(annotator, pair, repeat, flipped, 0, now)
        self.store.lease(lease)
        self.board.leased(annotator, pair, lease.expires)
        return lease

    def _lease(self, annotator: str, pair: int, repeat: bool, flipped: bool, changed: int, now: float) -> Lease:
        expires = now + 60 * self.settings.lease_minutes
        return Lease(annotator, secrets.token_urlsafe(12), pair, repeat, flipped, changed, now, expires)


def exchanged(label: str, flipped: bool) -> str:
    """Return the label, with its sides exchanged if they were exchanged on the page."""
    return {"first": "second", "second": "first"}.get(label, label) if flipped else label


def _as_made(stored: Any, settings: LabelSettings, file: str) -> LabelSettings:
    """Return the settings, completed by the store's. Raises `UserError` for a setting that differs from the store's."""
    made = parse(LabelSettings, stored, f"{file}: settings").model_dump(include=set(DRAWN))
    for key in settings.model_fields_set.intersection(DRAWN):
        if made[key] != getattr(settings, key):
            raise UserError(
                f"{file}: label: key '{key}': the store was made with {made[key]!r}, found {getattr(settings, key)!r}; "
                "expected the same, or another --store"
            )
    return settings.model_copy(update=made)
