"""Questions and votes of a store, without HTTP."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrec_ray import storage
from prefrec_ray.annotation.page.board import Board
from prefrec_ray.annotation.page.choose import FEATURES, MEMBERS, WIDTH
from prefrec_ray.annotation.page.rank import ListBoard, Lists
from prefrec_ray.annotation.page.settings import DRAWN, LabelSettings
from prefrec_ray.annotation.page.store import Lease, Store, Vote
from prefrec_ray.annotation.page.vote_scores import Votes, VoteScorer, VoteScores
from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse

_MOST_SECONDS = 3600.0  # of a vote; longer times are breaks


class Stale(Exception):
    """The vote belongs to an earlier question of this annotator."""


@dataclass(frozen=True)
class Question:
    """A pair for an annotator: the segment on the left (A) first. answered: number of the annotator's votes."""

    lease: Lease
    segments: list[Any]
    answered: int


class Desk:
    """An opened store. Raises `UserError` if it was made with other settings, or is damaged.

    `clock`: seconds since 1970.
    """

    def __init__(self, folder: str, settings: LabelSettings, clock: Callable[[], float]) -> None:
        self.store, self.now = Store(folder), clock
        self.settings = settings = _as_made(self.store.about["settings"], settings, self.store.file)
        self.pairs = self.store.pairs()
        gold = [pair for pair, _, label in self.pairs if label is not None]
        self._rng = np.random.default_rng()
        self._labels: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.board = self._board(gold)
        self._since: set[int] = set()  # pairs with votes since they were scored
        self.votes = 0
        for vote in self.store.votes():
            self._count(vote)
        for lease in self.store.leases():
            self.board.leased(lease.annotator, lease.pair, lease.expires)
        forms: dict[str, Any] = {"pair": (np.int64, (None,)), "features": (np.float32, (None, MEMBERS, WIDTH))}
        arrays = storage.read_arrays(storage.join(folder, FEATURES), forms)
        known = [(pair, label) for pair, _, label in self.pairs]
        self.scorer = VoteScorer(known, arrays["pair"], arrays["features"], settings.seed)
        self.take(self.scorer.score(self.judged()))

    def question(self, annotator: str) -> Question | None:
        """Return this annotator's current question until it has a vote or expires; None if no question is left."""
        now = self.now()
        lease = self.store.lease_of(annotator)
        if lease is not None and lease.expires < now and not self._worth_it(lease, now):
            self.board.release(annotator, lease.pair)
            lease = None
        if lease is None:
            lease = self._next(annotator, now)
        if lease is None:
            return None
        segments, _ = self.store.shown(lease.pair)
        return Question(lease, segments[::-1] if lease.flipped else segments, self.board.count(annotator))

    def answer(self, annotator: str, token: str, label: str, seconds: float | None) -> None:
        """Store a vote (first: A, on the left; second, tie or skip) on the question with this token, at most once.

        The vote is on the disk on return. Raises `Stale` if the token belongs to another question.
        """
        lease = self.store.lease_of(annotator)
        if lease is None or lease.token != token:
            before = self.store.vote_of(token)
            if before is None or before.annotator != annotator:
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
        self._count(vote)
        if self.scores.decided(vote.pair, self._of(vote.pair), self.settings.posterior):
            self.board.decided.add(vote.pair)

    def undo(self, annotator: str) -> None:
        """Take back the last vote, and ask its question again; do nothing without a vote."""
        vote = self.store.last_vote(annotator)
        if vote is None:
            return
        now = self.now()
        current = self.store.lease_of(annotator)
        if current is not None:
            self.board.release(annotator, current.pair)
        lease = self._lease(annotator, vote.pair, vote.repeat, vote.flipped, vote.changed + 1, now)
        self.store.undo(vote, lease)
        self.board.undone(annotator, vote.pair, vote.repeat)
        self.board.leased(annotator, vote.pair, lease.expires)
        if not vote.repeat:
            self._labels[vote.pair].pop(annotator)
            self._since.add(vote.pair)
            self.votes -= 1

    def invite(self, annotator: str) -> float:
        """Invite an annotator, and return the end of the invitation. An earlier invitation ends."""
        now = self.now()
        expires = now + 86_400.0 * self.settings.invitation_days
        self.store.invite(annotator, expires, now)
        return expires

    def withdraw(self, annotator: str) -> None:
        """End an annotator's invitation at once; their votes stay."""
        lease = self.store.lease_of(annotator)
        self.store.withdraw(annotator, self.now())
        if lease is not None:
            self.board.release(annotator, lease.pair)

    def judged(self) -> Votes:
        """Return votes without skips and repeats, to be scored."""
        self._since = set()
        return [(pair, who, label) for pair, by in self._labels.items() for who, label in by.items() if label != "skip"]

    def take(self, scores: VoteScores) -> None:
        """Use the scores of the last `judged` votes from now on; decide pairs with later votes again."""
        self.scores = scores
        self.board.order = scores.order
        at = self.settings.posterior
        since = {pair for pair in self._since if scores.decided(pair, self._of(pair), at)}
        self.board.decided = (scores.all_decided(at) - self._since) | since

    @property
    def left(self) -> int:
        """Return the remaining votes of the budget, or the largest number of votes until every pair is decided."""
        most = self.board.left
        return most if self.settings.budget is None else max(0, min(most, self.settings.budget - self.votes))

    def _board(self, gold: list[int]) -> Board:
        if self.settings.mode == "rank":
            lists = Lists(self.store.about["lists"])
            return ListBoard(lists, self.settings.votes, self._labels_of)
        order = self._rng.permutation([pair for pair, _, _ in self.pairs]).tolist()
        return Board(order, gold, self.settings.votes, (self.settings.gold, self.settings.repeats))

    def _labels_of(self, annotator: str) -> dict[int, str]:
        return {pair: by[annotator] for pair, by in self._labels.items() if annotator in by}

    def _of(self, pair: int) -> list[tuple[str, str]]:
        return [(who, label) for who, label in self._labels[pair].items() if label != "skip"]

    def _worth_it(self, lease: Lease, now: float) -> bool:
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
            flipped = not next(v.flipped for v in self.store.votes_of(annotator) if v.pair == pair and not v.repeat)
        lease = self._lease(annotator, pair, repeat, flipped, 0, now)
        self.store.lease(lease)
        self.board.leased(annotator, pair, lease.expires)
        return lease

    def _lease(self, annotator: str, pair: int, repeat: bool, flipped: bool, changed: int, now: float) -> Lease:
        expires = now + 60 * self.settings.lease_minutes
        return Lease(annotator, secrets.token_urlsafe(12), pair, repeat, flipped, changed, now, expires)

    def _count(self, vote: Vote) -> None:
        self.board.answered(vote.annotator, vote.pair, vote.repeat)
        if not vote.repeat:
            self._labels[vote.pair][vote.annotator] = vote.label
            self._since.add(vote.pair)
            self.votes += 1


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
