"""Questions and votes of a store, without HTTP, and the section `label` of a YAML."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from prefrec_ray.annotation.aggregate import Votes, VoteScores
from prefrec_ray.annotation.page.store import Lease, Store, Vote
from prefrec_ray.errors import UserError
from prefrec_ray.preferences import PairCount
from prefrec_ray.settings import Count, Pairing, Seed, Settings, parse

#: Settings that are fixed when the store is made.
DRAWN = ("pairs", "held_out", "pairing", "length", "seed", "gold")
_MOST_SECONDS = 3600.0  # of a vote; longer times are breaks
#: Smallest number of votes between a question and its repeat.
_APART = 10

Share = Annotated[float, Field(ge=0, le=0.5)]


class LabelSettings(Settings):
    """The section `label`. `DRAWN` are fixed when the store is made; the others may change at every start."""

    pairs: PairCount = Field(default=1000, description="candidate pairs")
    held_out: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.1, description="share of pairs of validation users"
    )
    pairing: Pairing = Field(default="within_user", description="segments of one user, or of two")
    length: Count | None = Field(default=None, description="impressions in a segment; null: as in the data set")
    seed: Seed = Field(default=0, description="seed of pairs and sides")
    gold: Share = Field(default=0.1, description="share of questions with a clear label of the scripted teacher")
    repeats: Share = Field(default=0.05, description="share of questions asked again, with sides exchanged")
    votes: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="maximum number of votes on a pair")
    posterior: Annotated[float, Field(gt=0.5, le=1)] = Field(
        default=0.95, description="probability of the likeliest label at which a pair is decided"
    )
    budget: Count | None = Field(default=None, description="total number of votes; null: until all pairs are decided")
    rescore: Count = Field(default=20, description="votes between updates of reliabilities")
    lease_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = Field(
        default=15.0, description="minutes for which a pair on an annotator's screen is reserved"
    )
    invitation_days: Annotated[float, Field(gt=0, le=366)] = Field(
        default=14.0, description="lifetime of an invitation and its session"
    )
    guidelines: str | None = Field(default=None, description="Markdown file, shown next to the question")
    items: str | None = Field(default=None, description="CSV or Parquet file: item_id, title, picture")


class Stale(Exception):
    """The vote belongs to an earlier question of this annotator."""


@dataclass(frozen=True)
class Question:
    """A pair for an annotator: the segment on the left (A) first."""

    lease: Lease
    segments: list[Any]


class Desk:
    """An opened store. Raises `UserError` if it was made with other settings, or is damaged.

    `clock`: seconds since 1970. `decided`: pairs that need no more votes.
    """

    def __init__(self, folder: str, settings: LabelSettings, clock: Callable[[], float]) -> None:
        self.store, self.now = Store(folder), clock
        self.settings = _as_made(self.store.about["settings"], settings, self.store.file)
        labels = dict(self.store.pairs())
        self.pairs = list(labels)
        self.gold = {pair: label for pair, label in labels.items() if label is not None}
        self.take(VoteScores.fit(self.judged(), self.gold))

    @property
    def votes(self) -> int:
        """Return the number of votes, without repeats."""
        return len(self.store.labels())

    @property
    def left(self) -> int:
        """Return the remaining votes of the budget, or the largest number of votes until every pair is decided."""
        votes = Counter(pair for pair, _, _ in self.store.labels())
        most = sum(max(0, self.settings.votes - votes[pair]) for pair in self.pairs if pair not in self.decided)
        return most if self.settings.budget is None else max(0, min(most, self.settings.budget - self.votes))

    def question(self, annotator: str) -> Question | None:
        """Return this annotator's current question until it has a vote or expires; None if no question is left."""
        now = self.now()
        lease = self._lease_of(annotator)
        if lease is None or (lease.expires < now and not lease.repeat and lease.pair not in self._open(annotator, now)):
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
        self.decided |= self.scores.decided(self.judged(vote.pair), self.settings.posterior)

    def undo(self, annotator: str) -> None:
        """Take back the last vote, and ask its question again; do nothing without a vote."""
        vote = self.last_vote(annotator)
        if vote is None:
            return
        lease = self._lease(annotator, vote.pair, vote.repeat, vote.flipped, vote.changed + 1, self.now())
        self.store.undo(vote, lease)
        if not vote.repeat:
            self.decided.discard(vote.pair)

    def last_vote(self, annotator: str) -> Vote | None:
        """Return the last vote of an annotator, or None."""
        return next(iter(self.store.votes(last=True, annotator=annotator)), None)

    def invite(self, annotator: str) -> None:
        """Invite an annotator. An earlier invitation ends."""
        now = self.now()
        self.store.invite(annotator, now + 86_400.0 * self.settings.invitation_days, now)

    def withdraw(self, annotator: str) -> None:
        """End an annotator's invitation at once; their votes stay."""
        self.store.withdraw(annotator, self.now())

    def judged(self, pair: int | None = None) -> Votes:
        """Return the votes on a pair, or on all, without skips and repeats."""
        return [vote for vote in self.store.labels(pair) if vote[2] != "skip"]

    def take(self, scores: VoteScores) -> None:
        """Use these scores from now on, also for votes that came later."""
        self.scores = scores
        self.decided = scores.decided(self.judged(), self.settings.posterior)

    def _lease_of(self, annotator: str) -> Lease | None:
        return next(iter(self.store.leases(annotator=annotator)), None)

    def _open(self, annotator: str, now: float) -> list[int]:
        """Return the pairs on which a vote of this annotator is useful."""
        pairs = self.store.open_pairs(annotator, now, self.settings.votes)
        return [pair for pair in pairs if pair not in self.decided]

    def _next(self, annotator: str, now: float) -> Lease | None:
        if self.settings.budget is not None and self.votes >= self.settings.budget:
            return None
        following = self._choose(annotator, now)
        if following is None:
            return None
        pair, repeat = following
        flipped = random.random() < 0.5
        if repeat:  # with sides exchanged
            (first,) = self.store.votes(annotator=annotator, pair=pair, repeat=False)
            flipped = not first.flipped
        lease = self._lease(annotator, pair, repeat, flipped, 0, now)
        self.store.lease(lease)
        return lease

    def _choose(self, annotator: str, now: float) -> tuple[int, bool] | None:
        """Return the next pair, and a flag for repeats; None if no question is left for this annotator."""
        votes = self.store.votes(annotator=annotator)
        seen, repeated = {vote.pair for vote in votes}, {vote.pair for vote in votes if vote.repeat}
        unseen = [pair for pair in self.gold if pair not in seen]
        if unseen and random.random() < self.settings.gold:
            return random.choice(unseen), False
        old = [vote.pair for vote in votes[:-_APART] if vote.pair not in repeated]
        if old and random.random() < self.settings.repeats:
            return random.choice(old), True
        return next(((pair, False) for pair in self._open(annotator, now)), None)

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
